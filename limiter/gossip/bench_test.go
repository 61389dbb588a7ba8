package gossip

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// idle is a ledger that gives the same deltas for ever, and forgets what it is told.
type idle struct {
	deltas []limiter.Delta
	rounds int // that Drain has something
	merged int
}

func (l *idle) Drain(now time.Duration, to []limiter.Delta) []limiter.Delta {
	if l.rounds == 0 {
		return to
	}
	l.rounds--
	return append(to, l.deltas...)
}
func (l *idle) Merge(now time.Duration, from int, age time.Duration, deltas []limiter.Delta) {
	l.merged += len(deltas)
}
func (l *idle) Acknowledge(time.Duration, []limiter.Delta)            {}
func (l *idle) Fleet(time.Duration, []limiter.Member)                 {}
func (l *idle) Restore(time.Duration, time.Duration, []limiter.Delta) {}
func (l *idle) Resolve(time.Duration, time.Duration, []limiter.Delta) {}
func (l *idle) Doubt() (int, bool)                                    { return 0, false }
func (l *idle) Pressing() <-chan struct{}                             { return nil }
func (l *idle) Snapshot(_ time.Duration, _ uint64, to []limiter.Delta) ([]limiter.Delta, uint64) {
	return to, 0
}

// circle is some nodes whose packets lie in a queue until they are passed on.
type circle struct {
	nodes   []*Node
	ledgers []*idle
	queues  [][][]byte // to each
	spare   [][]byte
	now     time.Duration
	bytes   int
}

func newPair(t testing.TB) *circle { return newCircle(t, 2, FullMesh) }

// newCircle makes nodes that relay if each has more than above others.
func newCircle(t testing.TB, nodes, above int) *circle {
	p := &circle{now: time.Second, queues: make([][][]byte, nodes)}
	var all []Peer
	for i := range nodes {
		all = append(all, Peer{name(i), netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1)})
	}
	for i := range nodes {
		p.ledgers = append(p.ledgers, &idle{})
		n, err := NewNode(NodeConfig{
			Name: all[i].Name, Secrets: [][]byte{testSecret("x")}, Interval: testInterval, Ledger: p.ledgers[i], Budget: 1 << 40, Random: rand.Reader,
			Send: func(to netip.AddrPort, packet []byte) { p.post(int(to.Addr().As4()[3]), packet) },
		})
		if err != nil {
			t.Fatal(err)
		}
		n.relays.above = above
		p.nodes = append(p.nodes, n)
		n.Members(p.now, all)
	}
	for range 100 {
		p.step()
	}
	for _, n := range p.nodes {
		if n.alive.len() != nodes-1 {
			t.Fatal("they have not met")
		}
	}
	return p
}

func (p *circle) post(to int, packet []byte) {
	var b []byte
	if n := len(p.spare); n > 0 {
		b, p.spare = p.spare[n-1], p.spare[:n-1]
	} else {
		b = make([]byte, 0, MaxPacket)
	}
	p.bytes += len(packet)
	p.queues[to] = append(p.queues[to], append(b[:0], packet...))
}

func (p *circle) pass(to int) {
	for _, b := range p.queues[to] {
		p.nodes[to].Receive(p.now, b)
		p.spare = append(p.spare, b)
	}
	p.queues[to] = p.queues[to][:0]
}

func (p *circle) step() {
	p.now += testInterval
	for i := range p.nodes {
		p.nodes[i].Tick(p.now)
	}
	for i := range p.nodes {
		p.pass(i)
	}
}

// BenchmarkSend drains, encodes, seals and acknowledges; BenchmarkReceive opens, decodes and merges. A round is
// 1000 deltas of two rules.
func BenchmarkSend(b *testing.B)    { benchmarkWay(b, 0) }
func BenchmarkReceive(b *testing.B) { benchmarkWay(b, 1) }

const benchmarkDeltas = 1000

func mixedDeltas(n int) (deltas []limiter.Delta) {
	for i := range n {
		deltas = append(deltas, limiter.Delta{Key: limiter.Key(i) << 40, Rule: uint64(i % 2), Units: 1 + uint32(i%200), Demand: uint32(i % 100)})
	}
	return deltas
}

func benchmarkWay(b *testing.B, timed int) {
	p := newPair(b)
	p.ledgers[0].deltas = mixedDeltas(benchmarkDeltas)
	b.ReportAllocs()
	b.ResetTimer()
	b.StopTimer()
	for range b.N {
		p.ledgers[0].rounds = 1
		p.now += testInterval
		part := func(i int, do func()) {
			if i == timed {
				b.StartTimer()
				defer b.StopTimer()
			}
			do()
		}
		part(0, func() { p.nodes[0].Tick(p.now) })
		part(1, func() { p.pass(1) })
		part(1, func() { p.nodes[1].Tick(p.now) })
		part(0, func() { p.pass(0) })
	}
	if p.ledgers[1].merged != b.N*benchmarkDeltas {
		b.Fatalf("%d merged in %d rounds", p.ledgers[1].merged, b.N)
	}
	b.ReportMetric(float64(b.N)*benchmarkDeltas/b.Elapsed().Seconds()/1e6, "Mdeltas/s")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkSeal(b *testing.B) {
	n := newPair(b).nodes[0]
	packet := make([]byte, headerSize+bodySize, MaxPacket)
	b.SetBytes(MaxPacket)
	b.ReportAllocs()
	for i := range b.N {
		n.sealer.seal(n.out, uint64(i), packet)
	}
}

func BenchmarkOpen(b *testing.B) {
	n := newPair(b).nodes[0]
	packet := n.sealer.seal(n.out, 1, make([]byte, headerSize+bodySize, MaxPacket))
	b.SetBytes(MaxPacket)
	b.ReportAllocs()
	for range b.N {
		if _, ok := n.sealer.open(n.out, 1, packet); !ok {
			b.Fatal("does not open")
		}
	}
}

// What junk costs: of an unknown sender, aimed at a known one, and a forged hello.
func BenchmarkJunk(b *testing.B) {
	n := newPair(b).nodes[0]
	junk := func(kind byte, life uint64) []byte {
		return append(header{kind: kind, key: n.secrets[0].id, life: life, number: 1 << 40}.append(nil), make([]byte, 200)...)
	}
	for name, packet := range map[string][]byte{"stranger": junk(kindFrame, 1), "forged": junk(kindFrame, n.peers[0].in.short), "hello": junk(kindHello, 1)} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				n.Receive(time.Hour, packet)
			}
		})
	}
}

// BenchmarkBytes is what each node sends in a second, UDP and IP included, by nodes and keys under pressure: a
// frame's worth of bytes for each peer.
func BenchmarkBytes(b *testing.B) {
	for _, nodes := range []int{2, 3, 8, 32, 64, 128} {
		for _, above := range []int{0, MaxMembers} {
			for _, keys := range []int{0, 1, 10, 100, 1000} {
				if above > 0 && nodes <= 32 || keys > 100 && nodes > 32 {
					continue
				}
				way := "" // as it is
				if above > 0 {
					way = "/mesh"
				}
				b.Run(fmt.Sprintf("nodes=%d/keys=%d%s", nodes, keys, way), func(b *testing.B) {
					if keys > 10 && nodes > 8 && testing.Short() {
						b.Skip("slow")
					}
					for range b.N {
						benchmarkBytes(b, nodes, keys, above)
					}
				})
			}
		}
	}
}

func benchmarkBytes(b *testing.B, nodes, keys, above int) {
	w := newNetwork(b, 0, 1)
	w.timing, w.above = 50*time.Millisecond, above
	w.begin(nodes)
	for _, h := range w.hosts {
		h.node.budget.rate, h.lax = 2_500_000, true
	}
	w.meet()
	w.run(time.Second)
	packets, bytes, most := w.carried, w.bytes, uint64(0)
	for _, h := range w.hosts {
		h.node.stats = Stats{}
	}
	for range 20 {
		for _, h := range w.hosts {
			for k := range keys {
				w.spend(h, limiter.Key(k), 1+uint32(k%100))
			}
		}
		w.run(50 * time.Millisecond)
	}
	for _, h := range w.hosts {
		most = max(most, h.node.stats.BytesOut+datagram*h.node.stats.FramesOut)
	}
	b.ReportMetric(float64(w.bytes-bytes)/float64(nodes)/1000, "kB/s/node")
	b.ReportMetric(float64(most)/1000, "most-kB/s")
	b.ReportMetric(float64(w.carried-packets)/float64(nodes), "packets/s/node")
	b.ReportMetric(0, "ns/op")
}
