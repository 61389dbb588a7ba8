package gossip

import (
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// between cuts the hosts below n off from the others.
func between(n int) func(from, to int) bool {
	return func(from, to int) bool { return (from < n) != (to < n) }
}

func TestShortSilenceIsRepaired(t *testing.T) {
	w := newNetwork(t, 4, 1)
	w.meet()
	w.traffic(500*time.Millisecond, 2)
	w.cut = between(2)
	w.traffic(time.Second, 2)
	for _, h := range w.hosts {
		if h.alive() != 1 {
			t.Errorf("%s believes %d peers to be alive", h.node.name, h.alive())
		}
	}
	w.cut = nil
	w.traffic(500*time.Millisecond, 2)
	w.settle(time.Second)
	w.agree()
	for _, h := range w.hosts {
		if len(h.missed) > 0 {
			t.Errorf("%s believes that it missed something of %v", h.node.name, h.missed)
		}
	}
}

func TestLongSilenceIsSkipped(t *testing.T) {
	w := newNetwork(t, 4, 2)
	w.meet()
	w.traffic(100*time.Millisecond, 2)
	w.settle(time.Second)
	before := w.hosts[0].merged[3]
	w.cut = between(2)
	for _, h := range w.hosts {
		h.lax = true // what is on its way at the cut is given up
		h.debts[limiter.Key(h.index)] = 7
	}
	w.traffic(5*time.Second, 2)
	w.settle(time.Second)
	missed := w.hosts[3].spent - before
	w.cut = nil
	w.run(200 * time.Millisecond)
	for _, h := range w.hosts {
		if h.alive() != 3 {
			t.Errorf("%s believes %d peers to be alive 200 ms after the network healed", h.node.name, h.alive())
		}
		for i := range w.hosts {
			if h.missed[i] != ((h.index < 2) != (i < 2)) {
				t.Errorf("%s believes that it missed something of %v", h.node.name, h.missed)
			}
			if (h.index < 2) != (i < 2) && h.debts[limiter.Key(i)] != 7 {
				t.Errorf("%s was not told that key %d is in debt", h.node.name, i)
			}
		}
	}
	if n := w.hosts[0].merged[3]; n > before+missed/10 {
		t.Errorf("%d of %d units of the silence were told after it", n-before, missed)
	}
	if w.hosts[0].merged[1] != w.hosts[1].spent {
		t.Error("those on one side do not agree")
	}
	at := w.hosts[0].merged[3]
	w.cut = between(2)
	w.run(time.Second)
	w.cut = nil
	w.run(200 * time.Millisecond)
	if n := len(w.hosts[0].missed); n > 0 {
		t.Errorf("after another silence, which was short, something of %d is missed", n)
	}
	w.traffic(time.Second, 2)
	w.settle(time.Second)
	if got := w.hosts[0].merged[3] - at; got != w.hosts[3].spent-before-missed {
		t.Errorf("of %d units after it, %d were told", w.hosts[3].spent-before-missed, got)
	}
}

func TestRestart(t *testing.T) {
	for _, away := range []time.Duration{0, 100 * time.Millisecond, 5 * time.Second} {
		w := newNetwork(t, 4, 3)
		w.meet()
		w.traffic(500*time.Millisecond, 2)
		victim := w.hosts[3]
		w.kill(victim)
		for _, h := range w.hosts {
			h.lax = true // what an earlier life had merged is acknowledged
		}
		for i := range 5000 {
			w.hosts[0].debts[limiter.Key(i)] = uint32(i + 1)
		}
		w.traffic(away, 2)
		w.run(2 * w.delay) // for what is on its way
		earlier := w.hosts[0].merged[3]
		w.start(victim)
		victim.lax = true // it does not know what was spent before it came
		w.run(150 * time.Millisecond)
		if victim.alive() != 3 || w.hosts[0].alive() != 3 {
			t.Fatalf("away for %v: 150 ms later %d and %d are alive", away, victim.alive(), w.hosts[0].alive())
		}
		w.run(200 * time.Millisecond)
		for i := range 5000 {
			if victim.debts[limiter.Key(i)] != uint32(i+1) {
				t.Fatalf("away for %v: key %d has %d", away, i, victim.debts[limiter.Key(i)])
			}
		}
		known, told := w.hosts[0].spent, victim.merged[0]
		w.traffic(500*time.Millisecond, 2)
		w.settle(2 * time.Second)
		if got := w.hosts[0].merged[3] - earlier; got != victim.spent {
			t.Errorf("away for %v: %d units told of %d", away, got, victim.spent)
		}
		if got := victim.merged[0] - told; got != w.hosts[0].spent-known {
			t.Errorf("away for %v: it was told %d units of %d", away, got, w.hosts[0].spent-known)
		}
	}
}

func TestDeadPeerIsNotWaitedFor(t *testing.T) {
	w := newNetwork(t, 3, 4)
	w.meet()
	w.kill(w.hosts[2])
	w.spend(w.hosts[0], 1, 1)
	w.run(30 * time.Millisecond)
	if w.hosts[0].acked > 0 {
		t.Error("acknowledged, though one did not answer")
	}
	w.run(200 * time.Millisecond)
	if w.hosts[0].acked != 1 {
		t.Error("a dead peer is waited for")
	}
	w.run(goneAfter)
	if n := len(w.hosts[0].fleet); n != 1 {
		t.Errorf("%d other members after the dead one is forgotten", n)
	}
}

func TestLeave(t *testing.T) {
	w := newNetwork(t, 3, 5)
	w.meet()
	h := w.hosts[2]
	w.spend(h, 1, 5)
	h.node.Leave(w.now)
	w.kill(h)
	w.run(2 * w.delay)
	for _, other := range w.hosts[:2] {
		if len(other.fleet) != 1 || other.merged[2] != 5 {
			t.Errorf("%s: members %v, %d units of who left", other.node.name, other.fleet, other.merged[2])
		}
	}
}

func TestAlone(t *testing.T) {
	w := newNetwork(t, 1, 6)
	w.traffic(100*time.Millisecond, 5)
	w.settle(testInterval)
	if w.carried > 0 {
		t.Errorf("%d packets were sent to nobody", w.carried)
	}
}

// Both sides of a pair must be met, whatever is lost of the handshake.
func TestHandshakeUnderLoss(t *testing.T) {
	for seed := range uint64(20) {
		w := newNetwork(t, 3, seed)
		w.loss, w.twice, w.jitter = 0.5, 0.3, 30*time.Millisecond
		w.meet()
	}
}

func TestMembers(t *testing.T) {
	w := newNetwork(t, 3, 7)
	w.meet()
	n := w.hosts[0].node
	all := w.everybody()
	if n.Members(w.now, all[:2]); len(w.hosts[0].fleet) != 1 || len(n.lives) != 1 {
		t.Errorf("a member that left is still one: %v", w.hosts[0].fleet)
	}
	if refused := n.Members(w.now, all); refused != 0 {
		t.Errorf("%d refused", refused)
	}
	w.meet()
	w.traffic(100*time.Millisecond, 1)
	w.settle(time.Second)
	for i := range 2 * MaxMembers {
		all = append(all, Peer{fmt.Sprint("more-", i), all[1].Address})
	}
	if refused := n.Members(w.now, all); refused != 2*MaxMembers+2-MaxMembers {
		t.Errorf("%d refused", refused)
	}
	if w.hosts[0].alive() != 2 {
		t.Error("members are displaced by later ones")
	}
}

// expectRecords checks that everybody was told so many records, each of them once.
func (w *network) expectRecords(n int) {
	w.t.Helper()
	for _, h := range w.hosts {
		for r, times := range h.records {
			if times != 1 {
				w.t.Errorf("%s was told %.20q %d times", h.node.name, r, times)
			}
		}
		if len(h.records) != n {
			w.t.Errorf("%s was told %d records", h.node.name, len(h.records))
		}
	}
}

func TestRecordsArrive(t *testing.T) {
	w := newNetwork(t, 4, 8)
	w.meet()
	w.loss = 0.2
	for i := range 300 {
		if !w.hosts[i%4].node.Publish(fmt.Appendf(nil, "%*d", 1+i*3%MaxRecord, i)) {
			t.Fatalf("record %d is refused", i)
		}
		w.run(time.Millisecond)
	}
	w.run(2 * time.Second)
	w.expectRecords(225)
	n := w.hosts[0].node
	if n.Publish(nil) || n.Publish(make([]byte, MaxRecord+1)) {
		t.Error("a record of no length, or too long, is taken")
	}
}

func TestUrgent(t *testing.T) {
	w := newNetwork(t, 3, 9)
	w.delay = 100 * time.Microsecond
	w.meet()
	h := w.hosts[0]
	for i := range 50 {
		w.run(time.Duration(i) * 331 * time.Microsecond)
		w.spend(h, limiter.Key(i), 1)
		h.node.Hurry()
		w.tick(h, h.life)
		w.run(4 * time.Millisecond)
		if h.acked != h.spent {
			t.Fatalf("pressing key %d is not acknowledged at once", i)
		}
	}
	frames := h.node.log.last
	for range 1000 { // ten in each millisecond
		w.spend(h, 1, 1)
		h.node.Hurry()
		w.tick(h, h.life)
		w.run(100 * time.Microsecond)
	}
	if sent := h.node.log.last - frames; sent > 101 {
		t.Errorf("%d frames in 100 ms", sent)
	}
}

// Fleets that began apart tell each other of their debts when they meet.
func TestFleetsMerge(t *testing.T) {
	for _, side := range []int{1, 2, 3, 6} {
		w := newNetwork(t, 8, 10)
		w.cut = between(side)
		w.know(side)
		w.run(time.Second)
		w.traffic(time.Second, 2)
		w.settle(time.Second)
		for _, h := range w.hosts {
			for i := range 1000 {
				if h.index < side {
					h.debts[limiter.Key(i)] = 7
				} else {
					h.debts[limiter.Key(1000+i)] = 8
				}
			}
		}
		w.cut = nil
		w.know(len(w.hosts))
		w.run(200 * time.Millisecond)
		for _, h := range w.hosts {
			if h.alive() != 7 {
				t.Errorf("%d and %d: %s believes %d peers to be alive", side, 8-side, h.node.name, h.alive())
			}
			if n := len(h.debts); n != 2000 {
				t.Errorf("%d and %d: %s knows %d debts of 2000", side, 8-side, h.node.name, n)
			}
		}
	}
}
