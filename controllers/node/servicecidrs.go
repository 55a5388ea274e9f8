package node

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// watchServiceCIDRs adds an informer of the ranges of virtual IPs where the API server has them. It asks
// until there is an answer, as the other informers do; false if ctx ended before.
func (w *watcher) watchServiceCIDRs(ctx context.Context) bool {
	backoff := retry()
	for {
		served, err := servesServiceCIDRs(ctx, w.client)
		switch {
		case err == nil && served:
			w.serviceCIDRs = newInformer[networkingv1.ServiceCIDR](w.client.NetworkingV1().RESTClient(), "servicecidrs", selectLabels(""))
			err = w.add(w.serviceCIDRs, func(any) { w.markNode() })
		case err == nil:
			err = w.services.AddIndexers(cache.Indexers{byVirtualIP: w.indexByVirtualIP})
		}
		if err == nil {
			return true
		}
		w.log.Info("The ranges of virtual IPs cannot be read; it is tried again", "reason", err.Error())
		if !pause(ctx, backoff.Step()) {
			return false
		}
	}
}

// servesServiceCIDRs says whether the API server has ServiceCIDR objects (Kubernetes 1.33 and newer).
// Without them, virtual IPs are not told from other addresses but for those that the agent serves.
func servesServiceCIDRs(ctx context.Context, client kubernetes.Interface) (bool, error) {
	list := &metav1.APIResourceList{}
	err := client.NetworkingV1().RESTClient().Get().AbsPath("/apis/" + networkingv1.SchemeGroupVersion.String()).Do(ctx).Into(list)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("asking for the resources of %s: %w", networkingv1.SchemeGroupVersion, err)
	}
	return slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == "servicecidrs" }), nil
}

// serviceRanges returns the ranges of virtual IPs, sorted, none where they are not known.
func (w *watcher) serviceRanges() []netip.Prefix {
	if w.serviceCIDRs == nil {
		return nil
	}
	var out []netip.Prefix
	for _, obj := range w.serviceCIDRs.GetIndexer().List() {
		for _, cidr := range obj.(*networkingv1.ServiceCIDR).Spec.CIDRs {
			if prefix, err := netip.ParsePrefix(cidr); err == nil {
				out = append(out, prefix)
			}
		}
	}
	slices.SortFunc(out, func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
	})
	return out
}

// byVirtualIP is the index of Services by their virtual IPs, where the ranges of these are not known.
const byVirtualIP = "virtual-ip"

func (w *watcher) indexByVirtualIP(obj any) ([]string, error) {
	service, ok := obj.(*corev1.Service)
	if !ok {
		return nil, fmt.Errorf("indexing a %T by its virtual IP", obj)
	}
	if !w.ours(service.Labels) {
		return nil, nil
	}
	return service.Spec.ClusterIPs, nil
}

// isVirtualIP says whether an address is the virtual IP of a Service that the agent serves.
func (w *watcher) isVirtualIP(addr netip.Addr) bool {
	names, err := w.services.GetIndexer().IndexKeys(byVirtualIP, addr.String())
	return err == nil && len(names) > 0
}

// recheckEndpoints has Services built again of which an endpoint became a virtual IP, or is one no more.
// Where the ranges of virtual IPs are known, these tell.
func (a *Agent) recheckEndpoints(full bool, change *ruleset.Change) {
	if a.watcher.serviceCIDRs != nil {
		return
	}
	come, gone := change.VirtualIPs()
	if come || full {
		a.watcher.mark(a.state.LeadingToVirtualIPs()...)
	}
	if gone {
		a.watcher.mark(a.ignored.withReason(proxy.VirtualIP)...)
	}
}
