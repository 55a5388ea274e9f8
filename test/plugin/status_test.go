package plugin

import (
	"encoding/json"
	"testing"

	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

func TestStatus(t *testing.T) {
	s := requireStore(t)
	s.says(t, []string{"status", "shop"},
		"store/shop  NodePort", s.vip, "2 of 2 nodes programmed", "http 80/TCP", "web:8080", "2 of 3 pods ready", "web-3", "not ready")
	s.says(t, []string{"status", "svcg/shop", "-o", "wide"}, "node1  zone-a", "node2  zone-b")
	var status describe.Status
	if err := json.Unmarshal([]byte(s.says(t, []string{"status", "shop", "-o", "json"}).out), &status); err != nil {
		t.Fatal(err)
	}
	if len(status.Groups) != 2 || len(status.Groups[0].Endpoints) != 3 || len(status.Agents.Programmed) != 2 {
		t.Errorf("%+v", status)
	}
	s.says(t, []string{"status", "shop", "-o", "jsonpath={.groups[*].name}"}, "web api")
	s.says(t, []string{"status", "shop", "-o", "yaml"}, "kind: Status\n")
}

func TestExplain(t *testing.T) {
	s := requireStore(t)
	s.says(t, []string{"explain", "shop"},
		"Group web  app=web  2 ready, 1 not ready", "in   web-1", "out  web-3", "it is not ready: condition Ready is False",
		"not on port rpc 9000/TCP: no container port is named rpc with that protocol", "1 of the namespace's 6 pods is in no group")
	s.says(t, []string{"explain", "shop", "--pod", "visitor"},
		"not selected: the group wants app=web, and it has no label app", "the group wants app in (api,api-next)")
	s.says(t, []string{"explain", "shop", "-o", "wide"}, "it is ready", "app=web")
	s.complains(t, 1, []string{"explain", "shop", "--pod", "web-7"}, "there is no pod web-7 in namespace store; did you mean web-1 or web-2 or web-3?")
}
