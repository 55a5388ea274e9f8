package stories

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

func TestMain(m *testing.M) { lab.Main(m) }

const (
	// bound is how long the cluster may take to follow a change before a test gives up on it.
	bound = 30 * time.Second
	// attempt is how long one look may take. It is short because packets to an address nobody
	// serves yet are lost without a word.
	attempt = 300 * time.Millisecond
	// interval is the time between two looks.
	interval = 10 * time.Millisecond
)

// cluster is what the stories share.
type cluster struct {
	*lab.Lab
	groups client.Client // reads ServiceGroups
	client *lab.Host     // outside
}

var theCluster = sync.OnceValues(func() (*cluster, error) {
	l, err := lab.Start(context.Background(), lab.Options{
		ControlPlaneOptions: lab.ControlPlaneOptions{DualStack: true},
		Nodes:               3,
		Manager:             true, Agents: true,
		ManagerArgs:       []string{"--external-ranges=" + outsideRanges},
		ControllerManager: true, Kubelets: true, CoreDNS: true,
	})
	if err != nil {
		return nil, err
	}
	scheme := runtime.NewScheme()
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	c := &cluster{Lab: l}
	if c.groups, err = client.New(l.ControlPlane.Config(), client.Options{Scheme: scheme}); err != nil {
		return nil, err
	}
	c.client, err = l.Client("client")
	return c, err
})

// logEnds shows what the project's programs said last.
func (c *cluster) logEnds(t *testing.T) {
	for _, process := range c.ControlPlane.Processes() {
		if process.Name == "manager" || strings.HasPrefix(process.Name, "agent-") {
			t.Logf("the end of the log of %s:\n%s", process.Name, process.Tail())
		}
	}
}

// await looks until check has no complaint, and fails the test with the last one after the bound.
func await(t *testing.T, what string, check func(context.Context) error) {
	t.Helper()
	if err := lab.Await(t.Context(), bound, check); err != nil {
		t.Fatalf("waited %s in vain until %s: %v", bound, what, err)
	}
}

// awaitCondition waits until the ServiceGroup's condition has this status and reason, about its
// newest generation, and returns its message.
func (s *scene) awaitCondition(name, kind string, status metav1.ConditionStatus, reason string) string {
	s.t.Helper()
	message := ""
	await(s.t, fmt.Sprintf("svcg/%s has %s=%s", name, kind, status), func(ctx context.Context) error {
		group := &v1alpha1.ServiceGroup{}
		if err := s.groups.Get(ctx, client.ObjectKey{Namespace: s.namespace, Name: name}, group); err != nil {
			return err
		}
		condition := apimeta.FindStatusCondition(group.Status.Conditions, kind)
		if condition == nil || condition.ObservedGeneration != group.Generation ||
			condition.Status != status || condition.Reason != reason {
			return fmt.Errorf("its conditions are %+v", group.Status.Conditions)
		}
		message = condition.Message
		return nil
	})
	return message
}

// service waits for the Service of the ServiceGroup and returns it.
func (s *scene) service(name string) *corev1.Service {
	s.t.Helper()
	var service *corev1.Service
	await(s.t, "there is a Service "+name, func(ctx context.Context) (err error) {
		service, err = s.Kubernetes.CoreV1().Services(s.namespace).Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return service
}
