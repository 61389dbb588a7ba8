package gossip

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// network carries packets between nodes on a virtual clock. The same seed gives the same run, but for keys.
type network struct {
	t       testing.TB
	now     time.Duration
	rand    *rand.Rand
	queue   events
	order   int
	delay   time.Duration // one way
	jitter  time.Duration // more than that, evenly
	loss    float64
	twice   float64                 // share of packets that arrive twice
	flip    float64                 // share of packets with a wrong bit
	cut     func(from, to int) bool // nil: nobody is cut off
	tap     func(to int, packet []byte)
	hosts   []*host
	timing  time.Duration        // interval of those who start
	above   int                  // they relay if there are more others; 0: as they do outside of tests
	ledger  func(h *host) Ledger // of who starts; nil: its book
	carried uint64
	bytes   uint64
}

// host is a node and its ledger. A host that restarts gets another node.
type host struct {
	*book
	member  *member // in fleets
	index   int
	node    *Node
	address netip.AddrPort
	down    bool
	life    int
	left    bool          // it is no member any more
	drift   float64       // of its clock
	ticks   time.Duration // when the next tick is due
	stalled time.Duration // until when it gets no processor
}

// clock is a host's own, which may run fast.
func (h *host) clock(now time.Duration) time.Duration {
	return now + time.Duration(h.drift*float64(now))
}

type event struct {
	at    time.Duration
	order int
	do    func()
}

type events []event

func (e events) Len() int { return len(e) }
func (e events) Less(i, j int) bool {
	return e[i].at < e[j].at || e[i].at == e[j].at && e[i].order < e[j].order
}
func (e events) Swap(i, j int) { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)   { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

func (w *network) after(d time.Duration, do func()) {
	w.order++
	heap.Push(&w.queue, event{w.now + d, w.order, do})
}

// run goes on for d.
func (w *network) run(d time.Duration) {
	end := w.now + d
	for len(w.queue) > 0 && w.queue[0].at <= end {
		e := heap.Pop(&w.queue).(event)
		w.now = e.at
		e.do()
	}
	w.now = end
}

func testSecret(name string) []byte { return fmt.Appendf(nil, "%-40s", name) }

const testInterval = 10 * time.Millisecond

// newNetwork makes so many nodes that know of each other.
func newNetwork(t testing.TB, nodes int, seed uint64) *network {
	w := &network{t: t, rand: rand.New(rand.NewPCG(seed, 1)), delay: time.Millisecond, timing: testInterval}
	w.begin(nodes)
	return w
}

func (w *network) begin(nodes int) {
	at := len(w.hosts)
	for i := at; i < at+nodes; i++ {
		h := &host{index: i, address: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 7946)}
		w.hosts = append(w.hosts, h)
	}
	for _, h := range w.hosts[at:] {
		w.start(h)
	}
}

// chance is the nodes' source of random numbers.
type chance struct{ *rand.Rand }

func (c chance) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(c.Uint32())
	}
	return len(b), nil
}

func (w *network) start(h *host) {
	h.life++
	h.down = false
	h.book = newBook(w, h)
	var ledger Ledger = h.book
	if w.ledger != nil {
		ledger = w.ledger(h)
	}
	node, err := NewNode(NodeConfig{
		Name: name(h.index), Secrets: [][]byte{testSecret("fleet")}, Interval: w.timing, Ledger: ledger, Budget: 100_000_000,
		Peers: MaxMembers, Record: h.book.record, Random: chance{w.rand},
		Send: func(to netip.AddrPort, packet []byte) { w.carry(h, to, packet) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	h.node = node
	if w.above > 0 {
		node.relays.above = w.above
	}
	node.Members(h.clock(w.now), w.everybody())
	w.tick(h, h.life)
}

func (w *network) everybody() (all []Peer) {
	for _, h := range w.hosts {
		if !h.left {
			all = append(all, Peer{name(h.index), h.address})
		}
	}
	return all
}

func name(index int) string { return fmt.Sprintf("node-%d", index) }

func (w *network) kill(h *host) { h.down = true; h.life++ }

// tick calls a node when it wants to be called.
func (w *network) tick(h *host, life int) {
	if h.life != life {
		return
	}
	if h.stalled > w.now {
		h.ticks = 0 // nothing else calls it
		w.after(h.stalled-w.now, func() { w.tick(h, life) })
		return
	}
	now := h.clock(w.now)
	next := h.node.Tick(now)
	h.ticks = next
	w.after(next-now, func() {
		if h.ticks == next {
			w.tick(h, life)
		}
	})
}

func (w *network) carry(from *host, to netip.AddrPort, packet []byte) {
	w.carried++
	w.bytes += uint64(len(packet) + datagram)
	if len(packet) > MaxPacket {
		w.t.Fatalf("a packet has %d bytes", len(packet))
	}
	var target *host
	if i := int(to.Addr().As4()[3]); i < len(w.hosts) {
		target = w.hosts[i]
	}
	if target == nil || target.down || w.cut != nil && w.cut(from.index, target.index) || w.rand.Float64() < w.loss {
		return
	}
	copies := 1
	if w.rand.Float64() < w.twice {
		copies = 2
	}
	for range copies {
		b := append([]byte(nil), packet...)
		if w.rand.Float64() < w.flip {
			b[w.rand.IntN(len(b))] ^= 1 << w.rand.IntN(8)
		}
		late := w.delay
		if w.jitter > 0 {
			late += time.Duration(w.rand.Int64N(int64(w.jitter)))
		}
		w.after(late, func() { w.deliver(target, b) })
	}
}

func (w *network) deliver(h *host, packet []byte) {
	if h.down {
		return
	}
	if h.stalled > w.now {
		w.after(h.stalled-w.now, func() { w.deliver(h, packet) })
		return
	}
	if w.tap != nil {
		w.tap(h.index, packet)
	}
	if h.node.Receive(h.clock(w.now), packet) {
		w.tick(h, h.life)
	}
}

// spend lets a host pass units on a key.
func (w *network) spend(h *host, key limiter.Key, units uint32) {
	h.spent += uint64(units)
	h.pending = append(h.pending, limiter.Delta{Key: key, Rule: 1, Units: units})
}

// book is a ledger that checks what a node promises it.
type book struct {
	w       *network
	host    *host
	pending []limiter.Delta
	spent   uint64
	sent    map[limiter.Key]uint64         // by Drain, not acknowledged
	acked   uint64                         // units
	merged  map[int]uint64                 // units by who let them pass
	keys    map[int]map[limiter.Key]uint64 // the same by key
	fleet   map[int]limiter.MemberState
	missed  map[int]bool // by who told what it will never tell
	debts   map[limiter.Key]uint32
	records map[string]int
	oldest  time.Duration                  // age
	knew    map[int]map[limiter.Key]uint64 // what was spent here when a key of another was merged
	lax     bool                           // do not check who has what is acknowledged
}

func newBook(w *network, h *host) *book {
	return &book{w: w, host: h, sent: map[limiter.Key]uint64{}, merged: map[int]uint64{}, keys: map[int]map[limiter.Key]uint64{},
		fleet: map[int]limiter.MemberState{}, missed: map[int]bool{}, debts: map[limiter.Key]uint32{}, records: map[string]int{}, knew: map[int]map[limiter.Key]uint64{}}
}

func (b *book) record(r []byte) { b.records[string(r)]++ }

func (b *book) Drain(now time.Duration, to []limiter.Delta) []limiter.Delta {
	n := min(cap(to)-len(to), len(b.pending))
	to = append(to, b.pending[:n]...)
	b.pending = b.pending[n:]
	for _, d := range to {
		b.sent[d.Key] += uint64(d.Units)
	}
	return to
}

func (b *book) Merge(now time.Duration, from int, age time.Duration, deltas []limiter.Delta) {
	who := b.whose(from)
	if b.keys[who] == nil {
		b.keys[who], b.knew[who] = map[limiter.Key]uint64{}, map[limiter.Key]uint64{}
	}
	for _, d := range deltas {
		b.merged[who] += uint64(d.Units)
		b.keys[who][d.Key] += uint64(d.Units)
		b.knew[who][d.Key] = b.spent
	}
	b.oldest = max(b.oldest, age)
}

// whose is the host that a node knows under an index.
func (b *book) whose(peer int) int {
	p := b.host.node.peers[peer]
	for _, h := range b.w.hosts {
		if name(h.index) == p.name {
			return h.index
		}
	}
	b.w.t.Fatalf("who is %d?", peer)
	return 0
}

func (b *book) Acknowledge(now time.Duration, deltas []limiter.Delta) {
	for _, d := range deltas {
		b.acked += uint64(d.Units)
		if b.sent[d.Key] < uint64(d.Units) {
			b.w.t.Errorf("%v: %s acknowledges %d units of %d twice", now, b.host.node.name, d.Units, d.Key)
		}
		b.sent[d.Key] -= uint64(d.Units)
		if b.lax {
			continue
		}
		for peer, state := range b.fleet {
			other := b.w.hosts[b.whose(peer)]
			if state != limiter.Alive || other.down {
				continue
			}
			if other.keys[b.host.index][d.Key] < uint64(d.Units) {
				b.w.t.Errorf("%v: %s acknowledges key %d, which %s does not have", now, b.host.node.name, d.Key, other.node.name)
			}
			if knew := other.knew[b.host.index][d.Key]; b.merged[other.index] < knew {
				b.w.t.Errorf("%v: %s acknowledges key %d, and does not know of all that %s spent before", now, b.host.node.name, d.Key, other.node.name)
			}
		}
	}
}

func (b *book) Fleet(now time.Duration, members []limiter.Member) {
	clear(b.fleet)
	clear(b.missed)
	for _, m := range members {
		b.fleet[m.Peer] = m.State
		if m.Missed {
			b.missed[b.whose(m.Peer)] = true
		}
	}
}

func (b *book) Snapshot(now time.Duration, cursor uint64, to []limiter.Delta) ([]limiter.Delta, uint64) {
	for key := limiter.Key(cursor); key < 10_000; key++ {
		if units := b.debts[key]; units > 0 {
			if len(to) == cap(to) {
				return to, uint64(key)
			}
			to = append(to, limiter.Delta{Key: key, Rule: uint64(key) % 3, Units: units})
		}
	}
	return to, 0
}

func (b *book) Doubt() (int, bool) { return 0, false }

func (b *book) Resolve(time.Duration, time.Duration, []limiter.Delta) {}

func (b *book) Pressing() <-chan struct{} { return nil }

func (b *book) Restore(now, age time.Duration, debts []limiter.Delta) {
	for _, d := range debts {
		b.debts[d.Key] = max(b.debts[d.Key], d.Units)
	}
}

// alive is how many peers a host believes to be alive.
func (h *host) alive() (n int) {
	for _, state := range h.fleet {
		if state == limiter.Alive {
			n++
		}
	}
	return n
}

// meet runs until all know each other.
func (w *network) meet() {
	w.t.Helper()
	for range 600 {
		w.run(50 * time.Millisecond)
		met, members := true, len(w.everybody())
		for _, h := range w.hosts {
			met = met && (h.down || h.alive() == members-1)
		}
		if met {
			return
		}
	}
	w.t.Fatal("they never met")
}

// settle runs until everything is acknowledged.
func (w *network) settle(d time.Duration) {
	w.t.Helper()
	w.run(d)
	for _, h := range w.hosts {
		if !h.down && h.acked != h.spent {
			w.t.Errorf("%s: %d units spent, %d acknowledged", h.node.name, h.spent, h.acked)
		}
	}
}

// agree checks that everybody has heard of all that everybody spent, once.
func (w *network) agree() {
	w.t.Helper()
	for _, h := range w.hosts {
		for _, other := range w.hosts {
			if h != other && !h.down && !other.down && h.merged[other.index] != other.spent {
				w.t.Errorf("%s has merged %d units of %s, who spent %d", h.node.name, h.merged[other.index], other.node.name, other.spent)
			}
		}
	}
}
