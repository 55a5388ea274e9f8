package lab

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"k8s.io/client-go/kubernetes"
)

// Lab is a running cluster: a network, a control plane, and nodes whose kubelet the lab plays.
type Lab struct {
	// Network has the nodes, pods and outside clients.
	Network *Network
	// ControlPlane has the API server, its configuration, and the programs on it.
	ControlPlane *ControlPlane
	// Kubernetes is an administrator's client.
	Kubernetes kubernetes.Interface

	options Options

	mu       sync.Mutex
	clients  map[string]*Host
	nextNode int // for pods that name no node
	dns      *Host

	kubelets *kubelets // nil unless asked for

	agents         map[string]*Process // by the name of their node
	manager        *Process            // the last one started
	kubeletServers []*http.Server
}

// Options say what a lab has. The zero value is one node, IPv4 Services, and none of the project's
// programs.
type Options struct {
	ControlPlaneOptions
	// Nodes is the number of nodes; 0 means 1.
	Nodes int
	// Zones are the values of the nodes' zone label, in the order of the nodes; nodes beyond the
	// list, and those with an empty value, have none.
	Zones []string
	// Manager and Agents start the project's operator, and its agent on every node, from
	// bin/servicegroup.
	Manager, Agents bool
	// ManagerArgs and AgentArgs are appended to their command lines.
	ManagerArgs, AgentArgs []string
	// ControllerManager starts kube-controller-manager.
	ControllerManager bool
	// Kubelets runs the Pods that others create, such as kube-controller-manager for a Deployment.
	Kubelets bool
	// KubeProxyMode starts kube-proxy on every node: iptables or nftables; "" for none.
	KubeProxyMode string
	// CoreDNS starts CoreDNS on the fabric.
	CoreDNS bool
	// Progress, if set, is called with a sentence before every step that takes a while.
	Progress func(string)
}

// Start starts a lab and waits until everything asked for is ready. It takes a few seconds.
func Start(ctx context.Context, options Options) (*Lab, error) {
	network, err := NewNetwork()
	if err != nil {
		return nil, fmt.Errorf("starting the lab: %w", err)
	}
	l := &Lab{Network: network, options: options, clients: map[string]*Host{}, agents: map[string]*Process{}}
	for _, step := range []struct {
		what string
		run  func(context.Context) error
	}{
		{"starting etcd and kube-apiserver", l.startControlPlane},
		{"adding nodes", l.startNodes},
		{"starting controllers", l.startControllers},
		{"starting the node programs", l.startNodePrograms},
	} {
		if options.Progress != nil {
			options.Progress(step.what)
		}
		if err := step.run(ctx); err != nil {
			return nil, errors.Join(fmt.Errorf("starting the lab: %w", err), l.Close())
		}
	}
	return l, nil
}

func (l *Lab) startControlPlane(ctx context.Context) error {
	var err error
	if l.ControlPlane, err = StartControlPlane(ctx, l.Network, l.options.ControlPlaneOptions); err != nil {
		return err
	}
	l.Kubernetes, err = kubernetes.NewForConfig(l.ControlPlane.Config())
	return err
}

func (l *Lab) startNodes(ctx context.Context) error {
	for range max(1, l.options.Nodes) {
		if _, err := l.AddNode(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) startControllers(ctx context.Context) error {
	if l.options.Kubelets {
		if err := l.startKubelets(ctx); err != nil {
			return err
		}
	}
	if l.options.ControllerManager {
		if _, err := l.StartControllerManager(ctx); err != nil {
			return err
		}
	}
	if l.options.CoreDNS {
		if _, err := l.StartCoreDNS(ctx, l.Network.Fabric); err != nil {
			return err
		}
	}
	if l.options.Manager {
		if _, err := l.StartManager(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (l *Lab) startNodePrograms(ctx context.Context) error {
	for _, node := range l.Nodes() {
		if mode := l.options.KubeProxyMode; mode != "" {
			if _, err := l.StartKubeProxy(ctx, node, mode); err != nil {
				return err
			}
		}
		if l.options.Agents {
			if _, err := l.StartAgent(ctx, node); err != nil {
				return err
			}
		}
	}
	return nil
}

// StartManager starts the project's operator and waits until it is ready.
func (l *Lab) StartManager(ctx context.Context, args ...string) (*Process, error) {
	manager, err := l.managerProgram()
	if err != nil {
		return nil, err
	}
	manager.args = append(manager.args, args...)
	process, err := l.ControlPlane.run(ctx, manager)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.manager = process
	return process, nil
}

// StartAgent starts the project's agent on the node, with these arguments besides the lab's, and
// waits until it is ready. It has a Pod object, [AgentPod], from then on.
func (l *Lab) StartAgent(ctx context.Context, node *Node, args ...string) (*Process, error) {
	agent, err := l.agentProgram(node)
	if err != nil {
		return nil, err
	}
	agent.args = append(agent.args, args...)
	process, err := l.ControlPlane.run(ctx, agent)
	if err != nil {
		return nil, err
	}
	return process, l.enlist(ctx, node, process)
}

// Nodes are the nodes in order of their numbers: node1, node2 and so on.
func (l *Lab) Nodes() []*Node { return l.Network.Nodes() }

// Client is the outside client of that name; the first call adds it, with no route but to the
// nodes. For one with more routes see [Network.AddClient].
func (l *Lab) Client(name string) (*Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if client := l.clients[name]; client != nil {
		return client, nil
	}
	client, err := l.Network.AddClient(name, ClientOptions{})
	if err == nil {
		l.clients[name] = client
	}
	return client, err
}

// Close ends all programs and removes everything.
func (l *Lab) Close() error {
	problems := []error{l.kubelets.close(), l.closeKubelets()}
	if l.ControlPlane != nil {
		problems = append(problems, l.ControlPlane.Close())
	}
	return errors.Join(append(problems, l.Network.Close())...)
}
