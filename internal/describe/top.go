package describe

import (
	"cmp"
	"fmt"
	"slices"

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
	// Rate is new connections a second, and Total all since the agents started.
	Rate  float64 `json:"rate"`
	Total uint64  `json:"total"`
}

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
	rows := map[Traffic]*Traffic{}
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
			key := keyOf(c, by)
			if rows[key] == nil {
				row := key
				rows[key] = &row
			}
			n := c.Connections
			rows[key].Total += n
			c.Connections = 0
			if last := had[c]; last <= n {
				n -= last
			}
			if sampled && t.Seconds > 0 {
				rows[key].Rate += float64(n) / t.Seconds
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

func keyOf(c agentapi.Connection, by By) Traffic {
	key := Traffic{Namespace: c.Namespace, ServiceGroup: c.Service}
	key.Port = fmt.Sprintf("%d/%s", c.PortNumber, c.Protocol)
	if c.Port != "" {
		key.Port = c.Port + " " + key.Port
	}
	switch by {
	case ByEndpoint:
		key.Group, key.Endpoint = c.Group, cmp.Or(c.Endpoint, "(left)")
	case ByGroup:
		key.Group = c.Group
	case ByPort:
	}
	return key
}

// Text is the traffic for a terminal.
func (t Top) Text(p Paint) string {
	l := &lines{}
	rows := table{}
	rows.row("NAMESPACE", "SERVICEGROUP", "PORT", "GROUP", "ENDPOINT", "NEW/S", "TOTAL")
	for _, row := range t.Rows {
		rate := fmt.Sprintf("%.1f", row.Rate)
		if row.Rate > 0 {
			rate = p.good(rate)
		}
		rows.row(row.Namespace, row.ServiceGroup, row.Port, dash(row.Group), dash(row.Endpoint), rate, fmt.Sprint(row.Total))
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
