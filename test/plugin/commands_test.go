package plugin

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestCheck(t *testing.T) {
	s := requireStore(t)
	s.says(t, []string{"check"},
		"schema revision 1", "it looks after every ServiceGroup", "node1        agent ", "node2        agent ", "mode groups, Linux ",
		"connections  all 4 from 2 nodes to 2 ports were answered", "0 failures, 0 warnings")
}

func TestAnAgentThatDoesNotAnswer(t *testing.T) {
	s := requireStore(t)
	watched := watching(t, kubectlCommand(t, s.Lab, "servicegroup", "check", "--watch", "--interval", "100ms"))
	watched.until(t, func(text string) error { return wants(text, "0 failures, 0 warnings") })
	for _, process := range s.ControlPlane.Processes() {
		if process.Name == "agent-node2" {
			_ = process.Signal(syscall.SIGKILL) // ended already, if this is not the last one
			<-process.Ended()
		}
	}
	t.Cleanup(func() {
		if _, err := s.StartAgent(context.Background(), s.Nodes()[1]); err != nil { // the test's own context has ended
			t.Error(err)
		}
	})
	watched.until(t, func(text string) error { return wants(text, "1 failure, 0 warnings") })
	watched.interrupt(t)
	a := s.plugin(t, "check")
	if err := wants(a.out, "FAIL  node2        the agent of node node2 (pod servicegroup-system/servicegroup-agent-node2) does not answer: ",
		"see kubectl logs -n servicegroup-system servicegroup-agent-node2", "1 failure, 0 warnings"); err != nil || a.status != 1 {
		t.Errorf("status %d: %v", a.status, err)
	}
	a = s.plugin(t, "trace", "shop:80", "--from", "node/node2")
	if err := wants(a.out, "Sent to one of 2 endpoints", "Kernel of node2: not known: the agent of node node2"); err != nil || a.status != 1 {
		t.Errorf("status %d: %v", a.status, err)
	}
	s.says(t, []string{"top", "--interval", "50ms"}, "store      shop", "! the agent of node node2 (pod servicegroup-system/servicegroup-agent-node2) does not answer: ")
	a = s.says(t, []string{"sysdump", "-f", filepath.Join(t.TempDir(), "dump")}, "wrote ")
	if err := wants(a.err, "left out: agents/node2/dump.json: "); err != nil {
		t.Error(err)
	}
}

func TestTop(t *testing.T) {
	s := requireStore(t)
	top := watching(t, kubectlCommand(t, s.Lab, "servicegroup", "-n", "store", "top", "--by", "endpoint", "--interval", "300ms", "--watch"))
	load := make(chan struct{})
	go func() {
		for {
			select {
			case <-load:
				return
			default:
				_, _ = s.visitor.Ask(t.Context(), "tcp", lab.HostPort(mustAddr(s.vip), 80))
			}
		}
	}()
	seen := top.until(t, func(text string) error {
		return wants(strings.Join(strings.Fields(lastScreen(text)), " "), "store shop http 80/TCP web "+s.web[0].IPv4.String()+":8080 ", "! node node2: the agent on this node does not count connections: start it with --connection-counters")
	})
	close(load)
	t.Log(lastScreen(seen))
	top.interrupt(t)
	for _, line := range strings.Split(lastScreen(seen), "\n") {
		if fields := strings.Fields(line); len(fields) == 8 && fields[4] == "web" && fields[6] == "0.0" {
			t.Errorf("no new connections: %s", line)
		}
	}
}

func TestItIsPrintedAgainWhenItChanges(t *testing.T) {
	s := requireStore(t)
	for command, says := range map[string]struct{ unready, ready string }{
		"status shop":              {"2 of 3 pods ready", "3 of 3 pods ready"},
		"explain shop":             {"2 ready, 1 not ready", "3 ready"},
		"explain shop --pod web-3": {"out  web-3", "in  web-3"},
	} {
		shown := watching(t, kubectlCommand(t, s.Lab, strings.Fields("servicegroup -n store "+command+" --watch")...))
		shown.until(t, func(text string) error { return wants(text, says.unready) })
		if err := s.web[2].SetReady(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		shown.until(t, func(text string) error { return wants(text, says.ready) })
		if err := s.web[2].SetReady(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		shown.until(t, func(text string) error { return wants(text, says.unready) })
		shown.interrupt(t)
	}
}

// TestTopOfSome: what there is to choose and to add.
func TestTopOfSome(t *testing.T) {
	s := requireStore(t)
	if _, err := s.visitor.Ask(t.Context(), "tcp", lab.HostPort(mustAddr(s.vip), 80)); err != nil {
		t.Fatal(err)
	}
	top := func(more ...string) []string { return append([]string{"top", "--interval", "50ms"}, more...) }
	s.says(t, top("-o", "wide", "--by", "endpoint"), "TOTAL  POD", "NODES", "web-1")
	s.says(t, top("-o", "json", "--by", "endpoint"), `"pod": "web-2"`)
	s.says(t, top("-l", "team=shop"), "store      shop")
	s.says(t, top("-l", "team!=shop"), "no ServiceGroup has had a connection")
	s.says(t, top("-A", "-n", "default"), "store      shop")
	s.complains(t, 2, top("-l", "team in shop"), "-l team in shop: ")
	s.complains(t, 2, top("shop", "-A"), "give either the name shop or -A and -l, not both")
	s.complains(t, 2, top("shop", "-l", "team=shop"), "give either the name shop or -A and -l, not both")
}

func TestGraph(t *testing.T) {
	s := requireStore(t)
	s.says(t, []string{"graph", "shop"}, "flowchart LR", "store/shop<br/>"+s.vip, "web-1<br/>10.244.")
	s.says(t, []string{"graph", "shop", "-o", "dot"}, "digraph \"store/shop\" {", "port0 -> ep0_0 [label=\"8080\", lhead=cluster0];")
	decoder := xml.NewDecoder(strings.NewReader(s.says(t, []string{"graph", "shop", "-o", "svg"}, "<svg ", "web-1").out))
	for {
		if _, err := decoder.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the SVG is no XML: %v", err)
		}
	}
}

func TestSysdump(t *testing.T) {
	s := requireStore(t)
	secret := `{"metadata":{"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"hunter2","vault.example/token":"hunter2"}}}`
	if _, err := s.Kubernetes.CoreV1().Pods("store").Patch(t.Context(), "web-1", types.MergePatchType, []byte(secret), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "dump.tar.gz")
	s.says(t, []string{"sysdump", "-f", file}, "wrote "+file)
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	files := untar(t, content)
	for name, part := range map[string]string{
		"servicegroups.yaml": "name: shop", "services.yaml": "name: shop", "endpointslices.yaml": "10.244.1.2", "leases.yaml": "servicegroup-agent-node1",
		"controllerrevisions.yaml": "name: shop-1",
		"crd.yaml":                 "schema-revision", "events.yaml": "kind: EventList", "nodes.yaml": "name: node2", "versions.txt": "kube-apiserver v1.",
		"agents/node1/dump.json": `"layoutFound":true`, "agents/node2/check.json": `"kernel":`, "agents/node1/log.txt": "Programmed",
		"pods/store.yaml": "app: web", "installation/pods.yaml": "servicegroup-agent-node1", "problems.txt": "",
	} {
		if text, found := files["servicegroup-sysdump/"+name]; !found || !strings.Contains(text, part) {
			t.Errorf("%s (there: %t) lacks %q", name, found, part)
		}
	}
	for name, text := range files {
		if strings.Contains(text, "hunter2") || strings.Contains(text, "kind: Secret") {
			t.Errorf("%s tells a secret", name)
		}
	}
	s.complains(t, 1, []string{"sysdump", "-f", file}, "name another file with -f")
}

func untar(t *testing.T, content []byte) map[string]string {
	t.Helper()
	uncompressed, err := gzip.NewReader(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	files, archive := map[string]string{}, tar.NewReader(uncompressed)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(archive)
		if err != nil {
			t.Fatal(err)
		}
		files[header.Name] = string(text)
	}
}

func TestAliasAndCompletion(t *testing.T) {
	s := requireStore(t)
	if out := must(t, s.Lab, "", "svcg", "status", "shop", "-n", "store"); !strings.Contains(out, "store/shop") {
		t.Errorf("kubectl svcg says\n%s", out)
	}
	for line, want := range map[string]string{
		"servicegroup sta": "status\t", "servicegroup -n store status ": "shop\n", "svcg -n store explain shop --pod web": "web-1\n",
		"servicegroup -n store trace shop:80 --node ":        "node1\n",
		"servicegroup -n store trace sho":                    "shop:\n",
		"servicegroup -n store trace shop:":                  "shop:9000\nshop:rpc\n",
		"servicegroup trace shop:80 --protocol ":             "tcp\nudp\nsctp\n",
		"servicegroup status -n ":                            "servicegroup-system\nstore\n",
		"servicegroup check --agent-namespace ":              "servicegroup-system\nstore\n",
		"servicegroup status --context ":                     "lab\n",
		"servicegroup status --cluster ":                     "lab\n",
		"servicegroup status --user ":                        "lab\n",
		"servicegroup -n store trace shop:80 --from ":        "visitor\n",
		"servicegroup trace shop:80 --from node/":            "node/node1\n",
		"servicegroup -n store top ":                         "shop\n",
		"servicegroup -n store graph shop -o ":               "mermaid\ndot\nsvg\n",
		"servicegroup -n store history sho":                  "shop\n",
		"servicegroup -n store history shop --revision ":     "1\n",
		"servicegroup -n store rollback shop --to-revision ": "1\n",
		"servicegroup rollback shop --dry-run=":              "client\n",
		"servicegroup top --by ":                             "port\ngroup\nendpoint\n",
		"servicegroup check -o ":                             "wide\n",
		"servicegroup status -o ":                            "json\nyaml\njsonpath=\ngo-template=\nwide\n",
		"servicegroup -n default convert ":                   "svc/kubernetes\n",
		"servicegroup convert svc/kubernetes --dataplane ":   "Agent\nCluster\n",
	} {
		if out := must(t, s.Lab, "", append([]string{"__complete"}, strings.Split(line, " ")...)...); !strings.Contains(out, want) {
			t.Errorf("after %q comes\n%s", line, out)
		}
	}
}
