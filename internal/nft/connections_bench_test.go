package nft_test

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/types"

	"github.com/servicegroup-dev/servicegroup/internal/lab"
	"github.com/servicegroup-dev/servicegroup/internal/nft"
	"github.com/servicegroup-dev/servicegroup/internal/proxy"
	"github.com/servicegroup-dev/servicegroup/internal/ruleset"
)

// BenchmarkCounting says what counting connections costs with 10,000 Services of ten endpoints: time and
// kernel memory to fill the tables, and time to read all counters.
func BenchmarkCounting(b *testing.B) {
	lab.Require(b)
	services := map[types.NamespacedName]*proxy.Service{}
	for i := range 10_000 {
		vip := netip.AddrFrom4([4]byte{10, 96, byte(i >> 8), byte(i)})
		services[types.NamespacedName{Namespace: "default", Name: fmt.Sprint(i)}] = &proxy.Service{
			VirtualIPs: []netip.Addr{vip},
			Frontends:  []proxy.Frontend{{Key: proxy.Key{Addr: vip, Port: 80, Protocol: proxy.TCP}, Endpoints: endpoints("ipv4", 10)}},
		}
	}
	for _, counting := range []bool{false, true} {
		state := ruleset.NewState()
		if counting {
			state = ruleset.NewCountingState()
		}
		change := state.Apply(ruleset.Update{Services: services}).Change
		fill := func(b *testing.B) *nft.Tables {
			runtime.LockOSThread()
			if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
				b.Fatal(err)
			}
			tables, err := nft.Open(nft.Layout{CountConnections: counting})
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(tables.Close)
			return tables
		}
		b.Run(fmt.Sprintf("fill/counting=%v", counting), func(b *testing.B) {
			tables := fill(b)
			before := kernelMemory(b)
			for b.Loop() {
				if err := tables.Replace(&change); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(kernelMemory(b)-before)/1024, "kernel-MB")
		})
		if !counting {
			continue
		}
		b.Run("read", func(b *testing.B) {
			tables := fill(b)
			if err := tables.Replace(&change); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if counts, err := tables.Connections(); err != nil || len(counts) != 100_000 {
					b.Fatal(len(counts), err)
				}
			}
		})
	}
}

// kernelMemory is the kernel's memory for objects and for what each core has of its own, in KiB. Others on
// the machine use it too.
func kernelMemory(b *testing.B) (sum int) {
	content, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(content)) {
		var n int
		for _, name := range []string{"Slab:", "Percpu:", "VmallocUsed:"} {
			if _, err := fmt.Sscanf(line, name+" %d kB", &n); err == nil {
				sum += n
			}
		}
	}
	return sum
}
