package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
	"github.com/servicegroup-dev/servicegroup/internal/plan"
)

// plugin is what all commands share.
type plugin struct {
	genericiooptions.IOStreams
	config *genericclioptions.ConfigFlags
	// agentNamespace is where the agents are looked for; empty for everywhere.
	agentNamespace string
}

// cluster is a connection to an API server.
type cluster struct {
	kubernetes.Interface
	config    *rest.Config
	namespace string
	// groups is the client for ServiceGroups.
	groups         rest.Interface
	agentNamespace string
	// role is what the command needs.
	role string
}

const servicegroups = "servicegroups"

// connect reads the kubeconfig; it asks the API server nothing yet. The role is what the command needs.
func (p *plugin) connect(role string) (*cluster, error) {
	namespace, _, err := p.config.ToRawKubeConfigLoader().Namespace()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig, name one with --kubeconfig: %w", err)
	}
	config, err := p.config.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("reading the kubeconfig, name one with --kubeconfig: %w", err)
	}
	config.UserAgent = "kubectl-servicegroup/" + version
	c := &cluster{config: config, namespace: namespace, agentNamespace: p.agentNamespace, role: role}
	if c.Interface, err = kubernetes.NewForConfig(config); err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	scheme := runtime.NewScheme()
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	metav1.AddToGroupVersion(scheme, v1alpha1.GroupVersion)
	own := rest.CopyConfig(config)
	own.GroupVersion, own.APIPath = &v1alpha1.GroupVersion, "/apis"
	own.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	if c.groups, err = rest.RESTClientFor(own); err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	return c, nil
}

// group gets a ServiceGroup. Where there is none of the name, the error says which there are.
func (c *cluster) group(ctx context.Context, name string) (*v1alpha1.ServiceGroup, error) {
	sg := &v1alpha1.ServiceGroup{}
	err := c.groups.Get().Namespace(c.namespace).Resource(servicegroups).Name(name).Do(ctx).Into(sg)
	if err == nil {
		return sg, nil
	}
	if !apierrors.IsNotFound(err) {
		return nil, c.complain("getting ServiceGroup "+name, err)
	}
	all, err := c.listGroups(ctx, c.namespace, "")
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(all))
	for i := range all {
		names = append(names, all[i].Name)
	}
	return nil, describe.Unknown("ServiceGroup", name, c.namespace, names)
}

// listGroups lists the ServiceGroups of a namespace, of all for "", that have the labels of a selector.
func (c *cluster) listGroups(ctx context.Context, namespace, selector string) ([]v1alpha1.ServiceGroup, error) {
	found := &v1alpha1.ServiceGroupList{}
	options := &metav1.ListOptions{LabelSelector: selector}
	err := c.groups.Get().Namespace(namespace).Resource(servicegroups).VersionedParams(options, metav1.ParameterCodec).Do(ctx).Into(found)
	if err != nil {
		return nil, c.complain("listing ServiceGroups", err)
	}
	return found.Items, nil
}

// observe reads a ServiceGroup and what was generated for it. What the user may not read of nodes and
// agents is left out, and the result says so.
func (c *cluster) observe(ctx context.Context, name string) (*describe.Observed, error) {
	sg, err := c.group(ctx, name)
	if err != nil {
		return nil, err
	}
	o := &describe.Observed{Group: sg}
	if err := c.observeService(ctx, o); err != nil {
		return nil, err
	}
	pods, err := c.CoreV1().Pods(c.namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, c.complain("listing pods", err)
	}
	for i := range pods.Items {
		o.Pods = append(o.Pods, &pods.Items[i])
	}
	c.observeNodes(ctx, o)
	return o, nil
}

func (c *cluster) observeService(ctx context.Context, o *describe.Observed) error {
	service, err := c.CoreV1().Services(c.namespace).Get(ctx, o.Group.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err != nil:
		return c.complain("getting Service "+o.Group.Name, err)
	case plan.OwnershipOf(service, o.Group) != plan.Ours:
		return nil
	}
	o.Service = service
	if err := c.observeAccepted(ctx, o); err != nil {
		return err
	}
	found, err := c.DiscoveryV1().EndpointSlices(c.namespace).List(ctx, metav1.ListOptions{
		LabelSelector: discoveryv1.LabelServiceName + "=" + o.Group.Name,
	})
	if err != nil {
		return c.complain("listing EndpointSlices", err)
	}
	for i := range found.Items {
		o.Slices = append(o.Slices, &found.Items[i])
	}
	return nil
}

// observeAccepted reads the spec that was accepted last. Who may not read it sees the newest one.
func (c *cluster) observeAccepted(ctx context.Context, o *describe.Observed) error {
	revisions, err := c.revisions(ctx, o.Group)
	if apierrors.IsForbidden(err) {
		o.Unread = append(o.Unread, "which spec is served: "+c.complain("listing ControllerRevisions", err).Error())
		return nil
	}
	if err != nil {
		return c.complain("listing ControllerRevisions", err)
	}
	if n := len(revisions); n > 0 {
		o.Accepted, o.Revision = revisions[n-1].Spec, revisions[n-1].Number
	}
	return nil
}

// revisions are the accepted specs of a ServiceGroup, the oldest first.
func (c *cluster) revisions(ctx context.Context, sg *v1alpha1.ServiceGroup) ([]describe.Revision, error) {
	found, err := c.AppsV1().ControllerRevisions(sg.Namespace).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelServiceGroup + "=" + sg.Name})
	if err != nil {
		return nil, err
	}
	return describe.RevisionsOf(found.Items, sg), nil
}

func (c *cluster) observeNodes(ctx context.Context, o *describe.Observed) {
	o.Nodes = plan.Nodes{}
	nodes, err := c.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		o.ReportsUnread = true
		o.Unread = append(o.Unread, "how far each node is: "+c.complain("listing nodes", err).Error())
		for _, pod := range o.Pods {
			if pod.Spec.NodeName != "" { // taken on trust
				o.Nodes[pod.Spec.NodeName] = &corev1.Node{}
			}
		}
		return
	}
	for i := range nodes.Items {
		o.Nodes[nodes.Items[i].Name] = &nodes.Items[i]
	}
	leases, err := c.CoordinationV1().Leases(c.agentNamespace).List(ctx, metav1.ListOptions{LabelSelector: v1alpha1.LabelAgent + "=true"})
	if err != nil {
		o.ReportsUnread = true
		o.Unread = append(o.Unread, "how far each node is: "+c.complain("listing leases", err).Error())
		return
	}
	for i := range leases.Items {
		if report, ok := reportOf(&leases.Items[i], time.Now()); ok {
			o.Reports = append(o.Reports, report)
		}
	}
}

func reportOf(lease *coordinationv1.Lease, now time.Time) (describe.Report, bool) {
	node, ok := plan.NodeOfLease(lease.Name)
	if !ok || lease.Spec.RenewTime == nil || lease.Spec.LeaseDurationSeconds == nil {
		return describe.Report{}, false
	}
	return describe.Report{
		Node: node, Stale: now.After(lease.Spec.RenewTime.Add(time.Duration(*lease.Spec.LeaseDurationSeconds) * time.Second)),
		Programmed: plan.ReportedRevisions(lease.Annotations),
	}, true
}

// aboutOne completes a command whose argument is the name of a ServiceGroup, and which a viewer may run.
func (p *plugin) aboutOne(cmd *cobra.Command, run func(ctx context.Context, c *cluster, name string) error) *cobra.Command {
	return p.aboutOneAs(viewerRole, cmd, run)
}

// aboutOneAs completes a command whose argument is the name of a ServiceGroup, and which takes a role.
func (p *plugin) aboutOneAs(role string, cmd *cobra.Command, run func(ctx context.Context, c *cluster, name string) error) *cobra.Command {
	cmd.ValidArgsFunction = p.completeGroups
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return misusef("name one ServiceGroup, such as web")
		}
		_, err := groupName(args[0])
		return err
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := groupName(args[0])
		if err != nil {
			return err
		}
		c, err := p.connect(role)
		if err != nil {
			return err
		}
		return run(cmd.Context(), c, name)
	}
	return cmd
}

// groupName reads NAME, and with the kind in front of it as kubectl takes it.
func groupName(arg string) (string, error) {
	kind, name, found := strings.Cut(arg, "/")
	if !found {
		kind, name = "svcg", arg
	}
	switch kind {
	case "svcg", "servicegroup", servicegroups:
	default:
		return "", misusef("%s: name a ServiceGroup, such as web", arg)
	}
	if name == "" || strings.Contains(name, "/") {
		return "", misusef("%q is not the name of a ServiceGroup; name one, such as web", arg)
	}
	return name, nil
}
