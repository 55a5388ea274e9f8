package plugin

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// everyCommand is each command as one would call it, with the role that it takes.
var everyCommand = []struct{ command, role string }{
	{"status shop", "servicegroup-viewer"},
	{"explain shop", "servicegroup-viewer"},
	{"graph shop", "servicegroup-viewer"},
	{"history shop", "servicegroup-viewer"},
	{"rollback shop --to-revision 1", "servicegroup-editor"},
	{"convert svc/plain", "servicegroup-viewer"},
	{"trace shop:80 --from 192.0.2.1", "servicegroup-debugger"},
	{"top", "servicegroup-debugger"},
	{"check", "servicegroup-debugger"},
	{"sysdump -f -", "servicegroup-debugger"},
}

// TestNoWayToTheCluster: every command says in one sentence why it does not get there, and what to do.
func TestNoWayToTheCluster(t *testing.T) {
	s := requireStore(t)
	nobody, err := s.ControlPlane.KubeconfigAs("nobody", "nobody")
	if err != nil {
		t.Fatal(err)
	}
	another := httptest.NewServer(http.NotFoundHandler())
	defer another.Close()
	hangs := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer hangs.Close()
	for _, c := range everyCommand {
		for _, test := range []struct {
			flags string
			says  []string
		}{
			{"--server https://127.0.0.1:1", []string{"the API server https://127.0.0.1:1 cannot be reached", "check the network, --kubeconfig and --context"}},
			{"--request-timeout 200ms --server " + hangs.URL, []string{"the API server " + hangs.URL + " cannot be reached", "check the network"}},
			{"--server " + another.URL, []string{"not installed in this cluster", "name another cluster with --context"}},
			{"--context nowhere", []string{`context "nowhere" does not exist`, "name one with --kubeconfig"}},
			{"--kubeconfig " + filepath.Join(t.TempDir(), "none"), []string{"no such file", "name one with --kubeconfig"}},
			{"--token wrong --kubeconfig " + nobody, []string{"does not know you", "log in again"}},
			{"--kubeconfig " + nobody, []string{`you may not: `, `User "nobody" cannot `, "ask who runs the cluster for the role " + c.role}},
		} {
			if strings.HasPrefix(c.command, "convert") && strings.Contains(test.flags, another.URL) {
				continue // a cluster without ServiceGroups has Services
			}
			s.complains(t, 1, strings.Fields(c.command+" "+test.flags), test.says...)
		}
	}
}

// TestBadInput: mistakes, each told in one sentence with what to do. 1 is a question that has no answer, 2 one
// that is not understood.
func TestBadInput(t *testing.T) {
	s := requireStore(t)
	for command, wants := range map[string]struct {
		status int
		says   string
	}{
		"status shopp":                                     {1, "there is no ServiceGroup shopp in namespace store; did you mean shop?"},
		"explain shopp":                                    {1, "there is no ServiceGroup shopp in namespace store; did you mean shop?"},
		"graph shopp":                                      {1, "there is no ServiceGroup shopp in namespace store; did you mean shop?"},
		"history shopp":                                    {1, "there is no ServiceGroup shopp in namespace store; did you mean shop?"},
		"rollback shopp":                                   {1, "there is no ServiceGroup shopp in namespace store; did you mean shop?"},
		"history shop --revision 99":                       {1, "ServiceGroup shop has no revision 99; there is "},
		"rollback shop --to-revision 99":                   {1, "ServiceGroup shop has no revision 99; there is "},
		"trace shopp:80 --from visitor":                    {1, "there is no ServiceGroup shopp in namespace store; did you mean shop?"},
		"top shopp":                                        {1, "there is no ServiceGroup shopp in namespace store; did you mean shop?"},
		"status shop -n default":                           {1, "there is no ServiceGroup shop in namespace default, nor any other; name another namespace with -n"},
		"convert svc/none":                                 {1, "there is no Service none in namespace store; kubectl get services -n store lists those there are"},
		"convert -f none.yaml":                             {1, "name another file with -f"},
		"trace shop:80 --from visitors":                    {1, "there is no pod visitors in namespace store; did you mean visitor?"},
		"trace shop:80 --from node/node9":                  {1, "there is no node node9; did you mean node1 or node2?"},
		"trace shop:80 --from visitor --node node9":        {1, "there is no node node9; did you mean node1 or node2?"},
		"trace shop:81 --from visitor":                     {1, "ServiceGroup shop has no port 81; it has http 80/TCP, rpc 9000/TCP"},
		"trace shop:0 --from visitor":                      {1, "ServiceGroup shop has no port 0; it has http 80/TCP, rpc 9000/TCP"},
		"trace shop:80 --from visitor --address 192.0.2.1": {1, "--address 192.0.2.1: the addresses of port http 80/TCP are "},
		"top --agent-namespace default":                    {1, "there is no agent; kubectl servicegroup check looks at the installation"},
		"sysdump -f /none/dump.tar.gz":                     {1, "name another file with -f"},

		"":                              {0, ""},
		"stats shop":                    {2, `there is no command "stats"; kubectl servicegroup --help lists them`},
		"status":                        {2, "name one ServiceGroup, such as web"},
		"status shop web":               {2, "name one ServiceGroup, such as web"},
		"status svc/shop":               {2, "svc/shop: name a ServiceGroup, such as web"},
		"status svcg/":                  {2, `"svcg/" is not the name of a ServiceGroup; name one, such as web`},
		"status shop -o xml":            {2, "-o xml: "},
		"status shop --loud":            {2, "unknown flag: --loud; kubectl servicegroup status --help lists what there is"},
		"explain pod/web-1":             {2, "pod/web-1: name a ServiceGroup, such as web"},
		"explain shop --pod":            {2, "flag needs an argument: --pod; kubectl servicegroup explain --help lists what there is"},
		"trace shop --from visitor":     {2, "shop: name a ServiceGroup and a port, such as web:80"},
		"trace shop: --from visitor":    {2, "shop:: name a ServiceGroup and a port, such as web:80"},
		"trace shop:80":                 {2, "say who connects with --from"},
		"trace shop:80 --from svc/shop": {2, "--from svc/shop: give an address, the name of a pod, or node/NAME"},
		"trace shop:80 --from visitor --protocol icmp": {2, "--protocol icmp: give tcp, udp or sctp"},
		"trace shop:80 --from visitor --address here":  {2, "--address here: give an IP address"},
		"top shop web":                       {2, "name one ServiceGroup, or none for all"},
		"top --by pod":                       {2, "--by pod: give port, group or endpoint"},
		"top --interval 0s":                  {2, "--interval 0s: give a time such as 2s"},
		"top --interval soon":                {2, `invalid argument "soon" for "--interval" flag`},
		"check shop":                         {2, "check takes no name"},
		"check --interval -1s":               {2, "--interval -1s: give a time such as 2s"},
		"graph shop -o png":                  {2, "-o png: give mermaid, dot or svg"},
		"history":                            {2, "name one ServiceGroup, such as web"},
		"history shop --revision last":       {2, `invalid argument "last" for "--revision" flag: give the number of a revision, such as 3`},
		"rollback shop --to-revision 0":      {2, `invalid argument "0" for "--to-revision" flag: give the number of a revision, such as 3`},
		"rollback shop --dry-run=maybe":      {2, "--dry-run=maybe: give none, client or server"},
		"convert":                            {2, "name one Service, such as svc/web, or a file with -f"},
		"convert svc/plain -f -":             {2, "give either svc/plain or -f -, not both"},
		"convert deployment/web":             {2, "deployment/web: only Services can be converted; name one, such as svc/web"},
		"convert svc/plain -o wide":          {2, "-o wide: give yaml or json"},
		"convert svc/plain --dataplane ebpf": {2, "--dataplane ebpf: give Agent or Cluster"},
		"sysdump shop":                       {2, "sysdump takes no name; choose a namespace with -n"},
	} {
		if wants.status == 0 {
			s.says(t, strings.Fields(command), "Available Commands:")
			continue
		}
		s.complains(t, wants.status, strings.Fields(command), wants.says)
	}
}
