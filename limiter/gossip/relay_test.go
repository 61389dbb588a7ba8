package gossip

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// relayed makes nodes that relay though they are few: in groups of three or four.
func relayed(t *testing.T, nodes int, seed uint64) *network {
	t.Helper()
	w := newNetwork(t, 0, seed)
	w.above = 4
	w.begin(nodes)
	w.meet()
	w.run(200 * time.Millisecond)
	w.relaying(true)
	return w
}

// relaying checks that all reach some peers through others, or that nobody does.
func (w *network) relaying(want bool) {
	w.t.Helper()
	for _, h := range w.hosts {
		if h.down {
			continue
		}
		far := 0
		for _, p := range h.node.names {
			if h.node.far(w.now, p) {
				far++
			}
		}
		if far > 0 != want || h.node.relays.groups > 0 != want {
			w.t.Errorf("%s: %d of %d peers are far, %d groups", h.node.name, far, len(h.node.names), h.node.relays.groups)
		}
	}
}

// join adds so many nodes, and tells all.
func (w *network) join(nodes int) {
	at := len(w.hosts)
	w.begin(nodes)
	for _, h := range w.hosts[:at] {
		if !h.down {
			h.node.Members(h.clock(w.now), w.everybody())
		}
	}
}

// leave lets a host say good-bye.
func (w *network) leave(h *host) {
	h.node.Leave(h.clock(w.now))
	w.kill(h)
	h.left = true
	for _, other := range w.hosts {
		if !other.down {
			other.node.Members(other.clock(w.now), w.everybody())
		}
	}
}

// drizzle lets all spend now and then.
func (w *network) drizzle(d time.Duration) {
	var key limiter.Key
	for end := w.now + d; w.now < end; w.run(3 * time.Millisecond) {
		for _, h := range w.hosts {
			if !h.down && w.rand.IntN(2) == 0 {
				key++
				w.spend(h, key, 1+uint32(key%3))
			}
		}
	}
}

// What is promised to a ledger holds where others pass it on: everything arrives, once, and acknowledgements do not
// overtake it.
func TestPassedOnDeltasArriveOnce(t *testing.T) {
	for i, c := range []struct {
		nodes   int
		loss    float64
		twice   float64
		flip    float64
		jitter  time.Duration
		repairs bool // may be needed
		intent  string
	}{
		{nodes: 12, intent: "a clean network"},
		{nodes: 20, intent: "more nodes"},
		{nodes: 12, loss: 0.01, repairs: true, intent: "a packet in a hundred is lost"},
		{nodes: 12, loss: 0.1, jitter: time.Millisecond, repairs: true, intent: "one in ten"},
		{nodes: 12, loss: 0.3, jitter: time.Millisecond, repairs: true, intent: "nearly one in three"},
		{nodes: 12, twice: 1, intent: "every packet comes twice"},
		{nodes: 12, jitter: 20 * time.Millisecond, repairs: true, intent: "packets overtake each other by far"},
		{nodes: 12, loss: 0.1, twice: 0.5, flip: 0.05, jitter: 20 * time.Millisecond, repairs: true, intent: "everything at once"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			w := relayed(t, c.nodes, uint64(i))
			w.loss, w.twice, w.flip, w.jitter = c.loss, c.twice, c.flip, c.jitter
			w.drizzle(2 * time.Second)
			w.settle(4 * time.Second)
			w.agree()
			passed := uint64(0)
			for _, h := range w.hosts {
				if n := h.node.stats.Repaired; !c.repairs && n > 0 {
					t.Errorf("%s sent %d frames again for nothing", h.node.name, n)
				}
				passed += h.node.stats.Passed
				if h.alive() != c.nodes-1 {
					t.Errorf("%s believes %d peers to be alive", h.node.name, h.alive())
				}
			}
			if passed == 0 {
				t.Error("nothing was passed on")
			}
		})
	}
}

func TestFarPeersAreToldInTime(t *testing.T) {
	w := relayed(t, 12, 1)
	passing := w.hosts[0].node.passingWait()
	for i := range 100 {
		w.run(time.Duration(i) * 100 * time.Microsecond)
		key := limiter.Key(i)
		w.spend(w.hosts[0], key, 1)
		w.run(testInterval + passing + 2*w.delay + 5*time.Millisecond)
		for _, h := range w.hosts[1:] {
			if h.keys[0][key] != 1 {
				t.Fatalf("%s does not have key %d in time", h.node.name, i)
			}
		}
		w.run(testInterval + passing + 2*w.delay)
		if h := w.hosts[0]; h.acked != h.spent {
			t.Fatalf("key %d is not acknowledged in time", i)
		}
	}
}

// relayOf is a host that others have pass on what they say.
func (w *network) relayOf() *host {
	for _, h := range w.hosts {
		for _, p := range h.node.names {
			if h.node.serves(w.now, p) {
				return h
			}
		}
	}
	w.t.Fatal("nobody relays")
	return nil
}

// A relay that dies takes nothing with it that others have said: it reaches everybody, once, by another way.
func TestRelayDies(t *testing.T) {
	for seed := range uint64(3) {
		w := relayed(t, 12, seed)
		w.drizzle(500 * time.Millisecond)
		victim := w.relayOf()
		w.kill(victim)
		for _, h := range w.hosts {
			h.lax = true // what the dead one had merged is acknowledged
		}
		w.drizzle(time.Second)
		w.settle(2 * time.Second)
		w.agree()
		for _, h := range w.hosts {
			if h != victim && h.alive() != 10 {
				t.Errorf("%s believes %d peers to be alive", h.node.name, h.alive())
			}
		}
		earlier, known := w.hosts[(victim.index+1)%12].merged[victim.index], map[int]uint64{}
		w.start(victim)
		victim.spent, victim.lax = 0, true
		w.meet()
		w.run(200 * time.Millisecond)
		for _, h := range w.hosts {
			known[h.index] = h.spent - victim.merged[h.index]
		}
		w.drizzle(500 * time.Millisecond)
		w.settle(2 * time.Second)
		if got := w.hosts[(victim.index+1)%12].merged[victim.index] - earlier; got != victim.spent {
			t.Errorf("%d units were told of %d that the restarted one spent", got, victim.spent)
		}
		for _, h := range w.hosts {
			if h != victim && h.spent-victim.merged[h.index] != known[h.index] {
				t.Errorf("the restarted one lacks some of what %s spent, or has it twice", h.node.name)
			}
		}
	}
}

// Members that do not agree on who is there, or on how many groups there are, lose nothing by it.
func TestRelaysNeedNotAgree(t *testing.T) {
	w := newNetwork(t, 0, 1)
	w.above = 4
	w.begin(12)
	for i, h := range w.hosts {
		h.node.relays.above = []int{4, MaxMembers, 8}[i%3]
		if i%2 == 0 { // does not know some
			h.node.Members(w.now, append(w.everybody()[:i], w.everybody()[min(12, i+3):]...))
		}
	}
	w.run(time.Second)
	for _, h := range w.hosts {
		h.lax = true // of whom it does not know
	}
	w.drizzle(2 * time.Second)
	w.settle(2 * time.Second)
	for _, h := range w.hosts {
		for _, other := range w.hosts {
			p, q := h.node.names[other.node.name], other.node.names[h.node.name]
			if p != nil && q != nil && h.merged[other.index] != other.spent {
				t.Errorf("%s has merged %d units of %s, who spent %d", h.node.name, h.merged[other.index], other.node.name, other.spent)
			}
		}
	}
}

func TestRecordsArePassedOn(t *testing.T) {
	w := relayed(t, 12, 8)
	w.loss = 0.1
	for i := range 120 {
		if !w.hosts[i%12].node.Publish(fmt.Appendf(nil, "%*d", 1+i*9%MaxRecord, i)) {
			t.Fatalf("record %d is refused", i)
		}
		w.run(time.Millisecond)
	}
	w.run(3 * time.Second)
	w.expectRecords(110)
}

// Who leaves says so himself to all, and what he spent last.
func TestLeaveOfAFleetThatRelays(t *testing.T) {
	w := relayed(t, 12, 5)
	h := w.hosts[2]
	w.spend(h, 1, 5)
	h.node.Leave(w.now)
	w.kill(h)
	w.run(2 * w.delay)
	for _, other := range w.hosts {
		if other != h && (len(other.fleet) != 10 || other.merged[2] != 5) {
			t.Errorf("%s: %d members, %d units of who left", other.node.name, len(other.fleet), other.merged[2])
		}
	}
}

// Between the two ways there is some way to go: 33 members relay, and go on with it until they are 30.
func TestFleetsRelayBeyondTheMesh(t *testing.T) {
	w := newNetwork(t, 31, 1)
	for i, step := range []struct {
		joins, leaves int
		want          bool
	}{
		{joins: 1}, {joins: 1, want: true}, {leaves: 1, want: true}, {leaves: 1, want: true}, {leaves: 1}, {joins: 2}, {joins: 1, want: true},
	} {
		w.join(step.joins)
		for range step.leaves {
			for _, h := range w.hosts {
				if !h.left {
					w.leave(h)
					break
				}
			}
		}
		w.meet()
		w.run(200 * time.Millisecond)
		if w.relaying(step.want); t.Failed() {
			t.Fatalf("after step %d, %d members", i, len(w.everybody()))
		}
	}
}

// A node that others have pass on more than there is room for drops that, and they repair it.
func TestPassingIsBounded(t *testing.T) {
	w := relayed(t, 12, 1)
	n := w.relayOf().node
	for _, p := range n.peers {
		for range 1000 {
			if p != nil {
				n.enqueue(p, w.now+time.Hour, make([]byte, 1000))
			}
		}
		if p != nil && len(p.route.waiting) > maxPassing {
			t.Fatalf("%d bytes wait", len(p.route.waiting))
		}
	}
	if n.stats.Unpassed == 0 {
		t.Error("nothing was dropped")
	}
}

// The same on sockets; 36 of them take half a minute to join and to leave.
func TestRelaysOnLoopback(t *testing.T) {
	if !atLength() {
		t.Skip("SLUICE_SIMULATE=long runs it")
	}
	all := []*gateway{open(t, nil).run(t)}
	for range FullMesh + 3 {
		all = append(all, open(t, nil, all[0].Address().String()).run(t))
	}
	together(t, all...)
	told(t, all...)
	until(t, "something is passed on", func() bool {
		told(t, all...)
		for _, g := range all {
			if g.Stats().Passed > 0 {
				return true
			}
		}
		return false
	})
	all[5].stop()
	all = append(all[:5], all[6:]...)
	together(t, all...)
	told(t, all...)
}
