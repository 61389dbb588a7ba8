package gossip

import (
	"crypto/cipher"
	"math"
	"net/netip"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

const (
	// goneAfter is how long a peer may be silent until it is no more counted among the members, unless it
	// is said to have left.
	goneAfter = 5 * time.Minute
	// lostAfter is how long a peer may be silent until what it missed is not sent any more.
	lostAfter = 3 * time.Second

	maxAge    = 5 * time.Second
	firstTrip = 20 * time.Millisecond // until it was measured
)

// session is what is known of a peer's present life.
type session struct {
	life       life
	short      uint64
	id         uint32        // see passed
	frames     []cipher.AEAD // by secret
	direct     []cipher.AEAD
	out        cipher.AEAD
	seen       window // frames
	seenDirect window
}

// peer is another member, as long as membership knows it.
type peer struct {
	index   int
	name    string
	address netip.AddrPort
	state   limiter.MemberState // for the ledger
	since   time.Duration       // when it fell silent, or was added
	heard   time.Duration
	in      *session
	met     bool // our frames count there
	known   bool // it was met, in this life or another
	missed  bool // some of when it was silent will never be told, or may not

	challenge uint64
	theirs    uint64
	greeted   time.Duration
	greetNext time.Duration
	greetings int

	route   route
	trip    trip
	offset  offset
	loss    loss
	stamp   uint32 // of the last direct packet
	stamped time.Duration

	sentDirect uint64 // direct packets
	nextDirect time.Duration
	acks       acks
	delivery   delivery
	want       question
	serve      bool // it asked for debts
	cursor     uint64
}

func newPeer(index int, m Peer, now time.Duration) *peer {
	return &peer{
		index: index, name: m.Name, address: m.Address, state: limiter.Silent, since: now, heard: now,
		route: route{hash: hashOf(m.Name)}, trip: trip{smooth: firstTrip},
	}
}

// renew begins with another life of a peer. What a new one let pass before it was met will not be told: it was alone.
func (n *Node) renew(now time.Duration, p *peer, s *session) {
	n.count(p, false)
	if p.state == limiter.Alive {
		p.state = limiter.Silent
	}
	p.in, p.met, p.missed = s, false, p.known
	p.route = route{hash: p.route.hash}
	p.acks, p.delivery = acks{out: ack{base: s.seen.base}}, delivery{sent: new([ringSize]sending)}
	for i := range n.log.ring {
		n.log.ring[i].merged.remove(p.index)
	}
	p.offset, p.loss, p.serve = offset{}, loss{}, false
	p.loss.top = s.seenDirect.top
	p.want = question{}
	n.inquire(now, p)
	p.heard = now
}

// part ends a life of a peer that has said good-bye.
func (n *Node) part(now time.Duration, p *peer) {
	delete(n.lives, p.in.short)
	p.in, p.met, p.state = nil, false, limiter.Gone
	p.delivery, p.acks, p.want, p.route = delivery{}, acks{}, question{}, route{hash: p.route.hash}
	p.greetings, p.greetNext = helloTries, now+helloRarely
	n.count(p, false)
}

// hear notes that a packet came, and returns its age.
func (p *peer) hear(now time.Duration, stamp uint32) time.Duration {
	p.heard = now
	return min(p.offset.late(now, stamp)+p.trip.least/2, maxAge)
}

// patience is how long a peer may be silent: so many beats that losing them all is out of question.
func (n *Node) patience(now time.Duration, p *peer) time.Duration {
	beats := 5
	if p != nil {
		lost := p.loss.share
		if n.far(now, p) { // it is heard of through another, by two ways
			beats, lost = 10, 1-(1-n.relays.loss)*(1-n.relays.loss)
		}
		for q := math.Pow(lost, float64(beats)); q > 1e-5 && beats < 20; beats++ {
			q *= lost
		}
	}
	return time.Duration(beats) * n.beat
}

// watch looks whether a peer has fallen silent.
func (n *Node) watch(now time.Duration, p *peer) {
	quiet := now - p.heard
	switch {
	case p.state == limiter.Alive && quiet > n.patience(now, p):
		p.state, p.since, p.missed = limiter.Silent, now, false
		n.count(p, false)
	case p.state == limiter.Silent && quiet > goneAfter:
		p.state, n.moved = limiter.Gone, true
	}
	if quiet > lostAfter && p.delivery.ready && !p.delivery.lost {
		p.delivery.lost = true
	}
	p.loss.turn(now, p)
}

// miss takes note that frames of a peer will never come.
func (n *Node) miss(p *peer) {
	p.want.open, p.missed, n.moved = true, true, true
}

// revive counts a peer among the living, once frames go both ways.
func (n *Node) revive(now time.Duration, p *peer) {
	if p.in == nil || !p.met || !p.delivery.ready || p.state == limiter.Alive {
		return
	}
	if p.delivery.lost {
		p.delivery.lost = false
		n.log.giveUp(p, n.log.last)
	}
	p.state, p.delivery.due = limiter.Alive, now
	n.count(p, true)
	n.soon = true
}

// trip measures round trips as RFC 6298 does.
type trip struct {
	smooth, vary, least time.Duration
	known               bool
}

func (t *trip) measure(took time.Duration) {
	if took < 0 || took > 10*time.Second {
		return
	}
	if !t.known {
		t.known, t.smooth, t.vary, t.least = true, took, took/2, took
		return
	}
	t.vary += ((took - t.smooth).Abs() - t.vary) / 4
	t.smooth += (took - t.smooth) / 8
	t.least += max(took-t.least, 0) / 256 // so that it follows when the way becomes longer
	t.least = min(t.least, took)
}

// wait is how long an answer that is given at once may take.
func (t *trip) wait() time.Duration { return t.smooth + max(4*t.vary, 5*time.Millisecond) }

// offset tells how much longer than the fastest of late a packet was on its way, from the sender's stamps. The
// two clocks need not agree on anything but the length of a second.
type offset struct {
	known  bool
	from   uint32 // of now less stamp
	best   [2]int32
	turned time.Duration
}

const offsetTurn = 10 * time.Second

func (o *offset) late(now time.Duration, stamp uint32) time.Duration {
	diff := uint32(now/time.Microsecond) - stamp
	if !o.known {
		*o = offset{known: true, from: diff, turned: now}
		return 0
	}
	x := int32(diff - o.from)
	if now-o.turned > offsetTurn { // and begin from the best, so that clocks which drift apart never wrap
		o.from += uint32(o.best[0])
		x -= o.best[0]
		o.best, o.turned = [2]int32{x, 0}, now
	}
	o.best[0] = min(o.best[0], x)
	return time.Duration(x-min(o.best[0], o.best[1])) * time.Microsecond
}

// loss is the share of direct packets that do not arrive, which are numbered for each pair.
type loss struct {
	share  float64
	top    uint64 // at the last turn
	came   uint64 // since then
	turned time.Duration
}

const (
	lossTurn = 2 * time.Second
	// muchLoss is from when on everything that matters is sent twice at once, copyAfter apart: waiting until it
	// is missed costs more.
	muchLoss  = 0.03
	copyAfter = 2 * time.Millisecond
)

func (p *peer) lossy() bool { return p.loss.share > muchLoss }

func (l *loss) turn(now time.Duration, p *peer) {
	if p.in == nil || now-l.turned < lossTurn {
		return
	}
	if sent := p.in.seenDirect.top - l.top; sent >= 10 && p.state == limiter.Alive {
		l.share += (max(0, 1-float64(l.came)/float64(sent)) - l.share) / 2
	}
	l.top, l.came, l.turned = p.in.seenDirect.top, 0, now
}
