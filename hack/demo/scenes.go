package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

const (
	// connections per target. With 3 pods, 20 % of a fair share is more than 4 standard deviations.
	connections = 1000
	// settleBound is how long the cluster may take to follow a change.
	settleBound = 30 * time.Second
)

// demo is a run of the show.
type demo struct {
	out     io.Writer
	lab     *lab.Lab
	visitor *lab.Pod  // asks the virtual IP from inside
	client  *lab.Host // asks the NodePorts from outside
	vip     string

	frontend, tomcat group
	table            table
}

// group is a group of pods and the numbers under which it is to be reached.
type group struct {
	name           string
	labels         map[string]string
	replicas       int
	port, nodePort int32
	pods           []*lab.Pod
}

func newDemo(out io.Writer) *demo {
	return &demo{
		out: out,
		frontend: group{
			name: "frontend", replicas: 3, port: 80, nodePort: 30001,
			labels: map[string]string{"app": "guestbook", "tier": "frontend"},
		},
		tomcat: group{
			name: "tomcat", replicas: 2, port: 8080, nodePort: 30002,
			labels: map[string]string{"app": "myweb"},
		},
	}
}

func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "\n==> "+format+"\n", args...)
}

// run plays all scenes. Its error says what stopped the show or, after the last scene, what the
// table has against the product.
func (d *demo) run(ctx context.Context) error {
	for _, scene := range []func(context.Context) error{
		d.build, d.apply, d.inspect, d.measure, d.scaleToZero, d.scaleBack,
	} {
		if err := scene(ctx); err != nil {
			return err
		}
	}
	return d.table.judge()
}

// build starts the cluster and the pods.
func (d *demo) build(ctx context.Context) error {
	d.say("Building a cluster in a box: 2 nodes, a real etcd and kube-apiserver, our manager, our agent on each node")
	started := time.Now()
	var err error
	d.lab, err = lab.Start(ctx, lab.Options{
		Nodes: 2, Manager: true, Agents: true,
		Progress: func(step string) { fmt.Fprintf(d.out, "    %s ...\n", step) },
	})
	if err != nil {
		return err
	}
	fmt.Fprintf(d.out, "    ready after %.1f s\n", time.Since(started).Seconds())

	d.say("Running 3 frontend pods and 2 tomcat pods; every pod listens on both ports, 80 and 8080, so a wrong turn would be answered")
	for _, g := range []*group{&d.frontend, &d.tomcat} {
		if err := d.scaleUp(ctx, g); err != nil {
			return err
		}
	}
	if d.visitor, err = d.lab.RunPod(ctx, lab.PodSpec{Name: "visitor", Node: "node1"}); err != nil {
		return err
	}
	d.client, err = d.lab.Client("client")
	return err
}

func (d *demo) scaleUp(ctx context.Context, g *group) error {
	var err error
	g.pods, err = d.lab.RunPods(ctx, lab.PodSpec{
		Name: g.name, Labels: g.labels, Ports: []lab.Port{lab.TCP(80), lab.TCP(8080)},
	}, g.replicas)
	for _, pod := range g.pods {
		if pod != nil {
			fmt.Fprintf(d.out, "    %-11s %-11s on %s\n", pod.PodName, pod.IPv4, pod.Node.Name)
		}
	}
	return err
}

// apply applies the sample and waits until every target reaches every pod of its group.
func (d *demo) apply(ctx context.Context) error {
	const sample = "config/samples/guestbook.yaml"
	d.say("kubectl apply -f %s", sample)
	root, err := lab.ModuleRoot()
	if err != nil {
		return err
	}
	if err := d.kubectl(ctx, "apply", "-f", filepath.Join(root, sample)); err != nil {
		return err
	}
	applied := time.Now()
	err = d.until(ctx, func(ctx context.Context) error {
		service, err := d.lab.Kubernetes.CoreV1().Services("default").Get(ctx, "guestbook", metav1.GetOptions{})
		if err == nil && service.Spec.ClusterIP == corev1.ClusterIPNone {
			err = errors.New("service guestbook has no virtual IP")
		}
		if err == nil {
			d.vip = service.Spec.ClusterIP
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("waiting for the Service of the ServiceGroup: %w", err)
	}
	if err := d.awaitAnswers(ctx, &d.frontend, &d.tomcat); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "    every port reaches every pod of its group, %d ms after kubectl was done\n", time.Since(applied).Milliseconds())
	return nil
}

// inspect shows what an administrator sees.
func (d *demo) inspect(ctx context.Context) error {
	err := d.untilReady(ctx)
	if err != nil {
		return err
	}
	d.say("kubectl get svcg,svc,endpointslices")
	return d.kubectl(ctx, "get", "svcg,svc,endpointslices")
}

// untilReady waits for the ServiceGroup's own word that it is served.
func (d *demo) untilReady(ctx context.Context) error {
	cmd, err := d.lab.ControlPlane.Kubectl(ctx, "wait", "--for=condition=Ready", "svcg/guestbook",
		"--timeout="+settleBound.String())
	if err != nil {
		return err
	}
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("waiting for svcg/guestbook to be ready: %w: %s", err, output)
	}
	return nil
}

func (d *demo) kubectl(ctx context.Context, args ...string) error {
	cmd, err := d.lab.ControlPlane.Kubectl(ctx, args...)
	if err != nil {
		return err
	}
	cmd.Stdout, cmd.Stderr = d.out, d.out
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("running kubectl %s: %w", strings.Join(args, " "), err)
	}
	return nil
}

// measure asks every target a thousand times.
func (d *demo) measure(ctx context.Context) error {
	d.say("Sending %d connections to every target: the virtual IP from a pod, both NodePorts on every node from outside", connections)
	first := len(d.table.rows)
	d.ask(ctx, append(d.targets(&d.frontend), d.targets(&d.tomcat)...)...)
	d.table.print(d.out, first)
	return ctx.Err()
}

// scaleToZero ends the tomcat pods and looks at both ports.
func (d *demo) scaleToZero(ctx context.Context) error {
	d.say("Scaling tomcat to zero")
	if err := d.lab.EndPods(ctx, d.tomcat.pods...); err != nil {
		return err
	}
	gone := time.Now()
	targets := d.targets(&d.tomcat)
	if err := d.until(ctx, func(ctx context.Context) error { return refusedEverywhere(ctx, targets) }); err != nil {
		return fmt.Errorf("waiting for port 8080 to refuse connections: %w", err)
	}
	fmt.Fprintf(d.out, "    port 8080 and NodePort 30002 refuse connections, %d ms after the last pod began to end:\n", time.Since(gone).Milliseconds())
	if err := d.lab.DeletePods(ctx, d.tomcat.pods...); err != nil {
		return err
	}
	for _, t := range targets {
		asked := time.Now()
		_, err := t.from.Ask(ctx, "tcp", t.address)
		fmt.Fprintf(d.out, "    %-34s %s (after %d us)\n", t, refusal(err), time.Since(asked).Microseconds())
	}
	fmt.Fprintf(d.out, "    port 80 goes on:\n")
	first := len(d.table.rows)
	d.ask(ctx, d.targets(&d.frontend)...)
	d.table.print(d.out, first)
	return ctx.Err()
}

// scaleBack runs new tomcat pods.
func (d *demo) scaleBack(ctx context.Context) error {
	d.say("Scaling tomcat back to %d", d.tomcat.replicas)
	if err := d.scaleUp(ctx, &d.tomcat); err != nil {
		return err
	}
	ready := time.Now()
	if err := d.awaitAnswers(ctx, &d.tomcat); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "    all of them are reached on every target, %d ms after the last was ready\n", time.Since(ready).Milliseconds())
	first := len(d.table.rows)
	d.ask(ctx, d.targets(&d.tomcat)...)
	d.table.print(d.out, first)
	return ctx.Err()
}
