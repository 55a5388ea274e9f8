package dataplane

import (
	"encoding/binary"
	"hash/crc32"
	"net"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
)

// TestSCTP sends the first packet of an association as raw bytes, since kernels without SCTP sockets
// still translate and track SCTP.
func TestSCTP(t *testing.T) {
	b := requireBed(t)
	b.serve(t, newService("web3").with(func(s *corev1.Service) {
		s.Spec.Ports = []corev1.ServicePort{{Name: "signal", Port: 2905, NodePort: 30905, Protocol: corev1.ProtocolSCTP}}
	}))
	for _, test := range []struct {
		from, to string
		vip      netip.Addr
		port     uint16
		source   string
	}{
		{"asker1", "vip", netip.MustParseAddr("10.96.0.20"), 2905, "asker1"},
		{"client", "node1", b.hosts["node1"].IPv4, 30905, "node1"},
	} {
		t.Run(test.from+" to "+test.to, func(t *testing.T) {
			receiver := listenSCTP(t, b.hosts["web3"])
			sender := listenSCTP(t, b.hosts[test.from])
			const sourcePort = 40000
			packet := initPacket(sourcePort, test.port)
			if _, err := sender.WriteTo(packet, &net.IPAddr{IP: test.vip.AsSlice()}); err != nil {
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
			if got, want := source.String(), b.hosts[test.source].IPv4.String(); got != want {
				t.Errorf("the pod saw %s as source, want %s", got, want)
			}
		})
	}
}

func listenSCTP(t *testing.T, host *lab.Host) net.PacketConn {
	t.Helper()
	conn, err := host.ListenPacket("ip4:132", host.IPv4.String())
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
