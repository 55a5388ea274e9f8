package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cri-streaming/pkg/streaming/portforward"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// AgentContainer and ManagerContainer are the containers of their Pods, and programPath what their program is
// called there.
const (
	AgentContainer   = "agent"
	ManagerContainer = "manager"
	programPath      = "/servicegroup"
	kubeletPort      = 10250
)

// AgentPod is the name of the Pod object that stands for the agent of a node.
func AgentPod(node *Node) string { return "servicegroup-agent-" + node.Name }

// enlist gives an agent that runs as a process a Pod object, as its DaemonSet would, into which
// kubectl can exec and whose logs it can read.
func (l *Lab) enlist(ctx context.Context, node *Node, agent *Process) error {
	l.mu.Lock()
	_, known := l.agents[node.Name]
	l.agents[node.Name] = agent
	l.mu.Unlock()
	if !known {
		if err := l.serveKubelet(node); err != nil {
			return fmt.Errorf("playing the kubelet of %s: %w", node.Name, err)
		}
	}
	object, err := l.agentPodObject(ctx, node)
	if err != nil {
		return err
	}
	status := l.podStatus(&Pod{Workload: &Workload{Host: node.Host, Node: node}}, PodSpec{})
	status.ContainerStatuses[0].Name = AgentContainer
	pods := l.Kubernetes.CoreV1().Pods(systemNamespace)
	created, err := pods.Create(ctx, object, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("creating the Pod of the agent of %s: %w", node.Name, err)
	}
	created.Status = status
	if _, err := pods.UpdateStatus(ctx, created, metav1.UpdateOptions{}); err != nil {
		return fmt.Errorf("updating the status of the Pod of the agent of %s: %w", node.Name, err)
	}
	return nil
}

// agentPodObject belongs to its Node, as the mirror of a static pod does, so that no DaemonSet takes it
// for one of its own.
func (l *Lab) agentPodObject(ctx context.Context, node *Node) (*corev1.Pod, error) {
	owner, err := l.Kubernetes.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("getting node %s: %w", node.Name, err)
	}
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: systemNamespace, Name: AgentPod(node),
			Labels:          map[string]string{"app.kubernetes.io/name": "servicegroup", "app.kubernetes.io/component": "agent"},
			OwnerReferences: []metav1.OwnerReference{*metav1.NewControllerRef(owner, corev1.SchemeGroupVersion.WithKind("Node"))},
		},
		Spec: corev1.PodSpec{
			NodeName: node.Name, HostNetwork: true,
			Containers: []corev1.Container{{Name: AgentContainer, Image: "servicegroup.dev/lab/servicegroup:1"}},
		},
	}, nil
}

// serveKubelet answers what the API server asks of a kubelet for exec, logs and ports, for every Pod of an
// agent or of the manager on the node, whoever made it. What answers is the node's agent, and the manager that
// runs on the fabric; a command runs in the node's network namespace, as in a Pod with the host's network.
func (l *Lab) serveKubelet(node *Node) error {
	certificate, err := tls.LoadX509KeyPair(l.ControlPlane.path("apiserver.crt"), l.ControlPlane.path("apiserver.key"))
	if err != nil {
		return err
	}
	listener, err := node.Listen("tcp", fmt.Sprintf(":%d", kubeletPort))
	if err != nil {
		return err
	}
	routes := http.NewServeMux()
	routes.HandleFunc("/exec/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		options, err := remotecommand.NewOptions(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		remotecommand.ServeExec(w, r, &execer{lab: l, node: node}, r.PathValue("pod"), "", r.PathValue("container"),
			r.URL.Query()["command"], options, time.Minute, startBound, remotecommand.SupportedStreamingProtocols)
	})
	routes.HandleFunc("GET /containerLogs/{namespace}/{pod}/{container}", func(w http.ResponseWriter, r *http.Request) {
		process, _, err := l.running(node, r.PathValue("container"))
		if err == nil {
			err = writeLog(w, process.LogPath, r.URL.Query().Get("tailLines"))
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	routes.HandleFunc("/portForward/{namespace}/{pod}", func(w http.ResponseWriter, r *http.Request) {
		options, err := portforward.NewV4Options(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		portforward.ServePortForward(w, r, &forwarder{lab: l, node: node, namespace: r.PathValue("namespace")}, r.PathValue("pod"), "",
			options, time.Minute, startBound, portforward.SupportedProtocols)
	})
	server := &http.Server{
		Handler: routes, ReadHeaderTimeout: time.Minute,
		// The API server's streams are upgrades of HTTP/1.1.
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{certificate}, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}},
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.kubeletServers = append(l.kubeletServers, server)
	go func() { _ = server.ServeTLS(listener, "", "") }() // ends with ErrServerClosed
	return nil
}

// running is the process that stands for a container on the node, and where it runs.
func (l *Lab) running(node *Node, container string) (*Process, *Host, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	process, host := l.agents[node.Name], node.Host
	if container == ManagerContainer {
		process, host = l.manager, l.Network.Fabric
	} else if container != AgentContainer {
		return nil, nil, fmt.Errorf("container %s does not run here", container)
	}
	if process == nil {
		return nil, nil, fmt.Errorf("container not found (%q)", container)
	}
	select {
	case <-process.Ended():
		return nil, nil, fmt.Errorf("container not found (%q)", container)
	default:
		return process, host, nil
	}
}

// closeKubelets ends the servers of serveKubelet.
func (l *Lab) closeKubelets() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var problems []error
	for _, server := range l.kubeletServers {
		problems = append(problems, server.Close())
	}
	return errors.Join(problems...)
}

func writeLog(w io.Writer, path, tailLines string) error {
	log, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	lines := strings.SplitAfter(string(log), "\n")
	if n, err := strconv.Atoi(tailLines); err == nil {
		lines = lines[max(0, len(lines)-1-n):]
	}
	_, err = io.WriteString(w, strings.Join(lines, ""))
	return err
}

// execer runs commands in the Pods of a node.
type execer struct {
	lab  *Lab
	node *Node
}

// ExecInContainer implements remotecommand.Executor.
func (e *execer) ExecInContainer(ctx context.Context, _, _, container string, command []string, in io.Reader, out, errOut io.WriteCloser, _ bool, _ <-chan remotecommand.TerminalSize, _ time.Duration) error {
	process, host, err := e.lab.running(e.node, container)
	if err != nil {
		return err
	}
	if len(command) == 0 || command[0] != programPath {
		return fmt.Errorf("exec: %q: executable file not found", command)
	}
	cmd := exec.CommandContext(ctx, process.Path(), command[1:]...)
	cmd.Stdin = in
	// Not a nil that is no nil: a stream that was not asked for goes nowhere.
	if out != nil {
		cmd.Stdout = out
	}
	if errOut != nil {
		cmd.Stderr = errOut
	}
	if err := host.Start(cmd); err != nil {
		return err
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return utilexec.CodeExitError{Err: err, Code: exit.ExitCode()}
	}
	return err
}

// forwarder reaches the ports of the Pods of a node.
type forwarder struct {
	lab       *Lab
	node      *Node
	namespace string
}

// PortForward implements portforward.PortForwarder.
func (f *forwarder) PortForward(ctx context.Context, pod, _ string, port int32, stream io.ReadWriteCloser) error {
	object, err := f.lab.Kubernetes.CoreV1().Pods(f.namespace).Get(ctx, pod, metav1.GetOptions{})
	if err != nil {
		return err
	}
	_, host, err := f.lab.running(f.node, object.Spec.Containers[0].Name)
	if err != nil {
		return err
	}
	conn, err := host.Dial(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer conn.Close()
	// As soon as one side has ended, the other one is of no use.
	ended := make(chan error, 2)
	go func() { _, err := io.Copy(conn, stream); ended <- err }()
	go func() { _, err := io.Copy(stream, conn); ended <- err }()
	return <-ended
}
