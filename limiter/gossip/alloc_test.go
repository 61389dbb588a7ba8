//go:build !race

package gossip

import (
	"testing"
	"time"
)

func TestRoundAllocations(t *testing.T) {
	p := newPair(t)
	p.ledgers[0].deltas, p.ledgers[1].deltas = mixedDeltas(1000), mixedDeltas(300)
	round := func() {
		p.ledgers[0].rounds, p.ledgers[1].rounds = 1, 1
		p.step()
	}
	for range 2 * ringSize { // until every frame of the ring was used
		round()
	}
	merged := p.ledgers[1].merged
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("a round of frames and acknowledgements allocates %v times, want 0", n)
	}
	if p.ledgers[1].merged < merged+100*1000 {
		t.Error("nothing was merged")
	}
}

func TestPassingOnAllocations(t *testing.T) {
	p := newCircle(t, 9, 2)
	passed := func() (n uint64) {
		for _, node := range p.nodes {
			n += node.stats.Passed
		}
		return n
	}
	for _, l := range p.ledgers {
		l.deltas = mixedDeltas(30)
	}
	round := func() {
		for _, l := range p.ledgers {
			l.rounds = 1
		}
		p.step()
	}
	for range 2 * ringSize {
		round()
	}
	before := passed()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("a round in which frames are passed on allocates %v times, want 0", n)
	}
	if passed() < before+100 {
		t.Error("nothing was passed on")
	}
}

func TestJunkAllocations(t *testing.T) {
	n := newPair(t).nodes[0]
	for _, h := range []header{
		{kind: kindFrame, life: 1, number: 1},
		{kind: kindFrame, life: n.peers[0].in.short, number: 1 << 40},
		{kind: kindDirect, life: n.peers[0].in.short, number: 1 << 40},
		{kind: kindHello},
		{kind: 0x77},
	} {
		h.key = n.secrets[0].id
		packet := append(h.append(nil), make([]byte, 200)...)
		if got := testing.AllocsPerRun(100, func() { n.Receive(time.Hour, packet) }); got != 0 {
			t.Errorf("junk of kind %x allocates %v times, want 0", h.kind, got)
		}
	}
}
