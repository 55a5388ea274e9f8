package soak

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	groups = 200
	nodes  = 3
	// brief is how long it takes without SOAK.
	brief = 25 * time.Second
	// late is how long numbers of pods in status may be late, and more than the time between two
	// reports of an agent.
	late = 12 * time.Second
	// bound is how long the cluster may take to converge.
	bound = 2 * time.Minute
	// namespace is where the ServiceGroups and their pods are.
	namespace = "default"
)

// kinds are the specs of the ServiceGroups, in turns.
var kinds = []string{
	"{}",
	"{type: NodePort}",
	"{clusterIP: None}",
	"{dataplane: Cluster}",
	"{type: LoadBalancer, externalTrafficPolicy: Local, ipFamilyPolicy: PreferDualStack}",
	"{exposeGroups: true, trafficDistribution: PreferSameZone}",
	"{sessionAffinity: ClientIP, internalTrafficPolicy: Local}",
	"{type: ExternalName, externalName: db.example.com}",
}

// TestNothingIsWrittenWhenNothingChanges: 200 ServiceGroups of every kind, 10 pods, one of which is not
// ready, and nobody who changes anything.
func TestNothingIsWrittenWhenNothingChanges(t *testing.T) {
	lab.Require(t)
	soak := brief
	if text := os.Getenv("SOAK"); text != "" {
		var err error
		if soak, err = time.ParseDuration(text); err != nil {
			t.Fatalf("SOAK: %v", err)
		}
	}
	b := newBed(t)
	pods := b.converge()

	since := time.Now()
	select {
	case <-time.After(soak):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
	writes, leases := b.writes(since)
	t.Logf("in %s: %d writes; and of Leases, by node: %v", soak, len(writes), leases)
	if len(writes) > 0 {
		t.Errorf("nothing changed for %s, and these were written: %v", soak, writes)
	}
	if len(leases) != nodes && soak > 2*time.Minute {
		t.Errorf("not every agent of %d renewed its Lease: %v", nodes, leases)
	}
	for lease, n := range leases {
		if most := int(soak/(10*time.Second)) + 1; n > most {
			t.Errorf("%s was written %d times in %s, more than once in 10 s", lease, n, soak)
		}
	}

	// The log does count: a pod that becomes unready is one slice of each ServiceGroup that selects it.
	since = time.Now()
	if err := pods[0].SetReady(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	b.await("the pod's flip is in the log", func(context.Context) error {
		writes, _ := b.writes(since)
		flips := 0
		for _, write := range writes {
			if strings.HasPrefix(write, "update endpointslices ") {
				flips++
			}
		}
		// Seven kinds of eight have slices; one of them has a second family, and one a second Service.
		if want := groups / len(kinds) * 9; flips != want {
			return fmt.Errorf("%d slices were written for it, want %d", flips, want)
		}
		return nil
	})
}

type bed struct {
	*lab.Lab
	t      *testing.T
	groups client.Client
}

func newBed(t *testing.T) *bed {
	t.Helper()
	l, err := lab.Start(t.Context(), lab.Options{
		ControlPlaneOptions: lab.ControlPlaneOptions{DualStack: true, AuditLog: true},
		Nodes:               nodes, Zones: []string{"a", "b", "c"},
		Manager: true, Agents: true, ControllerManager: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	b := &bed{Lab: l, t: t}
	if b.groups, err = client.New(l.ControlPlane.Config(), client.Options{Scheme: scheme}); err != nil {
		t.Fatal(err)
	}
	return b
}

// converge creates everything and waits until nothing is left to be written.
func (b *bed) converge() []*lab.Pod {
	b.t.Helper()
	pods, err := b.RunPods(b.t.Context(), lab.PodSpec{Namespace: namespace, Name: "web", Labels: map[string]string{"app": "web"}}, 10)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := pods[len(pods)-1].SetReady(b.t.Context(), false); err != nil {
		b.t.Fatal(err)
	}
	for i := range groups {
		sg := &v1alpha1.ServiceGroup{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("calm-%d", i)}}
		spec := kinds[i%len(kinds)]
		if err := yaml.UnmarshalStrict([]byte(spec), &sg.Spec); err != nil {
			b.t.Fatal(err)
		}
		sg.Spec.Groups = []v1alpha1.Group{{Name: "web", Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "web"}}}}
		sg.Spec.Ports = []v1alpha1.Port{{Name: "http", Port: 80}}
		if err := b.groups.Create(b.t.Context(), sg); err != nil {
			b.t.Fatal(err)
		}
	}
	b.await("everything is ready and programmed", func(ctx context.Context) error {
		var list v1alpha1.ServiceGroupList
		if err := b.groups.List(ctx, &list); err != nil {
			return err
		}
		var waiting []error
		for i := range list.Items {
			conditions := list.Items[i].Status.Conditions
			for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed, v1alpha1.ConditionReady} {
				if !apimeta.IsStatusConditionTrue(conditions, kind) {
					waiting = append(waiting, fmt.Errorf("%s is not %s", list.Items[i].Name, kind))
				}
			}
		}
		return errors.Join(waiting...)
	})
	b.await("nothing is left to be written", func(context.Context) error {
		if writes, _ := b.writes(time.Now().Add(-late)); len(writes) > 0 {
			return fmt.Errorf("%d were written a moment ago", len(writes))
		}
		return nil
	})
	return pods
}

// writes are those of the manager and the agents since a moment as "verb resource name", and how often
// each agent's Lease was written, by its name.
func (b *bed) writes(since time.Time) (writes []string, leases map[string]int) {
	b.t.Helper()
	requests, err := b.ControlPlane.Requests(since)
	if err != nil {
		b.t.Fatal(err)
	}
	leases = map[string]int{}
	for i := range requests {
		request, object := &requests[i], &requests[i].ObjectRef
		switch {
		case !request.Write() || !strings.HasPrefix(request.UserAgent, "servicegroup/"):
		case object.Resource == "leases" && strings.HasPrefix(object.Name, v1alpha1.LeasePrefix):
			leases[object.Name]++
		default:
			writes = append(writes, strings.Join([]string{request.Verb, object.Resource, object.Subresource, object.Name}, " "))
		}
	}
	return writes, leases
}

// await looks once in a while until check has no complaint.
func (b *bed) await(what string, check func(context.Context) error) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.t.Context(), bound)
	defer cancel()
	ticker := time.NewTicker(200 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			b.t.Fatalf("waited %s in vain until %s: %v", bound, what, err)
		}
	}
}
