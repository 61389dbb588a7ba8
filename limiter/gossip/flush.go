package gossip

import (
	"encoding/binary"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

const (
	// datagram is what IP and UDP add to a packet.
	datagram = 28
	// longestInterval is what the budget may stretch the interval to.
	longestInterval = 100 * time.Millisecond
	// hurried is the least time between two flushes.
	hurried = time.Millisecond
	// maxFlush is how many deltas are drained at once.
	maxFlush = 4096
	// maxQueue is how many records may wait.
	maxQueue = 1024
)

// flows is what is on its way out.
type flows struct {
	drained []limiter.Delta // has the capacity for a whole drain
	rest    []limiter.Delta // of drained, sorted, not sent yet
	records [][]byte
	flushed time.Duration
	regular time.Duration // the next one
	urgent  bool          // the ledger asked for one
	answer  bool          // a peer's urgent frame did
	frozen  time.Duration // when acknowledgements were brought up to date
}

// Hurry asks for a flush as soon as may be, and that it is answered as fast: a bucket has come to what it may
// hold without its peers' knowledge.
func (n *Node) Hurry() { n.flows.urgent = true }

// Publish sends a record to all peers that are alive, and sees that it arrives. False: too many wait already.
func (n *Node) Publish(record []byte) bool {
	if len(record) == 0 || len(record) > MaxRecord || len(n.flows.records) >= maxQueue {
		return false
	}
	n.flows.records = append(n.flows.records, append([]byte(nil), record...))
	return true
}

// flush drains the ledger and sends what it gives, if it is time, and returns when it will be.
func (n *Node) flush(now time.Duration) (next time.Duration) {
	f := &n.flows
	due := f.regular
	if f.urgent || f.answer {
		due = min(due, f.flushed+hurried)
	}
	n.budget.refill(now)
	if wait := n.budget.debt(); wait > 0 {
		due = max(due, now+min(wait, longestInterval))
	}
	if now < due {
		return due
	}
	regular, urgent := now >= f.regular, f.urgent
	f.flushed, f.urgent, f.answer = now, false, false
	if regular {
		f.regular += n.interval * max(1, (now-f.regular)/n.interval+1)
	}
	all := n.pour(now, urgent)
	if all || now-f.frozen > 2*longestInterval { // better a little excess than a fleet that waits for a budget
		n.freeze(now, regular)
	}
	if !all {
		return now + hurried
	}
	return f.regular
}

// pour sends all there is, within the budget; false: there is more.
func (n *Node) pour(now time.Duration, urgent bool) (all bool) {
	f := &n.flows
	frames := max(1, n.budget.burst()/((MaxPacket+datagram)*max(1, n.alive.len())))
	for {
		for ; len(f.rest) > 0 || len(f.records) > 0; frames-- {
			if frames == 0 || !n.room(now) {
				return false
			}
			n.frame(now, urgent)
		}
		if all {
			return true
		}
		drained := n.ledger.Drain(now, f.drained[:0])
		all = len(drained) < cap(f.drained)
		if n.lonely() {
			f.records = f.records[:0]
			if len(drained) > 0 {
				n.ledger.Acknowledge(now, drained)
			}
		} else {
			f.rest = n.sorter.sort(drained)
		}
	}
}

// lonely says that nobody can be told anything, now or soon.
func (n *Node) lonely() bool {
	for _, p := range n.peers {
		if p != nil && p.delivery.ready && !p.delivery.lost {
			return false
		}
	}
	return true
}

// frame makes the next frame and sends it to all who are alive.
func (n *Node) frame(now time.Duration, urgent bool) {
	f := &n.flows
	number := n.log.last + 1
	s := n.log.slot(number)
	for _, p := range n.peers { // who still lacks the frame that was here will not get it
		if p != nil && p.delivery.ready && s.number > p.delivery.base {
			n.log.giveUp(p, s.number)
		}
	}
	if s.packet == nil {
		s.packet = make([]byte, 0, MaxPacket+slack)
	}
	h := header{kind: kindFrame, key: n.secrets[0].id, life: n.life.short(), number: number, stamp: stamp(now)}
	b, limit := h.append(s.packet[:0]), headerSize+bodySize
	if n.relays.groups > 0 {
		limit -= passedHead
	}
	if urgent {
		b = append(b, sectionUrgent)
	}
	for len(f.records) > 0 && len(b)+3+len(f.records[0]) <= limit {
		b = append(b, sectionRecord)
		b = binary.AppendUvarint(b, uint64(len(f.records[0])))
		b = append(b, f.records[0]...)
		f.records = f.records[1:]
	}
	b, done := appendDeltas(b, f.rest, limit)
	n.body = append(n.body[:0], b[headerSize:]...)
	*s = slot{number: number, at: now, urgent: urgent, held: true, packet: n.sealer.seal(n.out, number, b), deltas: append(s.deltas[:0], f.rest[:done]...)}
	f.rest = f.rest[done:]
	n.log.last = number
	n.log.held++
	for _, p := range n.peers {
		if p != nil && n.alive.has(p.index) {
			p.delivery.sent[number%ringSize] = sending{at: now, tries: 1}
			p.delivery.due = min(p.delivery.due, now+n.repairAfter(p, s, 1))
			n.spread(now, p, s, n.body)
		} else if p != nil && p.delivery.sent != nil {
			p.delivery.sent[number%ringSize] = sending{}
		}
	}
	n.release(now, s)
}

func stamp(now time.Duration) uint32 { return uint32(now / time.Microsecond) }

// bucket is the budget: bytes, of which it holds what longestInterval brings.
type bucket struct {
	rate   int // a second
	tokens int
	at     time.Duration
}

func (b *bucket) burst() int { return int(int64(b.rate) * int64(longestInterval) / int64(time.Second)) }

func (b *bucket) refill(now time.Duration) {
	add := int(int64(b.rate) * int64(min(now-b.at, time.Second)) / int64(time.Second))
	if add > 0 {
		b.tokens, b.at = min(b.tokens+add, b.burst()), now
	}
}

func (b *bucket) take(bytes int) { b.tokens -= bytes }

// debt is how long it takes until there is something again.
func (b *bucket) debt() time.Duration {
	if b.tokens >= 0 {
		return 0
	}
	return time.Duration(int64(-b.tokens) * int64(time.Second) / int64(b.rate))
}
