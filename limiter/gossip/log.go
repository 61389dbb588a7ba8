package gossip

import (
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// ringSize is how many of the last frames can be sent again. A frame is at most 1200 bytes, and its deltas about
// 6 KB; memory is taken as frames are sent for the first time.
const ringSize = 1024

// log is the frames that were sent last. A frame is sealed once: what is sent to another peer, or again, are the
// same bytes, so that a number is never used twice for different ones, and the receiver's window of numbers
// is all it needs for taking each frame once.
type log struct {
	last uint64 // frame
	held int    // frames that are not acknowledged to the ledger
	ring [ringSize]slot
}

type slot struct {
	number uint64
	at     time.Duration
	urgent bool
	held   bool // until it is acknowledged to the ledger
	packet []byte
	deltas []limiter.Delta // as the ledger gave them
	merged members         // who has it, and said so
}

func (l *log) slot(number uint64) *slot { return &l.ring[number%ringSize] }

// oldest is the first frame that can be sent again.
func (l *log) oldest() uint64 {
	if l.last < ringSize {
		return 1
	}
	return l.last - ringSize + 1
}

// delivery is how far a peer has got with our frames.
type delivery struct {
	ready   bool   // it is known how far
	lost    bool   // it was silent for too long
	base    uint64 // it got all up to here, or they are given up
	told    uint64 // it has given up what it lacks up to here
	counted uint64 // its acknowledgements count for all up to here
	due     time.Duration
	sent    *[ringSize]sending
}

// sending is of one frame to one peer.
type sending struct {
	at    time.Duration
	tries uint8
	came  bool
}

// giveUp means that a peer will not get the frames up to number that it lacks.
func (l *log) giveUp(p *peer, number uint64) {
	for i := max(p.delivery.base+1, l.oldest()); i <= number; i++ {
		l.slot(i).merged.add(p.index)
	}
	p.delivery.base = max(p.delivery.base, number)
	p.delivery.counted = max(p.delivery.counted, number)
}

// count takes a peer among those whose acknowledgements are waited for, or does so no more.
func (n *Node) count(p *peer, in bool) {
	n.moved = true
	if !in {
		n.alive.remove(p.index)
		return
	}
	n.alive.add(p.index)
	for i := n.log.oldest(); i <= n.log.last; i++ {
		if i <= p.delivery.counted {
			n.log.slot(i).merged.add(p.index)
		}
	}
}

// releaseAll looks at every frame, for fewer are waited for.
func (n *Node) releaseAll(now time.Duration) {
	for i := n.log.oldest(); i <= n.log.last && n.log.held > 0; i++ {
		n.release(now, n.log.slot(i))
	}
}

// release acknowledges a frame to the ledger when everybody has it.
func (n *Node) release(now time.Duration, s *slot) {
	if s.held && s.merged.covers(&n.alive) {
		n.let(now, s)
	}
}

func (n *Node) let(now time.Duration, s *slot) {
	s.held = false
	n.log.held--
	if len(s.deltas) > 0 {
		n.ledger.Acknowledge(now, s.deltas)
	}
}

// patienceForRoom is how long a frame may stand in the way of new ones.
const patienceForRoom = 500 * time.Millisecond

// room says whether a frame can be sent without giving up an earlier one too soon, and gives that up.
func (n *Node) room(now time.Duration) bool {
	s := n.log.slot(n.log.last + 1)
	if s.held {
		if now-s.at < patienceForRoom {
			return false
		}
		n.let(now, s)
		n.stats.GivenUp++
	}
	return true
}
