package node

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/agentapi"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
)

// list returns a Connection for each endpoint, and one for those of each group that have left. The caller
// holds mu.
func (c *connectionCounts) list(kernel []nft.Count) []agentapi.Connection {
	owners, rows := ownersOf(c.services), map[agentapi.Connection]uint64{}
	for _, count := range kernel {
		if owner := owners[count.Key]; owner != nil {
			rows[owner.connection(owner.share(count), count.Endpoint.String())] += count.Connections
		}
	}
	for _, service := range c.services {
		for of, s := range service.sums {
			if s.left > 0 {
				rows[service.connection(of, "")] = s.left
			}
		}
	}
	out := make([]agentapi.Connection, 0, len(rows))
	for row, n := range rows {
		row.Connections = n
		out = append(out, row)
	}
	slices.SortFunc(out, func(x, y agentapi.Connection) int {
		return cmp.Or(strings.Compare(x.Namespace, y.Namespace), strings.Compare(x.Service, y.Service), cmp.Compare(x.PortNumber, y.PortNumber),
			strings.Compare(x.Protocol, y.Protocol), strings.Compare(x.Group, y.Group), strings.Compare(x.Endpoint, y.Endpoint))
	})
	return out
}

func (s *countedService) connection(of share, endpoint string) agentapi.Connection {
	return agentapi.Connection{
		Namespace: s.name.Namespace, Service: s.name.Name, Port: of.port.name, PortNumber: of.port.number,
		Protocol: strings.ToUpper(of.port.protocol.String()), Group: of.group, Endpoint: endpoint,
	}
}

// connectionsSocket is where the agent tells how many connections it counted; see dumpSocket.
const connectionsSocket = "@servicegroup-agent-connections"

// connectionsAnswer is what the agent tells on connectionsSocket.
type connectionsAnswer struct {
	// Problem is why there are none to tell.
	Problem     string
	Connections []agentapi.Connection
}

func (a *Agent) answerConnections(question) any {
	if a.counts == nil {
		return connectionsAnswer{Problem: "the agent on this node does not count connections: start it with --connection-counters"}
	}
	answer := connectionsAnswer{}
	if err := a.readConnections(func(kernel []nft.Count) { answer.Connections = a.counts.list(kernel) }); err != nil {
		answer.Problem = err.Error()
	}
	return answer
}

// PrintConnections prints how many connections the agent that runs in this network namespace counted, as
// text or as a JSON list of agentapi.Connection.
func PrintConnections(out io.Writer, format string) error {
	if format != "text" && format != "json" {
		return fmt.Errorf("output format %q is not known: it is text or json", format)
	}
	answer := connectionsAnswer{}
	if err := askLocal(connectionsSocket, question{}, &answer); err != nil {
		return err
	}
	if answer.Problem != "" {
		return errors.New(answer.Problem)
	}
	if format == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(answer.Connections)
	}
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, err := fmt.Fprintln(table, "NAMESPACE\tSERVICE\tPORT\tGROUP\tENDPOINT\tCONNECTIONS")
	errs := []error{err}
	for _, c := range answer.Connections {
		port := strings.TrimPrefix(fmt.Sprintf("%s:%d/%s", c.Port, c.PortNumber, c.Protocol), ":")
		_, err := fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%d\n", c.Namespace, c.Service, port, cmp.Or(c.Group, "-"), cmp.Or(c.Endpoint, "(left)"), c.Connections)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, table.Flush())...)
}

// connectionCollector tells the connections of ServiceGroups when the metrics are read, and costs nothing
// before.
type connectionCollector struct{ agent *Agent }

var connectionsTotal = prometheus.NewDesc("servicegroup_agent_connections_total",
	"Connections made through this node to a group of a ServiceGroup, since the agent started.",
	[]string{"namespace", "servicegroup", "port", "group"}, nil)

// Describe is part of prometheus.Collector.
func (connectionCollector) Describe(out chan<- *prometheus.Desc) { out <- connectionsTotal }

// Collect is part of prometheus.Collector.
func (c connectionCollector) Collect(out chan<- prometheus.Metric) {
	var series map[[4]string]int64
	err := c.agent.readConnections(func(kernel []nft.Count) { series = c.agent.counts.tell(kernel) })
	if err != nil {
		c.agent.options.Log.Error(err, "The metrics lack the connections")
	}
	for labels, n := range series {
		out <- prometheus.MustNewConstMetric(connectionsTotal, prometheus.CounterValue, float64(n), labels[:]...)
	}
}

// tell returns the values of the metric, by its labels. The caller holds mu.
func (c *connectionCounts) tell(kernel []nft.Count) map[[4]string]int64 {
	totals, out := c.totals(kernel), map[[4]string]int64{}
	for name, service := range c.services {
		if service.serviceGroup == "" {
			continue
		}
		for of, s := range service.sums {
			s.told = max(s.told, int64(totals[s]+s.left)+s.offset)
			out[seriesOf(name, service.serviceGroup, of)] += s.told
		}
	}
	return out
}

func seriesOf(name types.NamespacedName, serviceGroup string, of share) [4]string {
	port := of.port.name
	if port == "" {
		port = strconv.Itoa(int(of.port.number))
	}
	return [4]string{name.Namespace, serviceGroup, port, of.group}
}
