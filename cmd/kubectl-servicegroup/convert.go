package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/servicegroup-dev/servicegroup/api/v1alpha1"
	"github.com/servicegroup-dev/servicegroup/internal/convert"
)

const convertExample = `  # What Service web would be as a ServiceGroup; warnings go to stderr.
  kubectl servicegroup convert svc/web

  # Take it over: same cluster IP, same NodePorts, no connection lost.
  kubectl servicegroup convert svc/web | kubectl apply -f -

  # The same, and kube-proxy goes on serving it.
  kubectl servicegroup convert svc/web --dataplane=Cluster | kubectl apply -f -

  # From a manifest, without a cluster.
  kubectl servicegroup convert -f service.yaml`

type convertOptions struct {
	*plugin
	file      string
	output    string
	dataplane string
}

func newConvertCommand(p *plugin) *cobra.Command {
	o := &convertOptions{plugin: p}
	cmd := &cobra.Command{
		Use:     "convert (svc/NAME | -f FILE)",
		Short:   "Print the ServiceGroup that is equivalent to a Service",
		Long:    "Print the ServiceGroup that is equivalent to a Service, with one group that has the Service's selector.\n\nThat of a Service in the cluster adopts it when it is applied: the Service stays, with its cluster IP and NodePorts, and connections go on.",
		Example: convertExample,

		ValidArgsFunction: p.completeServices,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case o.file == "" && len(args) != 1:
				return misusef("name one Service, such as svc/web, or a file with -f")
			case o.file != "" && len(args) > 0:
				return misusef("give either %s or -f %s, not both", args[0], o.file)
			case o.output != "yaml" && o.output != "json":
				return misusef("-o %s: give yaml or json", o.output)
			case o.dataplane != string(v1alpha1.DataplaneAgent) && o.dataplane != string(v1alpha1.DataplaneCluster):
				return misusef("--dataplane %s: give %s or %s", o.dataplane, v1alpha1.DataplaneAgent, v1alpha1.DataplaneCluster)
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			services, err := o.services(cmd.Context(), args)
			if err != nil {
				return err
			}
			return o.run(services)
		},
	}
	cmd.Flags().StringVarP(&o.file, "filename", "f", "", "file with the Service, or - for standard input, instead of a Service of the cluster")
	cmd.Flags().StringVarP(&o.output, "output", "o", "yaml", "yaml or json")
	cmd.Flags().StringVar(&o.dataplane, "dataplane", string(v1alpha1.DataplaneAgent), "who is to serve it: Agent, or Cluster for the cluster's own service proxy")
	p.withCompletion(cmd, "output", words("yaml", "json"))
	return p.withCompletion(cmd, "dataplane", words(string(v1alpha1.DataplaneAgent), string(v1alpha1.DataplaneCluster)))
}

// services gets the Services to convert.
func (o *convertOptions) services(ctx context.Context, args []string) ([]corev1.Service, error) {
	if o.file != "" {
		return o.readFile()
	}
	name, err := serviceName(args[0])
	if err != nil {
		return nil, err
	}
	c, err := o.connect(viewerRole)
	if err != nil {
		return nil, err
	}
	svc, err := c.CoreV1().Services(c.namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no Service %s in namespace %s; kubectl get services -n %s lists those there are", name, c.namespace, c.namespace)
	}
	if err != nil {
		return nil, c.complain("getting Service "+name+" of namespace "+c.namespace, err)
	}
	svc.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Service"}
	return []corev1.Service{*svc}, nil
}

// serviceName reads NAME, svc/NAME, service/NAME and services/NAME.
func serviceName(arg string) (string, error) {
	kind, name, found := strings.Cut(arg, "/")
	if !found {
		kind, name = "svc", arg
	}
	switch kind {
	case "svc", "service", "services":
	default:
		return "", misusef("%s: only Services can be converted; name one, such as svc/web", arg)
	}
	if name == "" || strings.Contains(name, "/") {
		return "", misusef("%q is not the name of a Service; name one, such as svc/web", arg)
	}
	return name, nil
}

func (o *convertOptions) readFile() ([]corev1.Service, error) {
	in := o.In
	if o.file != "-" {
		file, err := os.Open(o.file)
		if err != nil {
			return nil, fmt.Errorf("reading the Service: %w; name another file with -f", err)
		}
		defer file.Close()
		in = file
	}
	var out []corev1.Service
	decoder := utilyaml.NewYAMLOrJSONDecoder(in, 4096)
	for {
		var raw runtime.RawExtension
		err := decoder.Decode(&raw)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("reading %s, which should be YAML or JSON: %w", o.file, err)
		}
		found, err := servicesIn(raw.Raw)
		if err != nil {
			return nil, fmt.Errorf("reading %s: %w", o.file, err)
		}
		out = append(out, found...)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s holds no Service; give a file with an object of kind Service", o.file)
	}
	return out, nil
}

// servicesIn returns the Services of one document: itself, or the items of a list.
func servicesIn(document []byte) ([]corev1.Service, error) {
	var head struct {
		metav1.TypeMeta `json:",inline"`
		Items           []json.RawMessage `json:"items"`
	}
	if len(document) == 0 || string(document) == "null" {
		return nil, nil
	}
	if err := json.Unmarshal(document, &head); err != nil {
		return nil, err
	}
	if head.APIVersion != "v1" {
		return nil, nil
	}
	var out []corev1.Service
	switch head.Kind {
	case "Service":
		var svc corev1.Service
		if err := json.Unmarshal(document, &svc); err != nil {
			return nil, err
		}
		out = append(out, svc)
	case "List", "ServiceList":
		for _, item := range head.Items {
			found, err := servicesIn(item)
			if err != nil {
				return nil, err
			}
			out = append(out, found...)
		}
	}
	return out, nil
}

// run prints what the Services are as ServiceGroups. One that cannot be converted does not keep the
// others from being printed.
func (o *convertOptions) run(services []corev1.Service) error {
	var failed []error
	printed := 0
	for i := range services {
		svc := &services[i]
		result, err := convert.Service(svc)
		if err != nil {
			failed = append(failed, fmt.Errorf("Service %s: %w", svc.Name, err)) //nolint:staticcheck // the kind is a name
			continue
		}
		if o.dataplane == string(v1alpha1.DataplaneCluster) {
			result.Group.Spec.Dataplane = v1alpha1.DataplaneCluster
		}
		for _, warning := range result.Warnings {
			fmt.Fprintf(o.ErrOut, "warning: Service %s: %s\n", svc.Name, warning)
		}
		text, err := encode(result.Group, o.output)
		if err != nil {
			return err
		}
		if printed > 0 && o.output == "yaml" {
			text = append([]byte("---\n"), text...)
		}
		if _, err := o.Out.Write(text); err != nil {
			return fmt.Errorf("printing the ServiceGroup: %w", err)
		}
		printed++
	}
	return errors.Join(failed...)
}

// encode leaves out what a manifest has no use for.
func encode(sg *v1alpha1.ServiceGroup, format string) ([]byte, error) {
	object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(sg)
	if err != nil {
		return nil, fmt.Errorf("encoding the ServiceGroup: %w", err)
	}
	delete(object, "status")
	if meta, ok := object["metadata"].(map[string]any); ok {
		delete(meta, "creationTimestamp")
	}
	if format == "yaml" {
		return yaml.Marshal(object)
	}
	text, err := json.MarshalIndent(object, "", "  ")
	return append(text, '\n'), err
}
