// Command ruleset-dump prints the nftables that the agent would program for Services and EndpointSlices
// in YAML files, without a cluster and without touching the host's rules:
//
//	kubectl get services,endpointslices -A -o yaml > bug.yaml
//	go run ./hack/ruleset-dump -node node1 -node-address 192.168.0.1 bug.yaml
//
// Every Service in the files is taken, whatever proxy it is meant for. Endpoints in the ranges of ServiceCIDRs
// in the files are left out, as the agent does. It needs nft.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ruleset-dump:", err)
		os.Exit(1)
	}
}

func run() error {
	node := proxy.Node{}
	var addresses string
	flag.StringVar(&node.Name, "node", "", "name of the node, which decides what is local")
	flag.StringVar(&node.Zone, "zone", "", "zone of the node, for topology hints")
	flag.StringVar(&addresses, "node-address", "", "addresses of the node that answer on NodePorts, separated by commas")
	flag.Parse()
	for _, text := range strings.FieldsFunc(addresses, func(r rune) bool { return r == ',' }) {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return fmt.Errorf("-node-address: %w", err)
		}
		node.NodePortAddresses = append(node.NodePortAddresses, addr)
	}
	objects := &objects{services: map[types.NamespacedName]*corev1.Service{}, slices: map[types.NamespacedName][]*discoveryv1.EndpointSlice{}}
	if err := objects.readFiles(flag.Args()); err != nil {
		return err
	}
	// In a namespace of its own: the kernel says what the tables are, and the host's stay as they are.
	if err := lab.Enter(); err != nil {
		return err
	}
	return program(os.Stdout, objects.build(node))
}

func program(out io.Writer, services map[types.NamespacedName]*proxy.Service) error {
	tables, err := nft.Open(nft.Layout{})
	if err != nil {
		return err
	}
	defer tables.Close()
	change := ruleset.NewState().Apply(ruleset.Update{Services: services}).Change
	if err := tables.Replace(&change); err != nil {
		return err
	}
	list := exec.Command("nft", "-s", "list", "ruleset")
	list.Stdout, list.Stderr = out, os.Stderr
	if err := list.Run(); err != nil {
		return fmt.Errorf("listing with nft (get it with: apt-get install nftables): %w", err)
	}
	return nil
}

// objects are what the files hold.
type objects struct {
	services map[types.NamespacedName]*corev1.Service
	slices   map[types.NamespacedName][]*discoveryv1.EndpointSlice
	// serviceCIDRs are the ranges of virtual IPs.
	serviceCIDRs []netip.Prefix
}

func (o *objects) readFiles(paths []string) error {
	if len(paths) == 0 {
		return errors.New("name the files with Services and EndpointSlices")
	}
	for _, path := range paths {
		content, err := os.ReadFile(path)
		if err == nil {
			err = o.read(content)
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
	return nil
}

// read takes every document, and every item of a List.
func (o *objects) read(content []byte) error {
	decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4<<10)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(&object.Object)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		case !object.IsList():
			if err := o.add(object); err != nil {
				return err
			}
			continue
		}
		err = object.EachListItem(func(item runtime.Object) error { return o.add(item.(*unstructured.Unstructured)) })
		if err != nil {
			return err
		}
	}
}

func (o *objects) add(object *unstructured.Unstructured) error {
	convert := runtime.DefaultUnstructuredConverter.FromUnstructured
	switch object.GetKind() {
	case "Service":
		service := &corev1.Service{}
		if err := convert(object.Object, service); err != nil {
			return fmt.Errorf("reading Service %s: %w", object.GetName(), err)
		}
		o.services[types.NamespacedName{Namespace: service.Namespace, Name: service.Name}] = service
	case "EndpointSlice":
		slice := &discoveryv1.EndpointSlice{}
		if err := convert(object.Object, slice); err != nil {
			return fmt.Errorf("reading EndpointSlice %s: %w", object.GetName(), err)
		}
		name := types.NamespacedName{Namespace: slice.Namespace, Name: slice.Labels[discoveryv1.LabelServiceName]}
		o.slices[name] = append(o.slices[name], slice)
	case "ServiceCIDR":
		ranges := &networkingv1.ServiceCIDR{}
		if err := convert(object.Object, ranges); err != nil {
			return fmt.Errorf("reading ServiceCIDR %s: %w", object.GetName(), err)
		}
		for _, text := range ranges.Spec.CIDRs {
			prefix, err := netip.ParsePrefix(text)
			if err != nil {
				return fmt.Errorf("reading ServiceCIDR %s: %w", object.GetName(), err)
			}
			o.serviceCIDRs = append(o.serviceCIDRs, prefix)
		}
	}
	return nil
}

func (o *objects) build(node proxy.Node) map[types.NamespacedName]*proxy.Service {
	node.ServiceCIDRs = o.serviceCIDRs
	out := map[types.NamespacedName]*proxy.Service{}
	for name, service := range o.services {
		built := proxy.Build(service, o.slices[name], node)
		out[name] = &built
	}
	return out
}
