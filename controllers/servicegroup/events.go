package servicegroup

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	eventsclient "k8s.io/client-go/kubernetes/typed/events/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
)

// newRecorder returns a recorder that works as the manager's own does, but passes over events which nobody can
// read any more.
func newRecorder(mgr manager.Manager) (events.EventRecorder, error) {
	api, err := eventsclient.NewForConfigAndClient(mgr.GetConfig(), mgr.GetHTTPClient())
	if err != nil {
		return nil, fmt.Errorf("making a client for events: %w", err)
	}
	broadcaster := events.NewBroadcaster(lastingSink{&events.EventSinkImpl{Interface: api}})
	recording, stop := context.WithCancel(log.IntoContext(context.Background(), mgr.GetLogger()))
	shutdown := func() {
		broadcaster.Shutdown() // after what is queued
		stop()
	}
	// Recording begins now, since events that nobody records yet are lost; it ends with the manager.
	err = broadcaster.StartRecordingToSinkWithContext(recording)
	if err == nil {
		_, err = broadcaster.StartLogging(mgr.GetLogger().V(1))
	}
	if err == nil {
		err = mgr.Add(manager.RunnableFunc(func(ctx context.Context) error {
			<-ctx.Done()
			shutdown()
			return nil
		}))
	}
	if err != nil {
		shutdown()
		return nil, fmt.Errorf("recording events: %w", err)
	}
	return broadcaster.NewRecorder(mgr.GetScheme(), controllerName), nil
}

// lastingSink passes over the events of a namespace that is being deleted, or is gone: the API server takes none
// there, which is no error that anybody has to know of.
type lastingSink struct{ events.EventSink }

func (s lastingSink) Create(ctx context.Context, event *eventsv1.Event) (*eventsv1.Event, error) {
	created, err := s.EventSink.Create(ctx, event)
	if apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		return event, nil
	}
	return created, err
}
