package endtoend

import (
	"bufio"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/servicegroup-dev/servicegroup/test/install/manifests"
)

// accounts are those whose rights are looked at.
var accounts = []string{"servicegroup-manager", "servicegroup-agent"}

// unused are rights that are granted and that no request of the run needs, and why they are granted.
var unused = map[string]string{
	"servicegroup-manager: create services":                                      "asked for by the API server on the way of a server-side apply that creates",
	"servicegroup-manager: update services/finalizers":                           "asked for by OwnerReferencesPermissionEnforcement, for blockOwnerDeletion",
	"servicegroup-manager: update net.servicegroup.dev/servicegroups/finalizers": "asked for by OwnerReferencesPermissionEnforcement, for blockOwnerDeletion",
	"servicegroup-manager: patch events.k8s.io/events":                           "an event that is repeated after six minutes",
	"servicegroup-manager: get apps/controllerrevisions":                         "the accepted spec, after a restart while a newer one is refused (test/integration)",
	"servicegroup-manager: patch apps/controllerrevisions":                       "a Service that comes back at other addresses (test/integration)",
	"servicegroup-manager: delete apps/controllerrevisions":                      "the oldest of six accepted specs (test/integration)",
}

// right is a verb on a resource, with the namespace where it holds in but one.
func right(account, verb, group, resource, namespace string) string {
	if group != "" {
		group += "/"
	}
	if namespace != "" {
		namespace = " in " + namespace
	}
	return fmt.Sprintf("%s: %s %s%s%s", account, verb, group, resource, namespace)
}

// granted are the rights that the cluster's RBAC gives the accounts, by bindings to themselves.
func (i *installation) granted() map[string]bool {
	i.t.Helper()
	ctx, api, out := i.t.Context(), i.Kubernetes.RbacV1(), map[string]bool{}
	clusterBindings, err := api.ClusterRoleBindings().List(ctx, metav1.ListOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	for _, binding := range clusterBindings.Items {
		role, err := api.ClusterRoles().Get(ctx, binding.RoleRef.Name, metav1.GetOptions{})
		if account := subject(binding.Subjects); account != nil && err == nil {
			addRules(out, account, role.Rules, "")
		}
	}
	bindings, err := api.RoleBindings("").List(ctx, metav1.ListOptions{})
	if err != nil {
		i.t.Fatal(err)
	}
	for _, binding := range bindings.Items {
		role, err := api.Roles(binding.Namespace).Get(ctx, binding.RoleRef.Name, metav1.GetOptions{})
		if account := subject(binding.Subjects); account != nil && err == nil {
			addRules(out, account, role.Rules, binding.Namespace)
		}
	}
	return out
}

// subject are those of the accounts that a binding is for.
func subject(subjects []rbacv1.Subject) (out []string) {
	for _, s := range subjects {
		if s.Kind == rbacv1.ServiceAccountKind && s.Namespace == manifests.Namespace && slices.Contains(accounts, s.Name) {
			out = append(out, s.Name)
		}
	}
	return out
}

func addRules(out map[string]bool, accounts []string, rules []rbacv1.PolicyRule, namespace string) {
	for _, account := range accounts {
		for _, rule := range rules {
			for _, group := range rule.APIGroups {
				for _, resource := range rule.Resources {
					for _, verb := range rule.Verbs {
						out[right(account, verb, group, resource, namespace)] = true
					}
				}
			}
		}
	}
}

// request is a line of the audit log.
type request struct {
	Verb string
	User struct{ Username string }
	// ObjectRef is absent for what is no resource, which discovery allows to everybody.
	ObjectRef *struct{ Resource, Subresource, APIGroup, Namespace, Name string }

	ResponseStatus struct {
		Code    int32
		Message string
	}
}

// used are the rights that the accounts' requests needed: the cluster-wide one where it is granted, else
// that in the request's namespace. A request that RBAC refused fails the test.
func (i *installation) used(granted map[string]bool) map[string]bool {
	i.t.Helper()
	file, err := os.Open(i.ControlPlane.AuditLogPath())
	if err != nil {
		i.t.Fatal(err)
	}
	defer file.Close()
	out := map[string]bool{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<24)
	for lines.Scan() {
		var line request
		if err := json.Unmarshal(lines.Bytes(), &line); err != nil {
			i.t.Fatalf("reading the audit log: %v", err)
		}
		account, ours := strings.CutPrefix(line.User.Username, "system:serviceaccount:"+manifests.Namespace+":")
		if !ours || !slices.Contains(accounts, account) || line.ObjectRef == nil {
			continue
		}
		o := line.ObjectRef
		resource := o.Resource
		if o.Subresource != "" {
			resource += "/" + o.Subresource
		}
		if line.ResponseStatus.Code == 403 {
			i.t.Errorf("%s was refused to %s %s %s/%s: %s", account, line.Verb, resource, o.Namespace, o.Name, line.ResponseStatus.Message)
		}
		used := right(account, line.Verb, o.APIGroup, resource, "")
		if !granted[used] {
			used = right(account, line.Verb, o.APIGroup, resource, o.Namespace)
		}
		out[used] = true
		if line.Verb == "watch" {
			// An API server without streaming lists is listed before it is watched.
			out[strings.Replace(used, ": watch ", ": list ", 1)] = true
		}
	}
	if err := lines.Err(); err != nil {
		i.t.Fatalf("reading the audit log: %v", err)
	}
	return out
}

// difference returns what a has and b has not.
func difference[A, B any](a map[string]A, b map[string]B) (out []string) {
	for _, name := range slices.Sorted(maps.Keys(a)) {
		if _, there := b[name]; !there {
			out = append(out, name)
		}
	}
	return out
}
