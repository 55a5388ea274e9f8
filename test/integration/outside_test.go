package integration

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"time"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/servicegroup-dev/servicegroup/internal/probe"
)

// externalRanges are what the manager of this suite allows.
var externalRanges = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}

// outside is what is outside the cluster: real servers and a real DNS server on the loopback, which
// the manager reaches under addresses of externalRanges.
var outside = &outsideWorld{servers: map[string]*httptest.Server{}, names: map[string][]string{}}

type outsideWorld struct {
	mu      sync.Mutex
	servers map[string]*httptest.Server
	// dials count the connections that were tried, by address.
	dials map[string]int
	// names are what DNS answers with; a name without addresses is an error of the server.
	names map[string][]string
	// asked are the names that somebody asked for.
	asked map[string]bool
	dns   net.PacketConn
}

// probeOptions are those of the manager.
func (o *outsideWorld) probeOptions() probe.Options {
	return probe.Options{
		Dial: o.dial,
		Resolver: &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp", o.dns.LocalAddr().String())
		}},
		LookupInterval: 300 * time.Millisecond,
	}
}

func (o *outsideWorld) dial(ctx context.Context, network, address string) (net.Conn, error) {
	o.mu.Lock()
	if o.dials == nil {
		o.dials = map[string]int{}
	}
	o.dials[address]++
	server := o.servers[address]
	o.mu.Unlock()
	if server == nil {
		return nil, syscall.ECONNREFUSED
	}
	return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
}

func (o *outsideWorld) dialed(address string) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.dials[address]
}

// serve starts a server at an address, with a handler or without.
func (o *outsideWorld) serve(address string, handler http.HandlerFunc) {
	server := httptest.NewServer(handler)
	o.mu.Lock()
	o.servers[address] = server
	o.mu.Unlock()
	DeferCleanup(func() { o.stop(address) })
}

// stop stops the server at an address, if there is one.
func (o *outsideWorld) stop(address string) {
	o.mu.Lock()
	server := o.servers[address]
	delete(o.servers, address)
	o.mu.Unlock()
	if server != nil {
		server.Close()
	}
}

// name makes DNS answer for a name: with these addresses, or if there are none with a failure.
func (o *outsideWorld) name(name string, addresses ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.names[name+"."] = addresses
}

// wasAsked says whether somebody asked DNS for a name.
func (o *outsideWorld) wasAsked(name string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.asked[name+"."]
}

// startDNS starts the DNS server for the whole suite.
func (o *outsideWorld) startDNS() {
	GinkgoHelper()
	var err error
	o.dns, err = net.ListenPacket("udp", "127.0.0.1:0")
	Expect(err).NotTo(HaveOccurred())
	DeferCleanup(func() { Expect(o.dns.Close()).To(Succeed()) })
	go func() {
		buffer := make([]byte, 512)
		for {
			n, from, err := o.dns.ReadFrom(buffer)
			if err != nil {
				return // closed
			}
			var query dnsmessage.Message
			if query.Unpack(buffer[:n]) != nil || len(query.Questions) != 1 {
				continue
			}
			if answer, err := o.answer(query).Pack(); err == nil {
				_, _ = o.dns.WriteTo(answer, from) // who asked asks again
			}
		}
	}()
}

func (o *outsideWorld) answer(query dnsmessage.Message) *dnsmessage.Message {
	question := query.Questions[0]
	out := &dnsmessage.Message{Header: dnsmessage.Header{ID: query.ID, Response: true, RecursionAvailable: true}, Questions: query.Questions}
	o.mu.Lock()
	addresses, known := o.names[strings.ToLower(question.Name.String())]
	if o.asked == nil {
		o.asked = map[string]bool{}
	}
	o.asked[strings.ToLower(question.Name.String())] = true
	o.mu.Unlock()
	switch {
	case !known:
		out.RCode = dnsmessage.RCodeNameError
	case len(addresses) == 0:
		out.RCode = dnsmessage.RCodeServerFailure
	}
	for _, text := range addresses {
		address := netip.MustParseAddr(text)
		header := dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}
		switch {
		case address.Is4() && question.Type == dnsmessage.TypeA:
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AResource{A: address.As4()}})
		case address.Is6() && question.Type == dnsmessage.TypeAAAA:
			out.Answers = append(out.Answers, dnsmessage.Resource{Header: header, Body: &dnsmessage.AAAAResource{AAAA: address.As16()}})
		}
	}
	return out
}
