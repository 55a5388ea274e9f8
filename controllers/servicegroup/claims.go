package servicegroup

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// claimsPage bounds one answer of the list of all Services.
	claimsPage = 500
	// claimsAge is how old the knowledge of others' numbers and addresses may be: one list of all Services
	// serves all ServiceGroups that meet a held one meanwhile.
	claimsAge = 2 * time.Second
)

// claims is who holds which NodePort and which address, as far as the API server was asked.
//
// Nobody is asked before the API server has refused something. It knows every holder, without a delay,
// and refuses in memory; to know as much beforehand the manager would have to watch every Service of
// the cluster, for the sake of the few whose first probe meets a held number. And a cache would lag:
// a ServiceGroup deleted and created anew would see its own old Service on its number, and move.
type claims struct {
	mu    sync.Mutex
	known claimed
	asked time.Time
}

// claimed are the holders at one moment.
type claimed struct {
	nodePorts map[int32]types.NamespacedName
	addresses map[string]types.NamespacedName
}

// list returns the holders, asked anew if what is known is old or proved to be.
func (c *claims) list(ctx context.Context, live client.Reader, clock clock.PassiveClock, anew bool) (claimed, error) {
	started := clock.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.asked.After(started) || !anew && !c.asked.IsZero() && started.Sub(c.asked) < claimsAge {
		return c.known, nil // somebody else asked while we waited, or a moment ago
	}
	found, err := listClaims(ctx, live)
	if err != nil {
		return claimed{}, err
	}
	c.known, c.asked = found, clock.Now()
	return found, nil
}

func listClaims(ctx context.Context, live client.Reader) (claimed, error) {
	out := claimed{nodePorts: map[int32]types.NamespacedName{}, addresses: map[string]types.NamespacedName{}}
	page := &corev1.ServiceList{}
	for {
		if err := live.List(ctx, page, client.Limit(claimsPage), client.Continue(page.Continue)); err != nil {
			return claimed{}, fmt.Errorf("listing what all Services hold: %w", err)
		}
		for i := range page.Items {
			out.add(&page.Items[i])
		}
		if page.Continue == "" {
			return out, nil
		}
	}
}

func (c *claimed) add(svc *corev1.Service) {
	holder := client.ObjectKeyFromObject(svc)
	if svc.Spec.HealthCheckNodePort != 0 {
		c.nodePorts[svc.Spec.HealthCheckNodePort] = holder
	}
	for _, port := range svc.Spec.Ports {
		if port.NodePort != 0 {
			c.nodePorts[port.NodePort] = holder
		}
	}
	for _, ip := range svc.Spec.ClusterIPs {
		if ip != corev1.ClusterIPNone {
			c.addresses[ip] = holder
		}
	}
}

// nodePortsOfOthers are the NodePorts that other Services hold.
func (c *claimed) nodePortsOfOthers(own types.NamespacedName) map[int32]bool {
	out := make(map[int32]bool, len(c.nodePorts))
	for number, holder := range c.nodePorts {
		if holder != own {
			out[number] = true
		}
	}
	return out
}
