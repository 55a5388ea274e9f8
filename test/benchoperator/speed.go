package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// rounds is how often each contender runs; they take turns, since machines have moods.
const rounds = 3

// speedNamespace has the pods that all contenders serve.
const speedNamespace = "speed"

// contender is somebody who writes the EndpointSlices of many entry points.
type contender struct {
	name   string
	start  func(context.Context) (*lab.Process, error)
	create func(ctx context.Context, i int) error
	took   []time.Duration
}

func (c *contender) best() time.Duration { return slices.Min(c.took) }

// contenders have the same limits: as many requests a second as they like, and the workers of a
// cluster of this size.
func (b *bed) contenders() []*contender {
	controllers := func(list string) func(context.Context) (*lab.Process, error) {
		return func(ctx context.Context) (*lab.Process, error) {
			return b.lab.StartControllerManager(ctx, "--controllers="+list,
				"--kube-api-qps=1000", "--kube-api-burst=2000", "--concurrent-service-endpoint-syncs=16")
		}
	}
	createService := func(ctx context.Context, i int) error {
		_, err := b.lab.Kubernetes.CoreV1().Services(speedNamespace).Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: app(i)},
			Spec: corev1.ServiceSpec{
				Selector: map[string]string{"app": app(i)}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
			},
		}, metav1.CreateOptions{})
		return err
	}
	return []*contender{
		{name: "kube-controller-manager, its EndpointSlice controller alone", start: controllers("endpointslice-controller"), create: createService},
		{name: "kube-controller-manager as clusters run it", start: controllers("*,-node-lifecycle-controller,-taint-eviction-controller"), create: createService},
		{
			name: "operator",
			start: func(ctx context.Context) (*lab.Process, error) {
				return b.lab.StartManager(ctx, "--kube-api-qps=1000", "--concurrency=16")
			},
			create: func(ctx context.Context, i int) error {
				return b.groups.Create(ctx, b.newGroup(speedNamespace, app(i), app(i)))
			},
		},
	}
}

// compare lets the contenders take turns on the same pods, each on a cluster without entry points,
// and prints the best time of each. A small round before warms the API server up.
func (b *bed) compare(ctx context.Context) error {
	if err := b.runPods(ctx, speedNamespace, b.scale.groups*b.podsEach, func(i int) string { return app(i % b.scale.groups) }); err != nil {
		return err
	}
	all := b.contenders()
	for round := range 1 + rounds {
		n := b.scale.groups
		if round == 0 {
			n = min(n, 50)
		}
		for _, c := range all {
			took, err := b.race(ctx, c, n)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if round > 0 {
				c.took = append(c.took, took)
			}
		}
	}
	operator := all[len(all)-1].best()
	for _, c := range all {
		fmt.Fprintf(os.Stdout, "%-75s %s   (best of %v; the operator takes %.2f of it)\n", "first created to last slice complete: "+c.name,
			c.best(), c.took, operator.Seconds()/c.best().Seconds())
	}
	return nil
}

// race takes the time of one contender for n entry points, and removes what came of it.
func (b *bed) race(ctx context.Context, c *contender, n int) (time.Duration, error) {
	process, err := c.start(ctx)
	if err != nil {
		return 0, err
	}
	took, err := b.untilComplete(ctx, speedNamespace, n, c.create)
	if err != nil {
		return 0, err
	}
	if err := process.Stop(); err != nil {
		return 0, err
	}
	return took.Round(time.Millisecond), b.clear(ctx)
}

// clear removes every entry point, since nobody collects garbage here, and waits until its address is
// free.
func (b *bed) clear(ctx context.Context) error {
	in := client.InNamespace(speedNamespace)
	if err := b.groups.DeleteAllOf(ctx, &v1alpha1.ServiceGroup{}, in); err != nil {
		return fmt.Errorf("removing ServiceGroups: %w", err)
	}
	if err := b.lab.Kubernetes.DiscoveryV1().EndpointSlices(speedNamespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{}); err != nil {
		return fmt.Errorf("removing EndpointSlices: %w", err)
	}
	services, err := b.lab.Kubernetes.CoreV1().Services(speedNamespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return fmt.Errorf("removing Services: %w", err)
	}
	err = inParallel(len(services.Items), func(i int) error {
		return b.lab.Kubernetes.CoreV1().Services(speedNamespace).Delete(ctx, services.Items[i].Name, metav1.DeleteOptions{})
	})
	if err != nil {
		return fmt.Errorf("removing Services: %w", err)
	}
	return wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, bound, true, func(ctx context.Context) (bool, error) {
		addresses, err := b.lab.Kubernetes.NetworkingV1().IPAddresses().List(ctx, metav1.ListOptions{})
		return err == nil && len(addresses.Items) <= 1, err // that of the API server itself stays
	})
}
