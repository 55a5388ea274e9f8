package servicegroup

import (
	"maps"
	"math"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	apiequality "k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

func fullPod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Name: "p", Namespace: "ns", UID: "u", ResourceVersion: "1", Labels: map[string]string{"app": "a"},
			Annotations: map[string]string{"big": "text"}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
		},
		Spec: corev1.PodSpec{
			NodeName: "n", Hostname: "h", Subdomain: "s", Volumes: []corev1.Volume{{Name: "v"}},
			Containers: []corev1.Container{
				{Name: "c", Image: "i", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80, HostPort: 8}, {ContainerPort: 81}}},
				{Name: "portless"},
			},
			InitContainers: []corev1.Container{{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 82}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}}, HostIP: "1.2.3.4",
			Conditions: []corev1.PodCondition{
				{Type: corev1.PodScheduled, Status: corev1.ConditionTrue},
				{Type: corev1.PodReady, Status: corev1.ConditionTrue, Reason: "r", LastTransitionTime: metav1.Unix(5, 0)},
			},
			ContainerStatuses: []corev1.ContainerStatus{{Name: "c"}},
		},
	}
}

func TestTrimPodKeepsWhatMakesAnEndpoint(t *testing.T) {
	want := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "p", Namespace: "ns", UID: "u", ResourceVersion: "1", Labels: map[string]string{"app": "a"}},
		Spec: corev1.PodSpec{
			NodeName: "n", Hostname: "h", Subdomain: "s",
			Containers:     []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: 80}}}},
			InitContainers: []corev1.Container{{RestartPolicy: ptr.To(corev1.ContainerRestartPolicyAlways), Ports: []corev1.ContainerPort{{Name: "side", ContainerPort: 82}}}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.0.0.1", PodIPs: []corev1.PodIP{{IP: "10.0.0.1"}},
			Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Unix(5, 0)}},
		},
	}
	once, err := trimPod(fullPod())
	if err != nil || !apiequality.Semantic.DeepEqual(once, want) {
		t.Errorf("got  %v\nwant %v (error %v)", once, want, err)
	}
	if twice, err := trimPod(once); err != nil || !apiequality.Semantic.DeepEqual(twice, want) {
		t.Errorf("a second time: %v (error %v)", twice, err)
	}
	if endpointChanged(fullPod(), want) {
		t.Error("trimming is taken for a change")
	}
}

func TestEndpointChanged(t *testing.T) {
	for name, test := range map[string]struct {
		edit func(*corev1.Pod)
		want bool
	}{
		"nothing":             {func(*corev1.Pod) {}, false},
		"resource version":    {func(p *corev1.Pod) { p.ResourceVersion = "2" }, false},
		"annotation":          {func(p *corev1.Pod) { p.Annotations = nil }, false},
		"other condition":     {func(p *corev1.Pod) { p.Status.Conditions[0].Status = corev1.ConditionFalse }, false},
		"time of readiness":   {func(p *corev1.Pod) { p.Status.Conditions[1].LastTransitionTime = metav1.Unix(6, 0) }, false},
		"image":               {func(p *corev1.Pod) { p.Spec.Containers[0].Image = "j" }, false},
		"readiness":           {func(p *corev1.Pod) { p.Status.Conditions[1].Status = corev1.ConditionFalse }, true},
		"label":               {func(p *corev1.Pod) { p.Labels["x"] = "y" }, true},
		"address":             {func(p *corev1.Pod) { p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.2"}} }, true},
		"address lost":        {func(p *corev1.Pod) { p.Status.PodIPs = nil }, true},
		"finished":            {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, true},
		"terminating":         {func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{Time: time.Unix(7, 0)} }, true},
		"another of its name": {func(p *corev1.Pod) { p.UID = "v" }, true},
		"node":                {func(p *corev1.Pod) { p.Spec.NodeName = "m" }, true},
		"named port":          {func(p *corev1.Pod) { p.Spec.Containers[0].Ports[0].ContainerPort = 90 }, true},
		"hostname":            {func(p *corev1.Pod) { p.Spec.Hostname = "g" }, true},
		"subdomain":           {func(p *corev1.Pod) { p.Spec.Subdomain = "d" }, true},
	} {
		before, after := fullPod(), fullPod()
		test.edit(after)
		if got := endpointChanged(before, after); got != test.want {
			t.Errorf("%s: changed %t, want %t", name, got, test.want)
		}
	}
	before, after := fullPod(), fullPod()
	before.Status.PodIPs, after.Status.PodIPs = nil, nil
	after.Labels = nil
	if plan.Eligible(before) || endpointChanged(before, after) {
		t.Error("a pod without an address wakes somebody")
	}
}

// TestPodChangesAreBatched: all changes of a batch period wake a ServiceGroup once, at its end.
func TestPodChangesAreBatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(2)("", workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
		defer q.ShutDown()
		index := newPodIndex()
		index.set(types.NamespacedName{Namespace: "ns", Name: "web"}, []labels.Selector{labels.SelectorFromSet(labels.Set{"app": "a"})})
		const batch = 10 * time.Second
		pods := podHandler(index, batch)
		woken := map[time.Duration]int{}
		for second := range 25 {
			if second < 15 {
				pods.Create(t.Context(), event.TypedCreateEvent[*corev1.Pod]{Object: fullPod()}, q)
			}
			time.Sleep(time.Second) //nolint:forbidigo // the time of the bubble
			synctest.Wait()
			for q.Len() > 0 {
				next, _ := q.Get()
				q.Done(next)
				woken[time.Duration(second+1)*time.Second]++
			}
		}
		if want := map[time.Duration]int{batch: 1, 2 * batch: 1}; !maps.Equal(woken, want) {
			t.Errorf("woken at %v, want %v", woken, want)
		}
	})
}

func TestOptions(t *testing.T) {
	if err := (Options{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	for name, o := range map[string]Options{
		"concurrency": {Concurrency: -1}, "refresh": {CountRefresh: -1}, "retry": {RetryMin: -1}, "order": {RetryMin: 2, RetryMax: 1},
		"writes": {NamespaceWriteQPS: -1}, "endless writes": {NamespaceWriteQPS: math.Inf(1)}, "no number of writes": {NamespaceWriteQPS: math.NaN()},
		"burst": {NamespaceWriteBurst: minWriteBurst - 1}, "negative burst": {NamespaceWriteBurst: -1}, "batch": {EndpointUpdatesBatchPeriod: -1},
	} {
		if o.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if o := (Options{RetryMin: time.Hour}).withDefaults(); o.RetryMax != time.Hour || o.Concurrency != 16 {
		t.Errorf("defaults: %+v", o)
	}
}
