package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"text/tabwriter"
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
	// took, own and servers are, of each round, the time until the last slice and the CPU time of the
	// contender, and of the API server with etcd, until then.
	took, own, servers []time.Duration
}

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
// and prints the best of each. A small round before warms the API server up.
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
			if err := b.race(ctx, c, n); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
		if round == 0 {
			for _, c := range all {
				c.took, c.own, c.servers = nil, nil, nil
			}
		}
	}
	operator := all[len(all)-1]
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "seconds, best of %d rounds\tto the last slice\toperator\tCPU time\tof API server and etcd\toperator, both\n", rounds)
	for _, c := range all {
		fmt.Fprintf(table, "%s\t%.1f\t%.2fx\t%.1f\t%.1f\t%.2fx\n", c.name,
			best(c.took), best(operator.took)/best(c.took),
			best(c.own), best(c.servers), (best(operator.own)+best(operator.servers))/(best(c.own)+best(c.servers)))
	}
	return table.Flush()
}

// best is the least of several rounds, in seconds.
func best(rounds []time.Duration) float64 { return slices.Min(rounds).Seconds() }

// race measures one contender with n entry points, and removes what came of it.
func (b *bed) race(ctx context.Context, c *contender, n int) error {
	process, err := c.start(ctx)
	if err != nil {
		return err
	}
	ownBefore, serversBefore, err := b.cpu(process)
	if err != nil {
		return err
	}
	took, err := b.untilComplete(ctx, speedNamespace, n, c.create)
	if err != nil {
		return err
	}
	own, servers, err := b.cpu(process)
	if err != nil {
		return err
	}
	c.took = append(c.took, took.Round(10*time.Millisecond))
	c.own = append(c.own, own-ownBefore)
	c.servers = append(c.servers, servers-serversBefore)
	if err := process.Stop(); err != nil {
		return err
	}
	return b.clear(ctx)
}

// cpu is what a contender, and the API server with etcd, have used so far.
func (b *bed) cpu(process *lab.Process) (own, servers time.Duration, err error) {
	u, err := process.Usage()
	if err != nil {
		return 0, 0, err
	}
	own = u.CPU
	for _, server := range b.lab.ControlPlane.Servers() {
		if u, err = server.Usage(); err != nil {
			return 0, 0, err
		}
		servers += u.CPU
	}
	return own, servers, nil
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
