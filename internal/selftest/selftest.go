package selftest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
)

const (
	interval       = 200 * time.Millisecond
	attemptTimeout = 2 * time.Second
)

// Options say where the test runs.
type Options struct {
	// Client has the rights that the package needs.
	Client client.Client
	// Namespace is the pod's own.
	Namespace string
	// Labels select the pod, and no other.
	Labels map[string]string
	// Port is where the test listens.
	Port int32
	// Timeout bounds all of it.
	Timeout time.Duration
}

// Run returns nil when a connection to the virtual IP of a new ServiceGroup has come back here.
func Run(ctx context.Context, o Options) (err error) {
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	secret := rand.Text()
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", o.Port))
	if err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	server := &http.Server{ReadHeaderTimeout: attemptTimeout, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, secret) // who asked finds out if this fails
	})}
	go func() { _ = server.Serve(listener) }() // until closed
	defer server.Close()

	group := o.group()
	if err := o.Client.Create(ctx, group); err != nil && !apierrors.IsAlreadyExists(err) {
		return fmt.Errorf("creating ServiceGroup %s/%s: %w", o.Namespace, group.Name, err)
	}
	defer func() {
		// The time may be up; the ServiceGroup must go all the same.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
		defer cancel()
		err = errors.Join(err, client.IgnoreNotFound(o.Client.Delete(ctx, o.group())))
	}()
	err = await(ctx, fmt.Sprintf("ServiceGroup %s/%s is programmed", o.Namespace, group.Name), func(ctx context.Context) error {
		return o.programmed(ctx, group)
	})
	if err != nil {
		return err
	}
	address := net.JoinHostPort(group.Status.ClusterIP, "80")
	return await(ctx, "the virtual IP answers", func(ctx context.Context) error { return ask(ctx, address, secret) })
}

func (o *Options) group() *v1alpha1.ServiceGroup {
	return &v1alpha1.ServiceGroup{
		ObjectMeta: metav1.ObjectMeta{Namespace: o.Namespace, Name: "servicegroup-selftest"},
		Spec: v1alpha1.ServiceGroupSpec{
			Groups: []v1alpha1.Group{{Name: "self", Selector: &metav1.LabelSelector{MatchLabels: o.Labels}}},
			Ports:  []v1alpha1.Port{{Name: "http", Port: 80, TargetPort: new(intstr.FromInt32(o.Port))}},
			// The pod becomes ready when the kubelet says so, which is not what is tested.
			PublishNotReadyAddresses: true,
		},
	}
}

// await looks until check has no complaint, and returns the last one when the time is up.
func await(ctx context.Context, what string, check func(context.Context) error) error {
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, err)
		}
	}
}

// programmed returns nil once the agents have the ServiceGroup, which it reads anew.
func (o *Options) programmed(ctx context.Context, group *v1alpha1.ServiceGroup) error {
	// The time may be up, which would be a poor reason.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	if err := o.Client.Get(ctx, client.ObjectKeyFromObject(group), group); err != nil {
		return err
	}
	for _, kind := range []string{v1alpha1.ConditionAccepted, v1alpha1.ConditionProgrammed} {
		condition := apimeta.FindStatusCondition(group.Status.Conditions, kind)
		if condition == nil || condition.ObservedGeneration != group.Generation {
			return errors.New("the manager has not looked at it: see its log")
		}
		if condition.Status != metav1.ConditionTrue {
			return fmt.Errorf("%s is %s: %s", kind, condition.Status, condition.Message)
		}
	}
	return nil
}

func ask(ctx context.Context, address, want string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), attemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, 1<<10))
	if err == nil && string(body) != want {
		err = fmt.Errorf("somebody else answers on %s", address)
	}
	return err
}
