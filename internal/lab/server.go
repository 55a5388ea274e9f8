package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Reply is what a pod's HTTP server answers to /client, as JSON. Any other path is answered with
// the pod's name and a newline, and the headers X-Pod and X-Client.
type Reply struct {
	// Pod is the name of the pod that answered.
	Pod string `json:"pod"`
	// Client and Server are the two ends of the connection as the pod sees them.
	Client netip.AddrPort `json:"client"`
	Server netip.AddrPort `json:"server"`
}

// Serve serves the ports on this host as a pod serves its own, until stop is called: for servers outside
// the cluster.
func (h *Host) Serve(ports ...Port) (stop func() error, err error) {
	s, err := serve(h, ports)
	if err != nil {
		return nil, fmt.Errorf("serving on %s: %w", h.Name, err)
	}
	return s.close, nil
}

// server is the program in a pod: one HTTP server for all TCP ports and an echo per UDP port.
type server struct {
	name    string
	http    http.Server
	packets []net.PacketConn
	running sync.WaitGroup
}

// serve listens on all ports of the host and serves until close.
func serve(host *Host, ports []Port) (*server, error) {
	s := &server{name: host.Name}
	s.http.Handler = s
	s.http.ReadHeaderTimeout = time.Minute
	for _, port := range ports {
		if err := s.listen(host, port); err != nil {
			return nil, errors.Join(fmt.Errorf("listening on port %d: %w", port.Number, err), s.close())
		}
	}
	return s, nil
}

func (s *server) listen(host *Host, port Port) error {
	address := fmt.Sprintf(":%d", port.Number)
	switch port.Protocol {
	case corev1.ProtocolTCP, "":
		listener, err := host.Listen("tcp", address)
		if err != nil {
			return err
		}
		s.running.Go(func() { _ = s.http.Serve(listener) }) // ends with ErrServerClosed
	case corev1.ProtocolUDP:
		conn, err := host.ListenPacket("udp", address)
		if err != nil {
			return err
		}
		s.packets = append(s.packets, conn)
		s.running.Go(func() { s.echo(conn) })
	default:
		return fmt.Errorf("a pod of the lab serves TCP and UDP, not %s", port.Protocol)
	}
	return nil
}

// ServeHTTP implements http.Handler.
func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	reply := Reply{Pod: s.name}
	if client, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		reply.Client = unmap(client)
	}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		reply.Server = unmap(local.AddrPort())
	}
	w.Header().Set("X-Pod", reply.Pod)
	w.Header().Set("X-Client", reply.Client.String())
	if r.URL.Path == "/client" {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(reply) // fails only when the client is gone
		return
	}
	_, _ = fmt.Fprintln(w, s.name)
}

func (s *server) echo(conn net.PacketConn) {
	buffer := make([]byte, 64<<10)
	for {
		_, client, err := conn.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if udp, ok := client.(*net.UDPAddr); ok && err == nil {
			_, _ = fmt.Fprintf(packetWriter{conn, client}, "%s %s", s.name, unmap(udp.AddrPort()))
		}
	}
}

// packetWriter sends every write as one datagram.
type packetWriter struct {
	conn net.PacketConn
	to   net.Addr
}

func (p packetWriter) Write(b []byte) (int, error) { return p.conn.WriteTo(b, p.to) }

// unmap writes the address of an IPv4 client of a dual-stack socket as IPv4.
func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// close ends all listeners and connections and waits for the servers.
func (s *server) close() error {
	problems := []error{s.http.Close()}
	for _, conn := range s.packets {
		problems = append(problems, conn.Close())
	}
	s.running.Wait()
	return errors.Join(problems...)
}
