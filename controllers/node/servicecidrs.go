package node

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// watchServiceCIDRs adds an informer of the ranges of virtual IPs where the API server has them. It asks
// until there is an answer, as the other informers do; false if ctx ended before.
func (w *watcher) watchServiceCIDRs(ctx context.Context) bool {
	backoff := retry()
	for {
		served, err := servesServiceCIDRs(ctx, w.client)
		if err == nil && served {
			w.serviceCIDRs = newInformer[networkingv1.ServiceCIDR](w.client.NetworkingV1().RESTClient(), "servicecidrs", selectLabels(""))
			err = w.add(w.serviceCIDRs, func(any) { w.markNode() })
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
// Without them, virtual IPs are not told from other addresses where the agent does not serve them.
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
