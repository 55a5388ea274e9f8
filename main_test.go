package main

import (
	"io"
	"strings"
	"testing"
)

// TestBadFlags: a wrong flag is refused with its name, the value and what it could be.
func TestBadFlags(t *testing.T) {
	for _, test := range []struct {
		args string
		want string
	}{
		{"manager --log-format=xml", `--log-format "xml" is not known: it is text or json`},
		{"agent --log-format=xml", `--log-format "xml" is not known: it is text or json`},
		{"manager --kubeconfig=/nowhere", "give --kubeconfig"},
		{"agent --metrics-secure=perhaps", "--metrics-secure"},
		{"manager --external-ranges=192.0.2.0", `--external-ranges "192.0.2.0" is not a range`},
		{"manager extra", `unknown command "extra"`},
	} {
		cmd := newCommand()
		cmd.SetArgs(strings.Fields(test.args))
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		if err := cmd.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("servicegroup %s: %v, want an error with %q", test.args, err, test.want)
		}
	}
}
