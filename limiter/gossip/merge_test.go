package gossip

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// gate stands before one member, and lets nothing through while it is shut.
type gate struct {
	address string
	shut    atomic.Bool
	stall   bool // streams are taken, and not answered, while it is shut; else they are refused
}

func newGate(t *testing.T, to string) *gate {
	t.Helper()
	tcp, udp, err := bind("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	out, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{address: tcp.Addr().String()}
	var all sync.WaitGroup
	all.Go(func() {
		for b := make([]byte, 1<<16); ; {
			n, _, err := udp.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if !g.shut.Load() {
				_, _ = out.Write(b[:n])
			}
		}
	})
	all.Go(func() {
		for {
			in, err := tcp.Accept()
			if err != nil {
				return
			}
			all.Go(func() { g.stream(&all, in, to) })
		}
	})
	t.Cleanup(func() {
		g.shut.Store(false)
		_, _ = tcp.Close(), udp.Close()
		all.Wait()
		_ = out.Close()
	})
	return g
}

func (g *gate) stream(all *sync.WaitGroup, in net.Conn, to string) {
	defer func() { _ = in.Close() }()
	if g.shut.Load() {
		if g.stall {
			_, _ = io.Copy(io.Discard, in)
		}
		return
	}
	pass(all, in, to)
}

// Two gateways that were started while the network was cut meet as soon as it is whole, however long that takes.
func TestMeetAfterALongCut(t *testing.T) {
	t.Parallel()
	const cut = 7200 * time.Millisecond // attempts that become rare are four seconds and more apart by then
	var all sync.WaitGroup
	for i := range 8 {
		at := []string{freeAddress(t), freeAddress(t)}
		gates := []*gate{newGate(t, at[0]), newGate(t, at[1])}
		pair := make([]*gateway, 2)
		for j := range pair {
			gates[j].stall = i%2 == 0
			gates[j].shut.Store(true)
		}
		for j := range pair {
			pair[j] = open(t, func(c *Config) {
				c.Listen, c.Advertise, c.Name = at[j], gates[j].address, fmt.Sprint("member ", j)
			}, gates[1-j].address, "name.invalid:7946").run(t)
		}
		all.Go(func() {
			time.Sleep(cut)
			gates[0].shut.Store(false)
			gates[1].shut.Store(false)
			from := time.Now()
			for _, g := range pair {
				for g.ledger.read(func(l *tally) bool { return l.alive == 0 }) && time.Since(from) < 30*time.Second {
					time.Sleep(5 * time.Millisecond)
				}
			}
			if late := time.Since(from); late > 3500*time.Millisecond {
				t.Errorf("pair %d: they met %v after the network was whole", i, late)
			} else {
				t.Logf("pair %d: %v", i, late)
			}
		})
	}
	all.Wait()
}

// portsTried counts the ports that freeAddress has tried. They are below those that the system gives to whoever connects
// or asks for any, as it may give one of these away before it is used here; and other tests that run now begin elsewhere.
var portsTried atomic.Uint32

// freeAddress is one that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+(97*uint32(os.Getpid())+portsTried.Add(1))%22_000)
		if tcp, udp, err := bind(address); err == nil {
			_, _ = tcp.Close(), udp.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// Who does not answer is called every second for ever; who answers and is no member by that address, less and less.
func TestAliasesAreCalledRarely(t *testing.T) {
	all, a := aliases{}, netip.MustParseAddrPort("127.0.0.1:1")
	now := time.Unix(0, 0)
	calls := func(span time.Duration, answered bool) (n int) {
		for end := now.Add(span); now.Before(end); now = now.Add(joinEvery) {
			if all.due(a, now) {
				n++
				all.called(a, answered, now)
			}
		}
		return n
	}
	for _, c := range []struct {
		intent      string
		span        time.Duration
		answered    bool
		least, most int
	}{
		{"it is cut off", time.Minute, false, 60, 60},
		{"an alias", time.Hour, true, 120, 130},
		{"what it stands for is cut off: it is seen with the next call, and from then on every second", 130 * time.Second, false, 100, 130},
		{"it is back: a merge takes two calls", 3 * time.Second, true, 2, 3},
	} {
		if n := calls(c.span, c.answered); n < c.least || n > c.most {
			t.Errorf("%s: %d calls in %v, want %d to %d", c.intent, n, c.span, c.least, c.most)
		}
	}
}
