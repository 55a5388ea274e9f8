package endtoend

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// newReader makes a service account that may read the metrics, and returns its token.
func (i *installation) newReader() string {
	i.t.Helper()
	ctx := i.t.Context()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: "prometheus"}}
	if _, err := i.Kubernetes.CoreV1().ServiceAccounts(manifests.Namespace).Create(ctx, account, metav1.CreateOptions{}); err != nil {
		i.t.Fatal(err)
	}
	binding := &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "prometheus"},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "servicegroup-metrics-reader"},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: manifests.Namespace, Name: account.Name}},
	}
	if _, err := i.Kubernetes.RbacV1().ClusterRoleBindings().Create(ctx, binding, metav1.CreateOptions{}); err != nil {
		i.t.Fatal(err)
	}
	return i.token(account.Name, nil)
}

// scrape reads the metrics as Prometheus does.
func (i *installation) scrape(ctx context.Context, of program, token string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	client := of.host.HTTPClient(false)
	client.Transport.(*http.Transport).TLSClientConfig = &tls.Config{InsecureSkipVerify: true} // self-signed
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+lab.HostPort(of.host.IPv4, of.metrics)+"/metrics", nil)
	if err != nil {
		return "", err
	}
	if token != "" {
		request.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := client.Do(request)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s answers %s: %s", of.Name, response.Status, body)
	}
	return string(body), err
}

// addMetrics checks who may read the metrics, and notes the names that are there.
func (i *installation) addMetrics(there map[string]bool, programs ...program) {
	i.t.Helper()
	for _, of := range programs {
		for token, status := range map[string]string{"": "401", i.token("default", nil): "403"} {
			if _, err := i.scrape(i.t.Context(), of, token); err == nil || !strings.Contains(err.Error(), status) {
				i.t.Errorf("reading the metrics of %s: %v, want status %s", of.Name, err, status)
			}
		}
		text, err := i.scrape(i.t.Context(), of, i.reader)
		if err != nil {
			i.t.Fatal(err)
		}
		for line := range strings.Lines(text) {
			if fields := strings.Fields(line); len(fields) > 2 && fields[1] == "TYPE" {
				there[fields[2]] = true
			}
		}
	}
}

// expectMetrics checks that every metric that alerts and dashboard ask for was there.
func expectMetrics(t *testing.T, there map[string]bool) {
	t.Helper()
	wanted, err := manifests.Metrics()
	if err != nil {
		t.Fatal(err)
	}
	there["up"] = true // Prometheus' own
	for name, where := range wanted {
		if !there[name] {
			t.Errorf("%s asks for %s, which neither manager nor agent has", where, name)
		}
	}
}

// expectProfiles checks that a program serves Go's profiles on its loopback, or that it does not.
func (i *installation) expectProfiles(of program, on bool) {
	i.t.Helper()
	response, err := of.host.HTTPClient(false).Get("http://127.0.0.1:6060/debug/pprof/")
	if err == nil {
		defer response.Body.Close()
	}
	if served := err == nil && response.StatusCode == http.StatusOK; served != on {
		i.t.Errorf("%s serves profiles: %v (%v), want %v", of.Name, served, err, on)
	}
}
