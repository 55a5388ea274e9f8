package plugin

import (
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// kubectlFlags are the flags that a user of kubectl would try, with what tells that they do what they say.
var kubectlFlags = []struct {
	name, flag string
	check      func(t *testing.T, out string)
}{
	{"json", "-o=json", isObject(json.Unmarshal)},
	{"yaml", "-o=yaml", isObject(func(text []byte, into any) error { return yaml.Unmarshal(text, into) })},
	{"wide", "-o=wide", func(*testing.T, string) {}},
	{"watch", "--watch", nil}, // does not end
	{"no-headers", "--no-headers", func(t *testing.T, out string) {
		if strings.Contains(out, "NAMESPACE") {
			t.Errorf("there is a header:\n%s", out)
		}
	}},
	{"all", "-A", func(*testing.T, string) {}},
	{"selector", "-l=team=shop", func(*testing.T, string) {}},
}

func isObject(decode func([]byte, any) error) func(*testing.T, string) {
	return func(t *testing.T, out string) {
		var object struct{ APIVersion, Kind string }
		if err := decode([]byte(out), &object); err != nil || object.Kind == "" || object.APIVersion == "" {
			t.Errorf("%v: %+v in\n%s", err, object, out)
		}
	}
}

// TestKubectlsFlags: every command takes the flags that make sense for it, and refuses the others as misuse,
// in one sentence.
func TestKubectlsFlags(t *testing.T) {
	s := requireStore(t)
	s.plain(t)
	for command, takes := range map[string]string{
		"status shop":                  "json yaml wide watch",
		"explain shop":                 "json yaml wide watch",
		"trace shop:80 --from visitor": "json yaml wide",
		"top --interval 50ms":          "json yaml wide watch no-headers all selector",
		"check":                        "json yaml wide watch",
		"graph shop":                   "",
		"history shop":                 "json yaml",
		"history shop --revision 1":    "json yaml",
		"rollback shop":                "",
		"convert svc/plain":            "json yaml",
		"sysdump -f -":                 "",
	} {
		for _, flag := range kubectlFlags {
			args := append(strings.Fields(command), flag.flag)
			switch {
			case !strings.Contains(" "+takes+" ", " "+flag.name+" "):
				s.complains(t, 2, args, "")
			case flag.check == nil:
				watched := watching(t, kubectlCommand(t, s.Lab, append([]string{"servicegroup", "-n", "store"}, args...)...))
				watched.until(t, func(text string) error { return wants(text, "\n") })
				watched.interrupt(t)
			default:
				flag.check(t, s.says(t, args).out)
			}
		}
	}
}

// TestWatchingObjects: with -o yaml and -o json each object that is printed can be told from the last.
func TestWatchingObjects(t *testing.T) {
	s := requireStore(t)
	for format, between := range map[string]string{"yaml": "\n---\n", "json": "\n}\n\n{\n"} {
		status := watching(t, kubectlCommand(t, s.Lab, "servicegroup", "-n", "store", "status", "shop", "--watch", "-o", format))
		status.until(t, func(text string) error { return wants(text, "Status") })
		if err := s.web[2].SetReady(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		status.until(t, func(string) error { return wants(status.all(), between) })
		status.interrupt(t)
		if err := s.web[2].SetReady(t.Context(), false); err != nil {
			t.Fatal(err)
		}
	}
}

// TestColoursAreForTerminals: and not for those who have something against them.
func TestColoursAreForTerminals(t *testing.T) {
	s := requireStore(t)
	const red = "\x1b[31m"
	on := func(environment string) string {
		terminal := s.onTerminal(t, environment, "status", "shop")
		if err := wants(terminal, "store/shop", "not ready"); err != nil {
			t.Error(err)
		}
		return terminal
	}
	if out := on("TERM=xterm"); !strings.Contains(out, red) {
		t.Errorf("no colours on a terminal:\n%q", out)
	}
	for _, plain := range []string{on("TERM=xterm NO_COLOR=1"), on("TERM=dumb"), s.says(t, []string{"status", "shop"}).out} {
		if strings.Contains(plain, "\x1b[") {
			t.Errorf("colours all the same:\n%q", plain)
		}
	}
}
