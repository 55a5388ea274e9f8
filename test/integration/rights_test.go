package integration

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	. "github.com/onsi/gomega"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

// askedByAdmission are rights that the API server asks for on the way of another request, and those
// that only a series of equal events needs.
var askedByAdmission = map[string]bool{
	"create services":            true, // of a server-side apply that creates
	"delete services":            true, // OwnerReferencesPermissionEnforcement
	"update services/finalizers": true, // OwnerReferencesPermissionEnforcement
	"update net.servicegroup.dev/servicegroups/finalizers": true, // OwnerReferencesPermissionEnforcement
	"patch events.k8s.io/events":                           true,
}

// note remembers a right that the manager used.
func (c *writeCounter) note(right string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.rights == nil {
		c.rights = map[string]bool{}
	}
	c.rights[right] = true
}

// rightFor is the right a request needs, as "verb group/resource".
func rightFor(req *http.Request) string {
	parts := strings.Split(strings.Trim(req.URL.Path, "/"), "/")
	group := ""
	if parts[0] == "apis" && len(parts) > 1 {
		group, parts = parts[1]+"/", parts[1:]
	}
	if len(parts) < 3 {
		return "discovery"
	}
	parts = parts[2:]
	if parts[0] == "namespaces" && len(parts) > 2 {
		parts = parts[2:]
	}
	resource := group + parts[0]
	if len(parts) > 2 {
		resource += "/" + parts[2]
	}
	verbs := map[string]string{http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete"}
	verb := verbs[req.Method]
	switch {
	case verb != "":
	case req.URL.Query().Get("watch") != "":
		verb = "watch"
	case len(parts) > 1:
		verb = "get"
	default:
		verb = "list"
	}
	return verb + " " + resource
}

// granted are the rights of config/rbac/role.yaml.
func granted() map[string]bool {
	text, err := os.ReadFile(filepath.Join(moduleRoot, "config", "rbac", "role.yaml"))
	Expect(err).NotTo(HaveOccurred())
	role := &rbacv1.ClusterRole{}
	Expect(yaml.UnmarshalStrict(text, role)).To(Succeed())
	rights := map[string]bool{}
	for _, rule := range role.Rules {
		for _, group := range rule.APIGroups {
			if group != "" {
				group += "/"
			}
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					rights[verb+" "+group+resource] = true
				}
			}
		}
	}
	return rights
}

// The manager is granted what it uses and nothing else. Only a run of the whole suite can tell.
var _ = ReportAfterSuite("rights granted are rights used", func(report Report) {
	ran := slices.ContainsFunc(report.SpecReports, func(r SpecReport) bool { return r.State.Is(types.SpecStatePassed) })
	whole := !slices.ContainsFunc(report.SpecReports, func(r SpecReport) bool {
		return r.LeafNodeType.Is(types.NodeTypeIt) && !r.State.Is(types.SpecStatePassed)
	})
	if !ran || !whole {
		return
	}
	used := map[string]bool{}
	maps.Copy(used, askedByAdmission)
	maps.Copy(used, writes.rights)
	for right := range writes.rights {
		// An API server without streaming lists is listed before it is watched.
		if resource, ok := strings.CutPrefix(right, "watch "); ok {
			used["list "+resource] = true
		}
	}
	delete(used, "discovery")
	delete(used, "list coordination.k8s.io/leases") // of a Role in the manager's own namespace
	delete(used, "watch coordination.k8s.io/leases")
	Expect(slices.Sorted(maps.Keys(granted()))).To(Equal(slices.Sorted(maps.Keys(used))))
})
