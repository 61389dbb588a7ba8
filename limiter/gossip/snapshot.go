package gossip

import (
	"encoding/binary"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// question is what a node asks that lacks what a peer knows: for buckets in debt, piece by piece. The peer keeps
// nothing of it; what is lost on the way is asked for again.
type question struct {
	open   bool
	cursor uint64
	asked  time.Duration
	pieces int  // that came since
	again  bool // all that a question gets have come
	doubt  bool // it is about what is doubted only
}

// Who meets peers for the first time asks two of them, and one again when he has met all: he may have just begun, or
// they are a fleet that began apart from his. What peers sent before they met is in the snapshot, so it is skipped: if
// it came after the snapshot, it would be debited twice, and a node that believes to owe more than the others gets
// nothing while all are at their limit.
const (
	closingAfter = 200 * time.Millisecond
	// meetingsEnd is how long after the last of them a first meeting is not of the same fleet.
	meetingsEnd = time.Second
)

// inquire asks a peer that begins a life for its debts, if it may know some that nobody here does. It does not if it is
// back: it began with nothing.
func (n *Node) inquire(now time.Duration, p *peer) {
	if !p.known {
		if now > n.met+meetingsEnd {
			n.asked = 0
		}
		p.known, n.met = true, now
	}
	if n.asked < 2 {
		n.asked++
		p.want = question{open: true}
		n.closing = now + closingAfter
	}
}

// close asks for the last snapshot.
func (n *Node) close(now time.Duration) {
	if n.closing == 0 || now < n.closing {
		return
	}
	for _, p := range n.peers {
		if p != nil && p.state == limiter.Alive {
			p.want, n.closing = question{open: true}, 0
			return
		}
	}
}

// late takes what a peer sent before we met as known by its snapshot, or another's.
func (n *Node) late(p *peer, number uint64) {
	if !p.delivery.ready && (p.want.open || n.closing > 0) && number < maxNumber {
		p.in.seen.skip(number)
	}
}

// doubt asks a peer that gets more of a bucket than the ledger does, though it should not.
func (n *Node) doubt() {
	i, ok := n.ledger.Doubt()
	if !ok || i < 0 || i >= len(n.peers) {
		return
	}
	if p := n.peers[i]; p != nil && p.state == limiter.Alive && !p.want.open {
		p.want = question{open: true, doubt: true}
	}
}

const (
	askAgain = 100 * time.Millisecond
	servings = 8 // packets for each question
)

// ask says whether it is time to ask a peer.
func (n *Node) ask(now time.Duration, p *peer) bool {
	q := &p.want
	if !q.open || !q.again && q.asked > 0 && now < q.asked+askAgain+p.trip.smooth {
		return false
	}
	q.asked, q.again, q.pieces = now, false, 0
	return true
}

// serve answers a peer's question.
func (n *Node) serve(now time.Duration, p *peer) {
	p.serve = false
	for range servings {
		next := n.serving(now, p)
		if p.cursor = next; next == 0 {
			return
		}
	}
}

// serving sends as many debts as fit into a packet.
func (n *Node) serving(now time.Duration, p *peer) (next uint64) {
	for room := cap(n.debts); ; room = max(2, room/2) {
		var debts []limiter.Delta
		debts, next = n.ledger.Snapshot(now, p.cursor, n.debts[:0:room])
		b := append(n.direct(now, p), sectionDebts)
		b = binary.BigEndian.AppendUint64(b, p.cursor)
		b = binary.BigEndian.AppendUint64(b, next)
		b, done := appendDeltas(b, n.sorter.sort(debts), headerSize+bodySize)
		if done < len(debts) {
			p.sentDirect-- // that number was not used
			continue
		}
		n.post(p, n.sealer.seal(p.in.out, p.sentDirect, b))
		return next
	}
}

// restore takes a piece of an answer, in whichever order the pieces come; only the one that was asked for
// leads on.
func (n *Node) restore(now time.Duration, p *peer, age time.Duration) {
	m, q := &n.message, &p.want
	switch {
	case len(m.deltas) == 0:
	case q.doubt:
		n.ledger.Resolve(now, age, m.deltas)
	default:
		n.ledger.Restore(now, age, m.deltas)
	}
	if !q.open || m.debts.cursor != q.cursor {
		return
	}
	if q.cursor = m.debts.next; q.cursor == 0 {
		*q = question{}
		n.stats.Snapshots++
		return
	}
	q.asked, q.pieces = now, q.pieces+1 // the pieces that follow are on their way
	q.again = q.pieces == servings
	n.soon = n.soon || q.again
}
