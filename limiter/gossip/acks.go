package gossip

import (
	"encoding/binary"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// An acknowledgement tells its receiver that what it let pass is known here, so that it may let as much pass
// again. That is only safe if it knows in turn what was let pass here up to then; else both count on the
// same tokens. So acknowledgements must not overtake deltas:
//
//   - what they say is brought up to date when the ledger was drained, and not in between (freeze);
//   - they name the last frame that went out by then, and count only when all up to it were merged (honour).
type acks struct {
	out    ack // what we acknowledge; bits in holes
	holes  [maxHoles]byte
	behind bool // frames came since
	hurry  bool // an urgent one among them
	news   bool // what we acknowledge has not been sent yet

	waiting [8]ack // what counts later, by after
	bits    [8][maxHoles]byte
	n       int
}

// freeze brings acknowledgements up to date. It follows a drain whose deltas are all on their way.
func (n *Node) freeze(now time.Duration, all bool) {
	n.flows.frozen = now
	for _, p := range n.peers {
		if p == nil || p.in == nil {
			continue
		}
		a := &p.acks
		if a.behind {
			a.out.base = p.in.seen.base
			a.out.bits = p.in.seen.appendHoles(a.holes[:0])
			a.out.after = n.log.last
			switch {
			case !all && !a.hurry:
			case n.far(now, p):
				n.carry(now, p)
				a.behind, a.hurry = false, false
			default:
				a.behind, a.hurry, a.news = false, false, true
				p.nextDirect = now
			}
		}
	}
}

// learn takes an acknowledgement. What came need not be sent again from now on.
func (n *Node) learn(now time.Duration, p *peer, a ack) {
	d := &p.delivery
	if a.base > n.log.last || a.base+uint64(8*len(a.bits)) > n.log.last+9 {
		return // not ours
	}
	if !d.ready {
		d.ready, d.base, d.counted, d.told = true, a.base, a.base, a.base
	}
	d.told = max(d.told, a.base)
	for i := max(d.base+1, n.log.oldest()); i <= a.base; i++ {
		d.sent[i%ringSize].came = true
	}
	d.base = max(d.base, a.base)
	n.each(a, func(i uint64) { d.sent[i%ringSize].came = true })
	for d.base < n.log.last && d.base+1 >= n.log.oldest() && d.sent[(d.base+1)%ringSize].came {
		d.base++
	}
	if len(a.bits) > 0 {
		d.due, n.soon = now, true // there are holes
	}
	w := &p.acks
	if w.n == len(w.waiting) {
		w.n-- // the last but one is what its successor says too, later
	}
	w.waiting[w.n] = ack{a.after, a.base, append(w.bits[w.n][:0], a.bits...)}
	w.n++
	n.honour(now, p)
}

// honour makes the acknowledgements count that need not wait any more.
func (n *Node) honour(now time.Duration, p *peer) {
	w, kept := &p.acks, 0
	for i := range w.n {
		a := w.waiting[i]
		if a.after > p.in.seen.base {
			w.waiting[kept] = ack{a.after, a.base, append(w.bits[kept][:0], a.bits...)}
			kept++
			continue
		}
		for j := max(p.delivery.counted+1, n.log.oldest()); j <= a.base; j++ {
			n.merged(now, p, j)
		}
		p.delivery.counted = max(p.delivery.counted, a.base)
		n.each(a, func(j uint64) { n.merged(now, p, j) })
	}
	w.n = kept
}

func (n *Node) merged(now time.Duration, p *peer, number uint64) {
	s := n.log.slot(number)
	s.merged.add(p.index)
	n.release(now, s)
}

// each calls f for the frames that a bitmap names and that the ring has.
func (n *Node) each(a ack, f func(number uint64)) {
	for i := range uint64(8 * len(a.bits)) {
		if number := a.base + 2 + i; a.bits[i/8]&(1<<(i%8)) != 0 && number <= n.log.last && number >= n.log.oldest() {
			f(number)
		}
	}
}

// receiveFrame merges a frame.
func (n *Node) receiveFrame(now time.Duration, p *peer, number uint64, age time.Duration, f *frame) {
	if p.in.seen.mark(number) {
		n.miss(p)
	}
	if len(f.deltas) > 0 {
		n.stats.DeltasIn += uint64(len(f.deltas))
		n.ledger.Merge(now, p.index, age, f.deltas)
	}
	for _, r := range f.records {
		if n.record != nil {
			n.record(r)
		}
	}
	p.acks.behind = true
	if f.urgent {
		p.acks.hurry, n.flows.answer, n.soon = true, true, true
	}
	n.honour(now, p)
}

// receiveDirect takes what a peer says to us alone.
func (n *Node) receiveDirect(now time.Duration, p *peer, h header, age time.Duration) {
	p.in.seenDirect.mark(h.number)
	p.loss.came++
	p.met, p.stamp, p.stamped = true, h.stamp, now
	m := &n.message
	if m.holds(sectionEcho) {
		p.trip.measure(time.Duration(stamp(now)-m.echo.stamp-m.echo.held) * time.Microsecond)
	}
	if m.holds(sectionFloor) && m.floor < maxNumber && p.in.seen.skip(m.floor) {
		n.miss(p)
		p.acks.behind = true
	}
	if m.holds(sectionAck) {
		n.late(p, m.ack.after)
		n.learn(now, p, m.ack)
	}
	if m.holds(sectionAsk) {
		p.serve, p.cursor, n.soon = true, m.ask, true
	}
	if m.holds(sectionDebts) {
		n.restore(now, p, age)
	}
	n.receivePassed(now, p)
	if m.holds(sectionBye) {
		n.part(now, p)
	}
}

// attend does what is due for a peer that we talk with, and returns when something will be.
func (n *Node) attend(now time.Duration, p *peer) (next time.Duration) {
	if n.ask(now, p) || now >= p.nextDirect {
		n.tell(now, p)
	}
	if p.serve {
		n.serve(now, p)
	}
	if p.state == limiter.Alive && p.delivery.base < n.log.last && now >= p.delivery.due {
		n.repair(now, p)
	}
	next = p.nextDirect
	if p.state == limiter.Alive && p.delivery.base < n.log.last {
		next = min(next, p.delivery.due)
	}
	return next
}

// tell sends a direct packet: what has arrived here, and that we are here.
func (n *Node) tell(now time.Duration, p *peer) {
	b := n.direct(now, p)
	a := &p.acks.out
	if !p.delivery.ready {
		a.after = n.log.last // what came before we met is not waited for
	}
	b = append(b, sectionAck)
	b = binary.BigEndian.AppendUint64(b, a.after)
	b = binary.BigEndian.AppendUint64(b, a.base)
	b = append(append(b, byte(len(a.bits))), a.bits...)
	if p.stamped > 0 {
		b = binary.BigEndian.AppendUint32(append(b, sectionEcho), p.stamp)
		b = binary.AppendUvarint(b, uint64(min(now-p.stamped, time.Hour)/time.Microsecond))
	}
	if p.delivery.ready && p.delivery.told < p.delivery.base {
		b = binary.BigEndian.AppendUint64(append(b, sectionFloor), p.delivery.base)
	}
	if p.want.open {
		b = binary.BigEndian.AppendUint64(append(b, sectionAsk), p.want.cursor)
	}
	p.nextDirect = now + n.beat
	if n.far(now, p) {
		p.nextDirect = now + farBeat
	}
	b = n.load(now, p, b)
	n.post(p, n.sealer.seal(p.in.out, p.sentDirect, b))
	if p.acks.news && p.lossy() {
		p.nextDirect = now + copyAfter
	}
	p.acks.news = false
}

// direct begins a direct packet.
func (n *Node) direct(now time.Duration, p *peer) []byte {
	p.sentDirect++
	h := header{kind: kindDirect, key: n.secrets[0].id, life: n.life.short(), number: p.sentDirect, stamp: stamp(now)}
	return h.append(n.packet[:0])
}

// repairAfter is how long to wait for an acknowledgement of a frame that was sent so many times.
func (n *Node) repairAfter(p *peer, s *slot, tries uint8) time.Duration {
	if tries == 1 && p.lossy() && n.relays.groups == 0 {
		return copyAfter
	}
	wait := p.trip.wait()
	if p.route.via != nil { // there and back it goes through others
		wait += wait + 4*n.passingWait()
	}
	if !s.urgent {
		wait += n.interval // it is acknowledged with the next flush
	}
	return wait << min(tries-1, 3)
}

// repair sends again what a peer lacks.
func (n *Node) repair(now time.Duration, p *peer) {
	d := &p.delivery
	if first := n.log.oldest() - 1; d.base < first {
		n.log.giveUp(p, first)
	}
	top := n.highest(d)
	d.due = now + n.beat
	for i := d.base + 1; i <= n.log.last; i++ {
		s, sent := n.log.slot(i), &d.sent[i%ringSize]
		if sent.came {
			continue
		}
		wait := n.repairAfter(p, s, max(1, sent.tries))
		if i < top { // a later one came: it is missing rather than late
			wait = min(wait, p.trip.wait()<<min(max(1, sent.tries)-1, 3))
		}
		if sent.tries > 0 && now < sent.at+wait {
			d.due = min(d.due, sent.at+wait)
			continue
		}
		if n.budget.debt() > longestInterval {
			d.due = now + hurried
			return
		}
		if sent.tries > 0 {
			n.stats.Repaired++
		}
		*sent = sending{at: now, tries: min(sent.tries+1, 100)}
		d.due = min(d.due, now+n.repairAfter(p, s, sent.tries))
		n.post(p, s.packet)
		if n.far(now, p) {
			p.route.answer, p.nextDirect = true, now
		}
	}
}

// highest is the last frame that a peer has.
func (n *Node) highest(d *delivery) uint64 {
	for i := n.log.last; i > d.base; i-- {
		if d.sent[i%ringSize].came {
			return i
		}
	}
	return d.base
}
