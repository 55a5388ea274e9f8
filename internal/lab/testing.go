package lab

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// TestingM is the part of *testing.M that [Main] needs; it keeps package testing out of the demo.
type TestingM interface{ Run() int }

// TestingT is the part of *testing.T that [Require] needs.
type TestingT interface {
	Helper()
	Skipf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// fuzzing says whether the process is go test -fuzz or one of its workers, which talk over files that
// do not follow into the lab.
func fuzzing() bool {
	return slices.ContainsFunc(os.Args[1:], func(arg string) bool {
		return strings.HasPrefix(arg, "-test.fuzz=") || arg == "-test.fuzzworker"
	})
}

// Main is the body of a TestMain whose tests need the lab: it enters the lab, runs the tests and
// exits. Where the kernel refuses it says so and runs the tests outside; those that call [Require]
// are then skipped, or fail when CI=true.
func Main(m TestingM) {
	if fuzzing() {
		os.Exit(m.Run())
	}
	if err := Enter(); err != nil {
		fmt.Fprintf(os.Stderr, "TESTS THAT NEED THE LAB CANNOT RUN: %v\n", err)
	}
	os.Exit(m.Run())
}

// Require skips the test, saying why, when the process is not in a lab; when CI=true it fails it.
func Require(t TestingT) {
	t.Helper()
	_, err := rootNamespace()
	if enterErr != nil {
		err = enterErr
	}
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatalf("this test needs the lab, and in CI it must run: %v", err)
	default:
		t.Skipf("SKIPPED, needs the lab: %v", err)
	}
}
