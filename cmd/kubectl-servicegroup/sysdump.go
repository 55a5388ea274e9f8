package main

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/describe"
)

// logLines is how much of each log goes into a dump.
const logLines = 10_000

func newSysdumpCommand(p *plugin) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "sysdump",
		Short: "Collect what a bug report needs into a tarball, without secrets",
		Long: "Collect what a bug report needs into a tarball: ServiceGroups, the Services, EndpointSlices and ControllerRevisions made for them, events, what every agent believes" +
			" and its kernel holds, logs and versions. With -n only the ServiceGroups of that namespace." +
			"\n\nSecrets are not read. Values of environment variables, annotations of others, and of pods all but labels, node, ports and status are left out. Look" +
			" through it all the same before you publish it: names and addresses are in it.",
		Example:           "  kubectl servicegroup sysdump\n  kubectl servicegroup sysdump -n shop -f - | tar -tz",
		ValidArgsFunction: cobra.NoFileCompletions,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return misusef("sysdump takes no name; choose a namespace with -n")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				file = "servicegroup-sysdump-" + time.Now().UTC().Format("20060102-150405") + ".tar.gz"
			}
			c, err := p.connect(debuggerRole)
			if err != nil {
				return err
			}
			d := &sysdump{cluster: c, at: time.Now()}
			if p.config.Namespace != nil {
				d.only = *p.config.Namespace
			}
			if err := d.collect(cmd.Context()); err != nil {
				return err
			}
			return p.save(file, d)
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to write, - for standard output; default: servicegroup-sysdump-TIME.tar.gz")
	return cmd
}

// sysdump is files on their way into a tarball.
type sysdump struct {
	*cluster
	at time.Time
	// only is the namespace whose ServiceGroups are wanted; empty for all.
	only string

	mu       sync.Mutex
	files    map[string][]byte
	problems []string
}

func (d *sysdump) add(name string, content []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files == nil {
		d.files = map[string][]byte{}
	}
	d.files[name] = content
}

// failed notes what could not be collected; the rest is worth having.
func (d *sysdump) failed(what string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.problems = append(d.problems, what+": "+err.Error())
}

// collect reads everything. The error says that there is nothing to be had.
func (d *sysdump) collect(ctx context.Context) error {
	groups, err := d.listGroups(ctx, d.only, "")
	if err != nil {
		return err
	}
	namespaces := map[string]bool{}
	for i := range groups {
		namespaces[groups[i].Namespace] = true
	}
	pods, err := d.agentPods(ctx)
	if err != nil {
		return err
	}
	d.collectObjects(ctx, namespaces)
	d.collectVersions()
	askEach(pods, func(node string, pod *corev1.Pod) { d.collectAgent(ctx, node, pod) })
	managers, err := d.CoreV1().Pods(d.agentNamespace).List(ctx, metav1.ListOptions{LabelSelector: managerSelector})
	if err != nil {
		d.failed("managers", err)
		managers = &corev1.PodList{}
	}
	for i := range managers.Items {
		d.collectLog(ctx, "managers/"+managers.Items[i].Name, &managers.Items[i], "manager")
	}
	slices.Sort(d.problems)
	d.add("problems.txt", []byte(strings.Join(append(d.problems, ""), "\n")))
	return ctx.Err()
}

func (d *sysdump) collectVersions() {
	text := "kubectl-servicegroup " + version + "\n"
	server, err := d.Discovery().ServerVersion()
	if err != nil {
		d.failed("version of the API server", err)
	} else {
		text += "kube-apiserver " + server.GitVersion + "\n"
	}
	d.add("versions.txt", []byte(text))
}

// collection is objects to collect.
type collection struct {
	file, group, version, resource, namespace, labels, fields string
	ours                                                      bool
}

func (d *sysdump) collections(namespaces map[string]bool) []collection {
	const made, project = v1alpha1.LabelServiceGroup, "app.kubernetes.io/name=servicegroup"
	own := v1alpha1.GroupVersion
	list := []collection{
		{file: "servicegroups", group: own.Group, version: own.Version, resource: servicegroups, namespace: d.only},
		{file: "services", version: "v1", resource: "services", namespace: d.only, labels: made},
		{file: "endpointslices", group: "discovery.k8s.io", version: "v1", resource: "endpointslices", namespace: d.only, labels: made},
		{file: "controllerrevisions", group: "apps", version: "v1", resource: "controllerrevisions", namespace: d.only, labels: made},
		{file: "leases", group: "coordination.k8s.io", version: "v1", resource: "leases", namespace: d.agentNamespace, labels: v1alpha1.LabelAgent + "=true"},
		{file: "nodes", version: "v1", resource: "nodes"},
		{file: "crd", group: "apiextensions.k8s.io", version: "v1", resource: "customresourcedefinitions", fields: "metadata.name=" + servicegroups + "." + own.Group},
		{file: "installation/pods", version: "v1", resource: "pods", namespace: d.agentNamespace, labels: project, ours: true},
		{file: "installation/deployments", group: "apps", version: "v1", resource: "deployments", namespace: d.agentNamespace, labels: project, ours: true},
		{file: "installation/daemonsets", group: "apps", version: "v1", resource: "daemonsets", namespace: d.agentNamespace, labels: project, ours: true},
		{file: "events", version: "v1", resource: "events", namespace: d.only, fields: "involvedObject.kind=ServiceGroup"},
	}
	for namespace := range namespaces {
		list = append(list, collection{file: "pods/" + namespace, version: "v1", resource: "pods", namespace: namespace})
	}
	return list
}

func (d *sysdump) collectObjects(ctx context.Context, namespaces map[string]bool) {
	client, err := dynamic.NewForConfig(d.config)
	if err != nil {
		d.failed("objects", err)
		return
	}
	for _, what := range d.collections(namespaces) {
		resource := schema.GroupVersionResource{Group: what.group, Version: what.version, Resource: what.resource}
		found, err := client.Resource(resource).Namespace(what.namespace).List(ctx, metav1.ListOptions{LabelSelector: what.labels, FieldSelector: what.fields})
		if err != nil {
			d.failed(what.file, d.complain("listing "+what.resource, err))
			continue
		}
		d.addObjects(what, found)
	}
}

func (d *sysdump) addObjects(what collection, found *unstructured.UnstructuredList) {
	for i := range found.Items {
		describe.Redact(found.Items[i].Object, what.ours)
	}
	text, err := yaml.Marshal(found.UnstructuredContent())
	if err != nil {
		d.failed(what.file, err)
		return
	}
	d.add(what.file+".yaml", text)
}

func (d *sysdump) collectAgent(ctx context.Context, node string, pod *corev1.Pod) {
	folder := "agents/" + node
	for file, args := range map[string][]string{
		"dump.json":  {"dump", "-o", "json"},
		"check.json": {"check", "-o", "json"},
	} {
		out, err := d.exec(ctx, pod, append([]string{"/servicegroup", "agent"}, args...))
		if err != nil {
			d.failed(folder+"/"+file, err)
			continue
		}
		d.add(folder+"/"+file, out)
	}
	d.collectLog(ctx, folder, pod, agentContainer(pod))
}

// collectLog reads the log of a container, and that of the one before it if it was started anew.
func (d *sysdump) collectLog(ctx context.Context, folder string, pod *corev1.Pod, container string) {
	tail := int64(logLines)
	logs := map[string]*corev1.PodLogOptions{"log.txt": {Container: container, TailLines: &tail}}
	if slices.ContainsFunc(pod.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.RestartCount > 0 }) {
		logs["log-previous.txt"] = &corev1.PodLogOptions{Container: container, TailLines: &tail, Previous: true}
	}
	for file, options := range logs {
		out, err := d.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, options).DoRaw(ctx)
		if err != nil {
			d.failed(folder+"/"+file, err)
			continue
		}
		d.add(folder+"/"+file, out)
	}
}

// save writes the tarball and says what is in it.
func (p *plugin) save(name string, d *sysdump) error {
	out := p.Out
	if name != "-" {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if err != nil {
			return fmt.Errorf("writing the dump, name another file with -f: %w", err)
		}
		defer file.Close()
		out = file
	}
	if err := d.write(out); err != nil {
		return fmt.Errorf("writing the dump: %w", err)
	}
	if name != "-" {
		fmt.Fprintf(p.Out, "wrote %s: %d files\n", name, len(d.files))
	}
	for _, problem := range d.problems {
		fmt.Fprintf(p.ErrOut, "left out: %s\n", problem)
	}
	return nil
}

func (d *sysdump) write(out io.Writer) error {
	compressed := gzip.NewWriter(out)
	archive := tar.NewWriter(compressed)
	names := make([]string, 0, len(d.files))
	for name := range d.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		content := d.files[name]
		header := &tar.Header{Name: path.Join("servicegroup-sysdump", name), Mode: 0o600, Size: int64(len(content)), ModTime: d.at}
		if err := archive.WriteHeader(header); err != nil {
			return err
		}
		if _, err := archive.Write(content); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return err
	}
	return compressed.Close()
}
