package node

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// An agent that starts before the API server must not go without the ranges of virtual IPs ever after.
func TestServiceCIDRsAreWatchedWhereThereAreSome(t *testing.T) {
	for _, test := range []struct {
		name string
		// resources are those of networking.k8s.io/v1; failures come before they are told.
		resources []string
		status    int
		failures  int32
		watched   bool
	}{
		{"Kubernetes 1.33", []string{"ingresses", "servicecidrs"}, http.StatusOK, 0, true},
		{"the API server comes later", []string{"ingresses", "servicecidrs"}, http.StatusOK, 2, true},
		{"Kubernetes 1.32", []string{"ingresses"}, http.StatusOK, 0, false},
		{"not the group either", nil, http.StatusNotFound, 0, false},
		{"not the group, and later", nil, http.StatusNotFound, 1, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			var asked atomic.Int32
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if asked.Add(1) <= test.failures || r.URL.Path != "/apis/networking.k8s.io/v1" {
					w.WriteHeader(http.StatusServiceUnavailable)
					return
				}
				list := metav1.APIResourceList{TypeMeta: metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"}}
				for _, name := range test.resources {
					list.APIResources = append(list.APIResources, metav1.APIResource{Name: name})
				}
				if test.status == http.StatusNotFound {
					http.NotFound(w, r) // what the API server says to an unknown path
					return
				}
				w.Header().Set("Content-Type", "application/json")
				_ = json.NewEncoder(w).Encode(list)
			}))
			defer server.Close()
			w, err := newWatcher(&Options{Client: kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL}), Log: logr.Discard()})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if !w.watchServiceCIDRs(ctx) {
				t.Fatalf("%d answers are none to go on with", asked.Load())
			}
			if watched := w.serviceCIDRs != nil; watched != test.watched || asked.Load() != test.failures+1 {
				t.Errorf("watched %v after %d questions, want %v after %d", watched, asked.Load(), test.watched, test.failures+1)
			}
		})
	}
}
