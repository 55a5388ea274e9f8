package lab

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

func TestControlPlane(t *testing.T) {
	network, _ := newTestNetwork(t)
	started := time.Now()
	plane, err := StartControlPlane(t.Context(), network, ControlPlaneOptions{DualStack: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("started after %v", time.Since(started))
	client := kubernetes.NewForConfigOrDie(plane.Config())
	services, err := client.CoreV1().Services("").List(t.Context(), metav1.ListOptions{})
	t.Log(services.Items, err)
	started = time.Now()
	t.Log(plane.Close())
	t.Logf("closed after %v", time.Since(started))
}
