package dataplane

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestSCTP sends the first packet of an association as raw bytes, since kernels without SCTP sockets
// still translate and track SCTP.
func TestSCTP(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web3").with(func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "signal", Port: 2905, NodePort: 30905, Protocol: corev1.ProtocolSCTP}}
	}))
	for _, ipv4 := range []bool{true, false} {
		for _, p := range []path{
			{"asker1", "vip:2905/sctp", "web3", "asker1"},
			{"asker2", "vip:2905/sctp", "web3", "asker2"},
			{"node1", "vip:2905/sctp", "web3", "node1"},
			{"node2", "vip:2905/sctp", "web3", "node2"},
			{"client", "node1:30905/sctp", "web3", "node1"},
			{"asker1", "node1:30905/sctp", "web3", "node1"},
		} {
			t.Run(fmt.Sprintf("%s to %s %s", p.from, p.to, map[bool]string{true: "IPv4", false: "IPv6"}[ipv4]), func(t *testing.T) {
				b.associate(t, p, ipv4)
			})
		}
	}
}

// associate sends the first packet of an association and compares what arrives.
func (b *bed) associate(t *testing.T, p path, ipv4 bool) {
	t.Helper()
	receiver, sender := b.listenSCTP(t, p.want, ipv4), b.listenSCTP(t, p.from, ipv4)
	_, to := b.target(p.to, ipv4)
	target := netip.MustParseAddrPort(to)
	const sourcePort = 40000
	packet := initPacket(sourcePort, target.Port())
	if _, err := sender.WriteTo(packet, &net.IPAddr{IP: target.Addr().AsSlice()}); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 2<<10)
	if err := receiver.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	n, source, err := receiver.ReadFrom(buffer)
	if err != nil {
		t.Fatalf("the pod received nothing: %v", err)
	}
	if port := binary.BigEndian.Uint16(buffer[2:]); port != webPort || n != len(packet) {
		t.Errorf("the pod received %d bytes for port %d, want %d for %d", n, port, len(packet), webPort)
	}
	if got, want := source.String(), b.address(p.source, ipv4).String(); got != want {
		t.Errorf("the pod saw %s as source, want %s", got, want)
	}
}

func (b *bed) listenSCTP(t *testing.T, host string, ipv4 bool) net.PacketConn {
	t.Helper()
	network := map[bool]string{true: "ip4:132", false: "ip6:132"}[ipv4]
	conn, err := b.hosts[host].ListenPacket(network, b.address(host, ipv4).String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// initPacket is an SCTP packet with an INIT chunk (RFC 9260, sections 3.1 and 3.3.2).
func initPacket(sourcePort, port uint16) []byte {
	packet := binary.BigEndian.AppendUint16(nil, sourcePort)
	packet = binary.BigEndian.AppendUint16(packet, port)
	packet = append(packet, make([]byte, 8)...)            // verification tag 0, checksum below
	packet = append(packet, 1, 0, 0, 20)                   // INIT, no flags, 20 bytes
	packet = binary.BigEndian.AppendUint32(packet, 0x5eed) // initiate tag
	packet = binary.BigEndian.AppendUint32(packet, 64<<10) // receive window
	packet = append(packet, 0, 10, 0, 10)                  // streams out and in
	packet = binary.BigEndian.AppendUint32(packet, 1)      // first sequence number
	checksum := crc32.Checksum(packet, crc32.MakeTable(crc32.Castagnoli))
	binary.LittleEndian.PutUint32(packet[8:], checksum)
	return packet
}
