package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newTestNetwork is a network of two nodes and an outside client.
func newTestNetwork(t *testing.T) (*Network, *Host) {
	t.Helper()
	Require(t)
	network, err := NewNetwork()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := network.Close(); err != nil {
			t.Errorf("closing the network: %v", err)
		}
	})
	for range 2 {
		if _, err := network.AddNode(); err != nil {
			t.Fatal(err)
		}
	}
	client, err := network.AddClient("client", ClientOptions{Pods: true})
	if err != nil {
		t.Fatal(err)
	}
	return network, client
}

func addTestPod(t *testing.T, node *Node, name string) *Workload {
	t.Helper()
	pod, err := node.AddPod(name, TCP(80), TCP(8080), UDP(53))
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

func TestEveryHostReachesPods(t *testing.T) {
	network, client := newTestNetwork(t)
	nodes := network.Nodes()
	server := addTestPod(t, nodes[0], "server")
	from := map[string]*Host{
		"pod on the same node":  addTestPod(t, nodes[0], "near").Host,
		"pod on another node":   addTestPod(t, nodes[1], "far").Host,
		"the pod itself":        server.Host,
		"its node":              nodes[0].Host,
		"another node":          nodes[1].Host,
		"the control plane":     network.Fabric,
		"client with pod route": client,
	}
	for name, host := range from {
		t.Run(name, func(t *testing.T) {
			for i, address := range server.Addresses() {
				for _, port := range []int32{80, 8080} {
					reply, err := host.AskClient(t.Context(), HostPort(address, port))
					if err != nil {
						t.Fatal(err)
					}
					if reply.Pod != "server" || reply.Client.Addr() != host.Addresses()[i] || reply.Server.Addr() != address {
						t.Errorf("asked %s from %s, got %+v", address, host.Addresses()[i], reply)
					}
				}
				answer, err := host.Ask(t.Context(), "udp", HostPort(address, 53))
				if err != nil || answer != "server" {
					t.Errorf("asked %s over UDP, got %q, %v", address, answer, err)
				}
			}
		})
	}
}

func TestClientReachesNodes(t *testing.T) {
	network, client := newTestNetwork(t)
	for _, node := range network.Nodes() {
		server, err := serve(node.Host, []Port{TCP(30001)})
		if err != nil {
			t.Fatal(err)
		}
		for _, address := range node.Addresses() {
			answer, err := client.Ask(t.Context(), "tcp", HostPort(address, 30001))
			if err != nil || answer != node.Name {
				t.Errorf("asked %s, got %q, %v", address, answer, err)
			}
		}
		if err := server.close(); err != nil {
			t.Error(err)
		}
	}
}

// TestPodPacketsAreForwarded guards what NAT needs: even between two pods of one node, packets are
// forwarded by the node (which counts them) instead of being bridged.
func TestPodPacketsAreForwarded(t *testing.T) {
	network, _ := newTestNetwork(t)
	node := network.Nodes()[0]
	a, b := addTestPod(t, node, "a"), addTestPod(t, node, "b")
	before := forwarded4(t, node.Host)
	if _, err := a.Ask(t.Context(), "tcp", HostPort(b.IPv4, 80)); err != nil {
		t.Fatal(err)
	}
	if after := forwarded4(t, node.Host); after <= before {
		t.Errorf("the node forwarded %d packets before and %d after", before, after)
	}
}

// forwarded4 is the number of IPv4 packets the host has forwarded.
func forwarded4(t *testing.T, host *Host) int {
	t.Helper()
	var snmp []byte
	err := host.Do(func() (err error) {
		snmp, err = os.ReadFile("/proc/thread-self/net/snmp")
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(snmp), "\n") // the first two are the names and the values of Ip
	column := slices.Index(strings.Fields(lines[0]), "ForwDatagrams")
	count, err := strconv.Atoi(strings.Fields(lines[1])[column])
	if err != nil {
		t.Fatal(err)
	}
	return count
}

func TestPodsComeAndGo(t *testing.T) {
	network, _ := newTestNetwork(t)
	nodes := network.Nodes()
	seen := map[netip.Addr]bool{}
	filesBefore := openFiles(t)
	started := time.Now()
	var pods []*Workload
	for i := range 200 {
		pod, err := nodes[i%2].AddPod(fmt.Sprintf("pod-%d", i), TCP(80))
		if err != nil {
			t.Fatal(err)
		}
		if seen[pod.IPv4] || seen[pod.IPv6] {
			t.Fatalf("%s has the address of another pod", pod.Name)
		}
		seen[pod.IPv4], seen[pod.IPv6] = true, true
		pods = append(pods, pod)
	}
	t.Logf("200 pods after %v", time.Since(started))
	for i, pod := range pods {
		if answer, err := nodes[0].Ask(t.Context(), "tcp", HostPort(pod.IPv4, 80)); err != nil || answer != pod.Name {
			t.Fatalf("asked %s, got %q, %v", pod.Name, answer, err)
		}
		if i > 0 {
			if err := pod.Remove(); err != nil {
				t.Fatal(err)
			}
		}
	}
	t.Logf("asked and removed after %v", time.Since(started))
	names, err := os.ReadDir(namespaceDir)
	if err != nil {
		t.Fatal(err)
	}
	// A pod holds its namespace, a listener and what the runtime needs; removed ones hold nothing.
	if files := openFiles(t); files > filesBefore+10 {
		t.Errorf("%d files are open, %d were before 199 pods came and went", files, filesBefore)
	}
	if len(names) != 4 { // node1, node2, client, pod-0
		t.Errorf("namespaces left: %v", names)
	}
}

func TestRemovedPodIsUnreachable(t *testing.T) {
	network, client := newTestNetwork(t)
	node := network.Nodes()[0]
	pod := addTestPod(t, node, "gone")
	if err := pod.Remove(); err != nil {
		t.Fatal(err)
	}
	for _, host := range []*Host{node.Host, client} {
		for _, address := range pod.Addresses() {
			_, err := host.Ask(t.Context(), "tcp", HostPort(address, 80))
			if !errors.Is(err, unix.EHOSTUNREACH) && !errors.Is(err, unix.ENETUNREACH) {
				t.Errorf("asked a removed pod from %s, got %v", host.Name, err)
			}
		}
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(files)
}
