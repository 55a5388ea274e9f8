package nft_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os/exec"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// BenchmarkFirstPacket sends UDP packets, each the first of a flow, from the node itself to virtual IPs
// whose endpoints are behind a bridge without ports. What the tables cost is the difference to 0
// Services, where connection tracking and address translation are on all the same.
func BenchmarkFirstPacket(b *testing.B) {
	lab.Require(b)
	for _, n := range []int{0, 1, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { inNamespace(b, func() error { return benchmarkFirstPacket(b, n) }) })
	}
}

// inNamespace runs f in a network namespace of its own.
func inNamespace(b *testing.B, f func() error) {
	b.Helper()
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace ends with the thread
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			err = f()
		}
		done <- err
	}()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
}

const (
	addBridge = `ip link set lo up && ip link add br0 type bridge && ip addr add 172.16.0.1/24 dev br0 && ip link set br0 up &&
		ip neigh add 172.16.0.2 lladdr 02:00:00:00:00:01 dev br0 nud permanent && ip route add default via 172.16.0.2`
	addTranslation = `nft 'add table ip x
		add chain ip x o { type nat hook output priority -100; }
		add chain ip x p { type nat hook postrouting priority 100; }
		add chain ip x f { type filter hook output priority -90; }
		add rule ip x o ip daddr 203.0.113.1 dnat to 203.0.113.2
		add rule ip x p ip daddr 203.0.113.2 masquerade'`
)

func benchmarkFirstPacket(b *testing.B, n int) error {
	commands := addBridge
	if n == 0 {
		commands += "\n" + addTranslation
	}
	if out, err := exec.Command("sh", "-c", commands).CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	vips := []netip.Addr{netip.MustParseAddr("10.96.0.1")}
	if n > 0 {
		var err error
		if vips, err = serveUDP(n); err != nil {
			return err
		}
	}
	return sendFirstPackets(b, vips)
}

// serveUDP programs n Services and returns their virtual IPs.
func serveUDP(n int) ([]netip.Addr, error) {
	tables, err := nft.Open(nft.Layout{})
	if err != nil {
		return nil, err
	}
	defer tables.Close()
	update := ruleset.Update{Services: map[types.NamespacedName]*proxy.Service{}, Ranges: &ruleset.Ranges{
		Pods:     []netip.Prefix{netip.MustParsePrefix("10.128.0.0/9")},
		Inside:   []netip.Prefix{netip.MustParsePrefix("172.16.0.0/16")},
		Services: []netip.Prefix{netip.MustParsePrefix("10.96.0.0/12")},
	}}
	var vips []netip.Addr
	udp := corev1.ProtocolUDP
	services, endpointSlices := objects(n)
	for i := range services {
		services[i].Spec.Ports[0].Protocol, endpointSlices[i][0].Ports[0].Protocol = udp, &udp
		one := proxy.Build(services[i], endpointSlices[i], proxy.Node{})
		update.Services[types.NamespacedName{Name: services[i].Name}] = &one
		vips = append(vips, one.VirtualIPs[0])
	}
	result := ruleset.NewState().Apply(update)
	return vips, tables.Replace(&result.Change)
}

func sendFirstPackets(b *testing.B, vips []netip.Addr) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	const headers, payload, ports = 28, 8, 60000
	packet := make([]byte, headers+payload) // without checksums: IP's is filled in, UDP's may be 0
	packet[0], packet[8], packet[9] = 0x45, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(packet[2:], headers+payload)
	binary.BigEndian.PutUint16(packet[22:], 80)
	binary.BigEndian.PutUint16(packet[24:], headers-20+payload)
	for i := 0; b.Loop(); i++ {
		vip := vips[i*7919%len(vips)].As4()
		copy(packet[12:], []byte{172, 16, byte(i / ports), 1})
		copy(packet[16:], vip[:])
		binary.BigEndian.PutUint16(packet[20:], uint16(1024+i%ports))
		if err := unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: vip}); err != nil {
			return err
		}
	}
	return nil
}
