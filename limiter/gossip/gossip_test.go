package gossip

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// tally is a ledger that adds up.
type tally struct {
	mu      sync.Mutex
	pending []limiter.Delta
	spent   uint64
	acked   uint64
	merged  uint64 // from all peers
	alive   int
	known   int
}

func (l *tally) spend(units uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending = append(l.pending, limiter.Delta{Key: limiter.Key(len(l.pending)), Rule: 1, Units: units})
	l.spent += uint64(units)
}

func (l *tally) read(f func(l *tally) bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return f(l)
}

func (l *tally) Drain(_ time.Duration, to []limiter.Delta) []limiter.Delta {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := min(cap(to), len(l.pending))
	to = append(to, l.pending[:n]...)
	l.pending = l.pending[n:]
	return to
}

func (l *tally) Merge(_ time.Duration, _ int, _ time.Duration, deltas []limiter.Delta) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range deltas {
		l.merged += uint64(d.Units)
	}
}

func (l *tally) Acknowledge(_ time.Duration, deltas []limiter.Delta) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range deltas {
		l.acked += uint64(d.Units)
	}
}

func (l *tally) Fleet(_ time.Duration, members []limiter.Member) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known, l.alive = len(members), 0
	for _, m := range members {
		if m.State == limiter.Alive {
			l.alive++
		}
	}
}

func (l *tally) Snapshot(_ time.Duration, _ uint64, to []limiter.Delta) ([]limiter.Delta, uint64) {
	return to, 0
}
func (l *tally) Restore(time.Duration, time.Duration, []limiter.Delta) {}
func (l *tally) Resolve(time.Duration, time.Duration, []limiter.Delta) {}
func (l *tally) Doubt() (int, bool)                                    { return 0, false }
func (l *tally) Pressing() <-chan struct{}                             { return nil }

// facts is a set of records.
type facts struct {
	mu  sync.Mutex
	set map[string]bool
}

func (f *facts) All(yield func([]byte) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for r := range f.set {
		if !yield([]byte(r)) {
			return
		}
	}
}

func (f *facts) Apply(r []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if strings.HasPrefix(string(r), "bad") {
		return errors.New("bad")
	}
	f.set[string(r)] = true
	return nil
}

func (f *facts) len() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.set)
}

// gateway is a member on real sockets.
type gateway struct {
	*Gossip
	ledger  *tally
	facts   *facts
	stop    func()
	reports chan error
}

func open(t *testing.T, change func(*Config), peers ...string) *gateway {
	t.Helper()
	g := &gateway{ledger: &tally{}, facts: &facts{set: map[string]bool{}}, reports: make(chan error, 100)}
	begin := time.Now()
	c := Config{
		Listen: "127.0.0.1:0", Peers: peers, Secrets: [][]byte{testSecret("real")}, Interval: 20 * time.Millisecond, Ledger: g.ledger,
		Records: g.facts, Clock: func() time.Duration { return time.Since(begin) },
		Report: func(err error) {
			select {
			case g.reports <- err:
			default:
			}
		},
	}
	if change != nil {
		change(&c)
	}
	var err error
	if g.Gossip, err = Listen(c); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *gateway) run(t *testing.T) *gateway {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- g.Run(ctx) }()
	g.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("%s: %v", g.Name(), err)
			}
		case <-time.After(30 * time.Second):
			t.Error("a member does not stop")
		}
	})
	t.Cleanup(g.stop)
	return g
}

// die is the end of a process: nobody is told.
func (g *gateway) die() {
	_ = g.transport.Shutdown()
	g.stop()
}

func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(30 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it never came to this: %s", what)
		}
	}
}

func together(t *testing.T, all ...*gateway) {
	t.Helper()
	until(t, fmt.Sprintf("%d gateways together", len(all)), func() bool {
		for _, g := range all {
			if !g.ledger.read(func(l *tally) bool { return l.alive == len(all)-1 }) {
				return false
			}
		}
		return true
	})
}

// told waits until all know what all have spent since the sums given.
func told(t *testing.T, all ...*gateway) {
	t.Helper()
	merged, spent := make([]uint64, len(all)), uint64(0)
	for i, g := range all {
		g.ledger.read(func(l *tally) bool { merged[i] = l.merged; return true })
	}
	for i := range 500 {
		g := all[i%len(all)]
		g.ledger.spend(uint32(1 + i%3))
		spent += uint64(1 + i%3)
		if i%50 == 0 {
			time.Sleep(time.Millisecond) // so that there are several frames
		}
	}
	own := func(i int) (sum uint64) {
		for j := range 500 {
			if j%len(all) == i {
				sum += uint64(1 + j%3)
			}
		}
		return sum
	}
	until(t, "all told", func() bool {
		for i, g := range all {
			want := merged[i] + spent - own(i)
			ok := g.ledger.read(func(l *tally) bool {
				if l.merged > want {
					t.Fatalf("%s was told %d units, of %d", g.Name(), l.merged, want)
				}
				return l.merged == want && l.acked == l.spent
			})
			if !ok {
				return false
			}
		}
		return true
	})
}

func TestThreeOnLoopback(t *testing.T) {
	a := open(t, nil).run(t)
	b := open(t, nil, a.Address().String()).run(t)
	c := open(t, nil, b.Address().String()).run(t) // knows b alone
	together(t, a, b, c)
	told(t, a, b, c)
	s := a.Stats()
	if len(s.Peers) != 2 || s.FramesIn == 0 || s.BytesOut == 0 {
		t.Errorf("stats: %+v", s)
	}
	c.stop() // leaves
	until(t, "two know that the third has left", func() bool {
		return a.ledger.read(func(l *tally) bool { return l.known == 1 }) && b.ledger.read(func(l *tally) bool { return l.known == 1 })
	})
	told(t, a, b)
}

func TestDeathAndRestart(t *testing.T) {
	a := open(t, nil).run(t)
	b := open(t, nil, a.Address().String()).run(t)
	together(t, a, b)
	told(t, a, b)
	address := b.Address().String()
	b.die()
	until(t, "a dead peer is silent", func() bool { return a.ledger.read(func(l *tally) bool { return l.alive == 0 && l.known == 1 }) })
	a.ledger.spend(1)
	until(t, "nobody waits for it", func() bool { return a.ledger.read(func(l *tally) bool { return l.acked == l.spent }) })
	again := open(t, func(c *Config) { c.Listen = address }, a.Address().String()).run(t)
	if again.Name() != b.Name() {
		t.Errorf("%q is %q after a restart", b.Name(), again.Name())
	}
	together(t, a, again)
	told(t, a, again)
}

func TestRecordsReachAll(t *testing.T) {
	a := open(t, nil).run(t)
	for i := range 5000 {
		a.facts.set[fmt.Sprintf("%0200d", i)] = true
	}
	b := open(t, nil, a.Address().String())
	b.facts.set["only here"] = true
	b.run(t)
	until(t, "a new member has all, and the others what it had", func() bool { return b.facts.len() == 5001 && a.facts.len() == 5001 })
	together(t, a, b)
	_ = a.facts.Apply([]byte("new"))
	a.Publish([]byte("new"))
	until(t, "a new record arrives", func() bool { return b.facts.len() == 5002 })
	a.Publish([]byte("bad record"))
	until(t, "a bad one is counted", func() bool { return b.Stats().Dropped["records"] == 1 })
}

func TestWrongSecretStaysAlone(t *testing.T) {
	a := open(t, nil).run(t)
	odd := open(t, func(c *Config) { c.Secrets = [][]byte{testSecret("wrong")} }, a.Address().String()).run(t)
	b := open(t, nil, a.Address().String()).run(t)
	together(t, a, b)
	for _, g := range []*gateway{a, odd} {
		select {
		case err := <-g.reports:
			if !errors.Is(err, ErrUnverified) && !errors.Is(err, ErrAlone) {
				t.Errorf("reported: %v", err)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("%s says nothing", g.Name())
		}
	}
	told(t, a, b)
	if odd.ledger.read(func(l *tally) bool { return l.alive != 0 }) || len(odd.Stats().Peers) != 0 {
		t.Error("who has another secret has peers")
	}
	if a.Stats().Dropped["unverified"]+b.Stats().Dropped["unverified"] == 0 {
		t.Error("what was not opened is not counted")
	}
	if n := len(a.reports); n > 3 {
		t.Errorf("%d reports at once", n)
	}
}

func TestSameNameIsReported(t *testing.T) {
	named := func(c *Config) { c.Name = "same" }
	a := open(t, nil).run(t)
	b := open(t, named, a.Address().String()).run(t)
	together(t, a, b)
	c := open(t, named, a.Address().String()).run(t)
	until(t, "the conflict is reported", func() bool {
		for _, g := range []*gateway{a, b, c} {
			select {
			case err := <-g.reports:
				if strings.Contains(err.Error(), "both called") {
					return true
				}
			default:
			}
		}
		return false
	})
	told(t, a, b)
}

// Whoever has no secret can send what he likes.
func TestJunkOnTheSockets(t *testing.T) {
	a := open(t, nil).run(t)
	b := open(t, nil, a.Address().String()).run(t)
	together(t, a, b)
	udp, err := net.Dial("udp", a.Address().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = udp.Close() }()
	r := rand.New(rand.NewPCG(1, 1))
	for i := range 20_000 {
		junk := make([]byte, r.IntN(1300))
		if i%1000 == 0 {
			junk = make([]byte, 65_000)
		}
		for j := range min(len(junk), 64) {
			junk[j] = byte(r.Uint32())
		}
		if len(junk) > 8 && i%2 == 0 {
			copy(junk, []string{"\xf4\x06sluice\x01", "\x51", "\x52", "\x53"}[i/2%4])
		}
		_, _ = udp.Write(junk)
	}
	var streams []net.Conn
	for i := range 3 * maxStreams {
		c, err := net.Dial("tcp", a.Address().String())
		if err != nil {
			t.Fatal(err)
		}
		_, _ = c.Write([]byte(strings.Repeat("\xf4\x06sluice\x0a\x00\x80\x00\x00", 1+i*100)))
		streams = append(streams, c)
	}
	if n := a.transport.open.Load(); n > maxStreams {
		t.Errorf("%d streams are open", n)
	}
	told(t, a, b)
	for _, c := range streams {
		_ = c.Close()
	}
	until(t, "streams are closed", func() bool { return a.transport.open.Load() == 0 })
	together(t, a, b)
	_ = udp.SetReadDeadline(time.Now().Add(time.Millisecond))
	if n, err := udp.Read(make([]byte, 2000)); err == nil {
		t.Errorf("junk was answered with %d bytes", n)
	}
	if d := a.Stats().Dropped; d["unverified"] == 0 || d["stranger"] == 0 || d["malformed"] == 0 {
		t.Errorf("dropped: %v", d)
	}
}

// Two clusters that began apart become one as soon as one of them can reach the other.
func TestClustersMerge(t *testing.T) {
	late := freeAddress(t)
	a := open(t, nil, late).run(t)
	b := open(t, nil, a.Address().String()).run(t)
	together(t, a, b)
	c := open(t, func(c *Config) { c.Listen = late }).run(t)
	d := open(t, nil, late).run(t)
	together(t, a, b, c, d)
	told(t, a, b, c, d)
}

// Nothing is left behind, and the port can be had again.
func TestStopLeavesNothing(t *testing.T) {
	before := runtime.NumGoroutine()
	a := open(t, nil).run(t)
	b := open(t, nil, a.Address().String(), "127.0.0.1:1", "name.invalid:7946").run(t)
	together(t, a, b)
	address := a.Address().String()
	a.stop()
	b.stop()
	until(t, "goroutines are gone", func() bool { return runtime.NumGoroutine() <= before })
	g := open(t, func(c *Config) { c.Listen = address })
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestListenFails(t *testing.T) {
	a := open(t, nil)
	defer func() { _ = a.Close() }()
	for _, c := range []struct {
		change func(*Config)
		intent string
	}{
		{func(c *Config) { c.Listen = a.Address().String() }, "the port is taken"},
		{func(c *Config) { c.Listen = "nonsense" }, "no address"},
		{func(c *Config) { c.Advertise = "name.invalid:1" }, "nobody of that name"},
		{func(c *Config) { c.Secrets = nil }, "no secret"},
		{func(c *Config) { c.Secrets = [][]byte{[]byte("short")} }, "a short secret"},
		{func(c *Config) { c.Name = strings.Repeat("x", MaxName+1) }, "a long name"},
	} {
		config := Config{Listen: "127.0.0.1:0", Secrets: [][]byte{testSecret("x")}, Ledger: &tally{}}
		c.change(&config)
		if g, err := Listen(config); err == nil {
			_ = g.Close()
			t.Errorf("%s: it listens", c.intent)
		}
	}
}

// relay stands between members and one of them: it loses and delays its packets.
func relay(t *testing.T, to string, loss float64) string {
	t.Helper()
	tcp, udp, err := bind("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	out, err := net.Dial("udp", to)
	if err != nil {
		t.Fatal(err)
	}
	all.Go(func() {
		b := make([]byte, 1<<16)
		for {
			n, _, err := udp.ReadFromUDPAddrPort(b)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if rand.Float64() < loss {
				continue
			}
			packet := append([]byte(nil), b[:n]...)
			all.Go(func() {
				time.Sleep(rand.N(5 * time.Millisecond)) // so that they overtake each other
				_, _ = out.Write(packet)
			})
		}
	})
	all.Go(func() {
		for {
			in, err := tcp.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer func() { _ = in.Close() }()
				pass(&all, in, to)
			})
		}
	})
	t.Cleanup(func() {
		_, _ = tcp.Close(), udp.Close()
		all.Wait()
		_ = out.Close()
	})
	return tcp.Addr().String()
}

// pass carries a stream on until both of its directions have ended.
func pass(all *sync.WaitGroup, in net.Conn, to string) {
	onward, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer func() { _ = onward.Close() }()
	all.Go(func() { _, _ = io.Copy(onward, in); _ = onward.(*net.TCPConn).CloseWrite() })
	_, _ = io.Copy(in, onward)
}

func TestLossyNetwork(t *testing.T) {
	for _, loss := range []float64{0.01, 0.1, 0.3} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			var all []*gateway
			var seeds []string
			for range 3 {
				at := freeAddress(t)
				public := relay(t, at, loss)
				all = append(all, open(t, func(c *Config) { c.Listen, c.Advertise = at, public }, seeds...))
				seeds = append(seeds, public)
			}
			for _, g := range all {
				g.run(t)
			}
			together(t, all...)
			told(t, all...)
		})
	}
}
