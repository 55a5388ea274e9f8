package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
)

// misuse is an error of the command line.
type misuse struct{ error }

func misusef(format string, args ...any) error { return misuse{fmt.Errorf(format, args...)} }

// errFailed says that what there is to say was printed, and that it is bad.
var errFailed = errors.New("failed")

func statusOf(err error) int {
	var wrong misuse
	switch {
	case err == nil:
		return 0
	case errors.As(err, &wrong):
		return 2
	}
	return 1
}

// complain says in one sentence what the API server did not do, and the remedy.
func (c *cluster) complain(doing string, err error) error {
	var status apierrors.APIStatus
	var unreachable *url.Error
	switch {
	case errors.Is(err, context.Canceled):
		return err
	case apierrors.IsForbidden(err) && errors.As(err, &status):
		return fmt.Errorf("%s: you may not: %w; ask who runs the cluster for the role %s", doing, err, c.roleFor(status.Status()))
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server %s does not know you; log in again, or name another user with --user or --context", doing, c.config.Host)
	case apierrors.IsNotFound(err) && errors.As(err, &status) && isMissingKind(status.Status()):
		return fmt.Errorf("%s: ServiceGroups are not installed in this cluster; install them, or name another cluster with --context", doing)
	case clientcmd.IsEmptyConfig(err):
		return errors.New("no cluster is configured; name a file with --kubeconfig or KUBECONFIG")
	case errors.As(err, &unreachable):
		return fmt.Errorf("the API server %s cannot be reached (%w); check the network, --kubeconfig and --context", c.config.Host, unreachable.Err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// The roles that come with an installation (config/rbac). The debugger's is a ClusterRole, and a Role in the
// agents' namespace.
const (
	viewerRole   = "servicegroup-viewer"
	editorRole   = "servicegroup-editor"
	debuggerRole = "servicegroup-debugger"
)

// viewed is what the viewer's role lets read.
var viewed = []string{servicegroups, "services", "endpointslices", "pods", "controllerrevisions"}

// roleFor is the role that the command needs to be given what was refused to it.
func (c *cluster) roleFor(status metav1.Status) string {
	if status.Details != nil && slices.Contains(viewed, status.Details.Kind) {
		return c.role
	}
	return debuggerRole
}

// isMissingKind says whether a 404 is about the resource and not about one object of it.
func isMissingKind(status metav1.Status) bool {
	return status.Details == nil || status.Details.Name == "" || strings.Contains(status.Message, "could not find the requested resource")
}
