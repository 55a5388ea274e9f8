package scrape

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/cache"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
)

const (
	// allowedFor and refusedFor are how long an answer is remembered: how late a withdrawn right is
	// noticed, and a granted one.
	allowedFor = time.Minute
	refusedFor = 10 * time.Second
	// remembered bounds the memory that strangers can fill.
	remembered = 1024
	// reviewTimeout bounds both reviews of a request.
	reviewTimeout = 10 * time.Second
)

// guard asks the API server about the bearers of tokens.
type guard struct {
	client  kubernetes.Interface
	answers *cache.LRUExpireCache // of a token, verb and path: the HTTP status
}

// WithReviews is a metricsserver.Options.FilterProvider that needs the rights to create TokenReviews and
// SubjectAccessReviews.
func WithReviews(config *rest.Config, client *http.Client) (metricsserver.Filter, error) {
	reviews, err := kubernetes.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	g := &guard{client: reviews, answers: cache.NewLRUExpireCache(remembered)}
	return g.filter, nil
}

func (g *guard) filter(log logr.Logger, next http.Handler) (http.Handler, error) {
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		status, err := g.answer(request)
		if err != nil {
			log.Error(err, "Whether the metrics may be read could not be found out", "path", request.URL.Path)
		}
		if status != http.StatusOK {
			http.Error(w, http.StatusText(status), status)
			return
		}
		next.ServeHTTP(w, request)
	}), nil
}

// answer returns the HTTP status with which to answer; 200 lets the request pass.
func (g *guard) answer(request *http.Request) (int, error) {
	scheme, token, _ := strings.Cut(request.Header.Get("Authorization"), " ")
	if token = strings.TrimSpace(token); !strings.EqualFold(scheme, "Bearer") || token == "" {
		return http.StatusUnauthorized, nil
	}
	verb := strings.ToLower(request.Method)
	// The hash keeps tokens out of the memory that a core dump shows.
	key := sha256.Sum256([]byte(verb + " " + request.URL.Path + " " + token))
	if status, known := g.answers.Get(key); known {
		return status.(int), nil
	}
	ctx, cancel := context.WithTimeout(request.Context(), reviewTimeout)
	defer cancel()
	status, err := g.review(ctx, token, verb, request.URL.Path)
	if err != nil {
		return http.StatusInternalServerError, err
	}
	keep := refusedFor
	if status == http.StatusOK {
		keep = allowedFor
	}
	g.answers.Add(key, status, keep)
	return status, nil
}

func (g *guard) review(ctx context.Context, token, verb, path string) (int, error) {
	who, err := g.client.AuthenticationV1().TokenReviews().Create(ctx, &authenticationv1.TokenReview{
		Spec: authenticationv1.TokenReviewSpec{Token: token},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("reviewing a token: %w", err)
	}
	if !who.Status.Authenticated {
		return http.StatusUnauthorized, nil
	}
	user := who.Status.User
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	may, err := g.client.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
			NonResourceAttributes: &authorizationv1.NonResourceAttributes{Verb: verb, Path: path},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return 0, fmt.Errorf("reviewing the rights of %s: %w", user.Username, err)
	}
	if !may.Status.Allowed || may.Status.Denied {
		return http.StatusForbidden, nil
	}
	return http.StatusOK, nil
}
