package describe

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
)

// Sample is what the agents have counted, by node.
type Sample map[string][]agentapi.Connection

// Top is the traffic of ServiceGroups: new connections a second, busiest first.
type Top struct {
	Seconds float64   `json:"seconds"`
	Rows    []Traffic `json:"rows"`
	// Silent says which nodes tell nothing, and why.
	Silent []string `json:"silent,omitempty"`
}

// Traffic is a row of Top.
type Traffic struct {
	Namespace    string `json:"namespace"`
	ServiceGroup string `json:"serviceGroup"`
	Port         string `json:"port"`
	Group        string `json:"group,omitempty"`
	Endpoint     string `json:"endpoint,omitempty"`
	// Pod is the endpoint's, where it is known.
	Pod string `json:"pod,omitempty"`
	// Rate is new connections a second, and Total all since the agents started.
	Rate  float64 `json:"rate"`
	Total uint64  `json:"total"`
	// Nodes are those where connections came in, with the part of Rate that each has.
	Nodes map[string]float64 `json:"nodes,omitempty"`
}

// trafficKey is what traffic is added up by.
type trafficKey struct{ namespace, serviceGroup, port, group, endpoint string }

// By is what to add up.
type By string

// What traffic may be added up by.
const (
	ByGroup    By = "group"
	ByEndpoint By = "endpoint"
	ByPort     By = "port"
)

// Rates computes the traffic between two samples that are so many seconds apart. A counter that fell was started anew in between: what
// it has is new.
func Rates(before, after Sample, seconds float64, by By, wanted func(namespace, service string) bool) Top {
	t := Top{Seconds: seconds}
	rows := map[trafficKey]*Traffic{}
	for node, list := range after {
		had := map[agentapi.Connection]uint64{}
		for _, c := range before[node] {
			n := c.Connections
			c.Connections = 0
			had[c] = n
		}
		_, sampled := before[node]
		for _, c := range list {
			if wanted != nil && !wanted(c.Namespace, c.Service) {
				continue
			}
			row := rowOf(rows, keyOf(c, by))
			n := c.Connections
			row.Total += n
			c.Connections = 0
			if last := had[c]; last <= n {
				n -= last
			}
			if sampled && t.Seconds > 0 && n > 0 {
				row.add(node, float64(n)/t.Seconds)
			}
		}
	}
	for _, row := range rows {
		t.Rows = append(t.Rows, *row)
	}
	slices.SortFunc(t.Rows, func(a, b Traffic) int {
		return cmp.Or(cmp.Compare(b.Rate, a.Rate), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.ServiceGroup, b.ServiceGroup),
			cmp.Compare(a.Port, b.Port), cmp.Compare(a.Group, b.Group), cmp.Compare(a.Endpoint, b.Endpoint))
	})
	return t
}

// rowOf is the row of a key, which is made where it is not there.
func rowOf(rows map[trafficKey]*Traffic, key trafficKey) *Traffic {
	if rows[key] == nil {
		rows[key] = &Traffic{Namespace: key.namespace, ServiceGroup: key.serviceGroup, Port: key.port, Group: key.group, Endpoint: key.endpoint}
	}
	return rows[key]
}

func (t *Traffic) add(node string, rate float64) {
	if t.Nodes == nil {
		t.Nodes = map[string]float64{}
	}
	t.Nodes[node] += rate
	t.Rate += rate
}

func keyOf(c agentapi.Connection, by By) trafficKey {
	key := trafficKey{namespace: c.Namespace, serviceGroup: c.Service}
	key.port = fmt.Sprintf("%d/%s", c.PortNumber, c.Protocol)
	if c.Port != "" {
		key.port = c.Port + " " + key.port
	}
	switch by {
	case ByEndpoint:
		key.group, key.endpoint = c.Group, cmp.Or(c.Endpoint, "(left)")
	case ByGroup:
		key.group = c.Group
	case ByPort:
	}
	return key
}

// NamePods puts the names of pods to endpoints, as EndpointSlices have them.
func (t *Top) NamePods(written []discoveryv1.EndpointSlice) {
	names := map[string]string{}
	for i := range written {
		for _, ep := range written[i].Endpoints {
			for _, addr := range ep.Addresses {
				if ep.TargetRef != nil && ep.TargetRef.Kind == "Pod" {
					names[written[i].Namespace+"/"+addr] = ep.TargetRef.Name
				}
			}
		}
	}
	for i := range t.Rows {
		if at, err := netip.ParseAddrPort(t.Rows[i].Endpoint); err == nil {
			t.Rows[i].Pod = names[t.Rows[i].Namespace+"/"+at.Addr().String()]
		}
	}
}

// Text is the traffic for a terminal.
func (t Top) Text(p Paint, width Width, headers bool) string {
	l := &lines{}
	rows := table{}
	if headers {
		rows.row(wider(width, []string{"NAMESPACE", "SERVICEGROUP", "PORT", "GROUP", "ENDPOINT", "NEW/S", "TOTAL"}, "POD", "NODES")...)
	}
	for _, row := range t.Rows {
		rate := fmt.Sprintf("%.1f", row.Rate)
		if row.Rate > 0 {
			rate = p.good(rate)
		}
		cells := []string{row.Namespace, row.ServiceGroup, row.Port, dash(row.Group), dash(row.Endpoint), rate, fmt.Sprint(row.Total)}
		rows.row(wider(width, cells, dash(row.Pod), dash(row.nodes()))...)
	}
	if len(t.Rows) > 0 {
		rows.write(l)
	} else {
		l.add("no ServiceGroup has had a connection")
	}
	for _, silent := range t.Silent {
		l.add("%s", p.warn("! "+silent))
	}
	return l.String()
}

// wider is a row with cells that are in wide tables only.
func wider(width Width, cells []string, more ...string) []string {
	if width == Wide {
		return append(cells, more...)
	}
	return cells
}

// nodes are those where connections came in, busiest first.
func (t *Traffic) nodes() string {
	names := slices.SortedFunc(maps.Keys(t.Nodes), func(a, b string) int {
		return cmp.Or(cmp.Compare(t.Nodes[b], t.Nodes[a]), cmp.Compare(a, b))
	})
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %.1f", name, t.Nodes[name])
	}
	return strings.Join(names, ", ")
}
