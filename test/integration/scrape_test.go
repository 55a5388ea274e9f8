package integration

import (
	"net/http"
	"net/http/httptest"

	"github.com/go-logr/logr"
	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/servicegroup-dev/servicegroup/internal/scrape"
)

// tokenOf makes a service account and returns a token of it.
func tokenOf(name string) string {
	GinkgoHelper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	Expect(k8s.Create(ctx, account)).To(Succeed())
	request := &authenticationv1.TokenRequest{}
	Expect(k8s.SubResource("token").Create(ctx, account, request)).To(Succeed())
	return request.Status.Token
}

var _ = Describe("The metrics", func() {
	// ask asks for a path of a server whose guard reaches the API server by config.
	ask := func(config *rest.Config, path, authorization string) int {
		GinkgoHelper()
		client, err := rest.HTTPClientFor(config)
		Expect(err).NotTo(HaveOccurred())
		filter, err := scrape.WithReviews(config, client)
		Expect(err).NotTo(HaveOccurred())
		handler, err := filter(logr.Discard(), http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		Expect(err).NotTo(HaveOccurred())
		request := httptest.NewRequest(http.MethodGet, path, nil)
		if authorization != "" {
			request.Header.Set("Authorization", authorization)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		return answer.Code
	}

	It("are for those whom RBAC allows to get them", func() {
		reader, stranger := tokenOf("reader"), tokenOf("stranger")
		role := &rbacv1.ClusterRole{
			ObjectMeta: metav1.ObjectMeta{Name: namespace + "-metrics-reader"},
			Rules:      []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}},
		}
		Expect(k8s.Create(ctx, role)).To(Succeed())
		DeferCleanup(func() { Expect(k8s.Delete(ctx, role)).To(Succeed()) })
		binding := &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: role.Name},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role.Name},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: "reader"}},
		}
		Expect(k8s.Create(ctx, binding)).To(Succeed())
		DeferCleanup(func() { Expect(k8s.Delete(ctx, binding)).To(Succeed()) })

		Eventually(ask).WithArguments(cluster.Config, "/metrics", "Bearer "+reader).Should(Equal(http.StatusOK))
		Expect(ask(cluster.Config, "/proxyMode", "Bearer "+reader)).To(Equal(http.StatusForbidden))
		Expect(ask(cluster.Config, "/metrics", "Bearer "+stranger)).To(Equal(http.StatusForbidden))
		Expect(ask(cluster.Config, "/metrics", "Bearer "+reader+"x")).To(Equal(http.StatusUnauthorized))
		Expect(ask(cluster.Config, "/metrics", "Basic "+reader)).To(Equal(http.StatusUnauthorized))
		Expect(ask(cluster.Config, "/metrics", "")).To(Equal(http.StatusUnauthorized))
	})

	It("are refused while the API server cannot be asked", func() {
		nobody := rest.CopyConfig(cluster.Config)
		nobody.Host = "127.0.0.1:1"
		Expect(ask(nobody, "/metrics", "Bearer x")).To(Equal(http.StatusInternalServerError))
	})
})
