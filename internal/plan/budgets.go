package plan

import (
	"cmp"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

// Budgets bound what one ServiceGroup may cost everybody else: products that the schema, which bounds
// lists, lets through. docs/scale.md says why these numbers.
type Budgets struct {
	// Endpoints are those of all groups, each counted for every port that leads to its group.
	Endpoints int
	// Backends are the groups of all ports.
	Backends int
	// SelectorValues are the values of all matchExpressions.
	SelectorValues int
	// HealthChecks are the addresses of all external groups with a health check.
	HealthChecks int
	// ExposedServices are the Services of groups.
	ExposedServices int
}

// DefaultBudgets are those of a manager without flags.
var DefaultBudgets = Budgets{Endpoints: 50_000, Backends: 2_000, SelectorValues: 5_000, HealthChecks: 2_000, ExposedServices: 64}

// Validate returns what is wrong with the budgets.
func (b Budgets) Validate() error {
	for _, budget := range []struct {
		flag  string
		value int
	}{
		{"--max-endpoints", b.Endpoints}, {"--max-backends", b.Backends}, {"--max-selector-values", b.SelectorValues},
		{"--max-health-checks", b.HealthChecks}, {"--max-exposed-services", b.ExposedServices},
	} {
		if budget.value < 1 {
			return fmt.Errorf("%s: %d: must be at least 1", budget.flag, budget.value)
		}
	}
	return nil
}

// overBudget returns the budgets that a spec exceeds, whatever pods there are.
func overBudget(spec *v1alpha1.ServiceGroupSpec, entry EntryPoint, b Budgets) []Problem {
	exposed := 0
	if spec.ExposeGroups {
		exposed = len(spec.Groups)
	}
	var problems []Problem
	for _, budget := range []struct {
		field, what string
		used, most  int
		remedy      string
	}{
		{"spec.groups", "values in the selectors of all groups", selectorValues(spec), b.SelectorValues, "select by a label that the pods have in common"},
		{"spec.ports", "groups behind all ports", countBackends(entry), b.Backends, "list the backends of each port, or split the ServiceGroup"},
		{"spec.groups", "addresses to check", entry.HealthChecks(), b.HealthChecks, "split the ServiceGroup"},
		{"spec.exposeGroups", "Services of groups", exposed, b.ExposedServices, "expose fewer groups by splitting the ServiceGroup, or remove exposeGroups"},
	} {
		if budget.used > budget.most {
			problems = append(problems, Problem{
				Field: budget.field, Value: fmt.Sprintf("%d %s", budget.used, budget.what), Budget: true,
				Cause:  fmt.Sprintf("more than the %d that a ServiceGroup may have here", budget.most),
				Remedy: budget.remedy + "; who runs the cluster can raise the budget",
			})
		}
	}
	return problems
}

func selectorValues(spec *v1alpha1.ServiceGroupSpec) (n int) {
	for i := range spec.Groups {
		if selector := spec.Groups[i].Selector; selector != nil {
			for j := range selector.MatchExpressions {
				n += len(selector.MatchExpressions[j].Values)
			}
		}
	}
	return n
}

func countBackends(entry EntryPoint) (n int) {
	for i := range entry.Ports {
		if n += len(entry.Ports[i].targets); entry.Ports[i].targets == nil {
			n += len(entry.Groups)
		}
	}
	return n
}

// Trimmed says how many endpoints were left out for the budget.
type Trimmed struct {
	Endpoints, Budget int
}

// trim leaves out the pods with which a ServiceGroup would have more endpoints than its budget; those that
// are ready stay before those that are not, and of them those that are served.
func trim(members []Membership, entry EntryPoint, budget int, found []*discoveryv1.EndpointSlice) ([]Membership, *Trimmed) {
	ports := make([]int, len(members))
	total := 0
	for i := range members {
		ports[i] = max(1, countPorts(entry, members[i].Group))
		total += ports[i] * len(members[i].Pods)
	}
	if total <= budget {
		return members, nil
	}
	known := servedPods(found)
	out, left := slices.Clone(members), budget
	for i := range out {
		out[i].trimTo(left/ports[i], known)
		left -= len(out[i].Pods) * ports[i]
	}
	return out, &Trimmed{Endpoints: total, Budget: budget}
}

// trimTo leaves so many pods.
func (m *Membership) trimTo(most int, known map[types.UID]bool) {
	if len(m.Pods) <= most {
		return
	}
	pods := slices.SortedStableFunc(slices.Values(m.Pods), func(a, b *corev1.Pod) int {
		return cmp.Compare(rankPod(a, known), rankPod(b, known))
	})
	for _, pod := range pods[most:] {
		m.LeftOut++
		if Ready(pod) {
			m.Ready--
		}
	}
	m.Pods = slices.SortedFunc(slices.Values(pods[:most]), func(a, b *corev1.Pod) int { return cmp.Compare(a.Name, b.Name) })
}

// rankPod puts ready pods first, and of these those that are served.
func rankPod(pod *corev1.Pod, known map[types.UID]bool) (rank int) {
	if !Ready(pod) {
		rank += 2
	}
	if !known[pod.UID] {
		rank++
	}
	return rank
}

func countPorts(entry EntryPoint, group string) (n int) {
	for i := range entry.Ports {
		if _, ok := entry.Ports[i].Target(group); ok {
			n++
		}
	}
	return n
}

// servedPods are the pods that EndpointSlices list.
func servedPods(found []*discoveryv1.EndpointSlice) map[types.UID]bool {
	out := map[types.UID]bool{}
	for _, slice := range found {
		for i := range slice.Endpoints {
			if ref := slice.Endpoints[i].TargetRef; ref != nil {
				out[ref.UID] = true
			}
		}
	}
	return out
}

// trimmed tells of endpoints that were left out.
func (o *Outcome) trimmed() string {
	endpoints := "too many endpoints"
	if !o.coarse {
		endpoints = fmt.Sprintf("%d endpoints", o.Trimmed.Endpoints)
	}
	return fmt.Sprintf("spec.groups: %s, the pods of each group times its ports: more than the %d that a ServiceGroup may have; "+
		"those beyond are left out: split the ServiceGroup, or ask who runs the cluster to raise the budget", endpoints, o.Trimmed.Budget)
}
