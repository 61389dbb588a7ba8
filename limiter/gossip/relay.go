package gossip

import (
	"cmp"
	"math"
	"math/bits"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

const (
	// fewer is by how many members a fleet that relays has to shrink further until it is a full mesh again: one of about
	// FullMesh does not go to and fro.
	fewer = 1
	// farBeat is the time between two packets to a peer that is reached through others: they measure the round trip, and
	// say what got lost on that way.
	farBeat = time.Second
	// maxPassing is how many bytes wait for a peer at most. What there is no room for is repaired by who said it.
	maxPassing = 64 << 10
)

// relays is how a large fleet saves packets. Members fall into about as many groups as each has members, by a hash of
// their names. What a node tells all, it tells those of its own group, and one of each other group, who passes it on
// to the rest of his. Nothing else changes: frames have their numbers, and are acknowledged and repaired end to end, so
// it does not matter whether two nodes see the same members, and what a relay that dies had not passed on is sent
// again, directly, and taken once.
type relays struct {
	above  int     // so many other members; others are a full mesh
	groups int     // 0: a full mesh
	order  []*peer // by hash
	loss   float64 // of what comes directly: of the peer of whom most is lost
	bad    bool    // so much of all is lost that the frames of a relay would be too late too often
}

// badLoss is from what loss on everything is sent directly, until it is below half of that: each of the ways that
// something passed on takes may lose it, and who said it must find out.
const badLoss = 0.2

// weigh looks how much is lost.
func (n *Node) weigh(now time.Duration) {
	r := &n.relays
	sum, near := 0.0, 0
	r.loss = 0
	for _, p := range n.peers {
		if p != nil && p.state == limiter.Alive && !n.far(now, p) {
			r.loss = max(r.loss, p.loss.share)
			sum, near = sum+p.loss.share, near+1
		}
	}
	if bad := sum > badLoss*float64(near) || r.bad && sum > badLoss/2*float64(near); bad != r.bad {
		r.bad = bad
		n.reroute(now)
	}
}

// route is how a peer is reached, and what waits to be sent to it.
type route struct {
	hash    uint64
	via     *peer         // who passes our frames on to it; nil: nobody
	relay   bool          // it passes on what it gets from us
	groups  int           // the same for what it says; so many groups there are, as it sees it
	asked   time.Duration // when it said so last
	waiting []byte        // sections
	ends    []int         // of each
	once    int           // so many of them were sent, and are sent once more
	answer  bool          // it is asked to answer directly
}

// hashOf spreads names evenly (FNV-1a, and the end of MurmurHash3).
func hashOf(name string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(name) {
		h = (h ^ uint64(name[i])) * 1099511628211
	}
	return mix(h)
}

func mix(h uint64) uint64 {
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}

func groupOf(hash uint64, groups int) int {
	group, _ := bits.Mul64(hash, uint64(groups))
	return int(group)
}

// reroute decides through whom each peer is told. It is nobody else's business: two nodes need not choose alike.
func (n *Node) reroute(now time.Duration) {
	switch others := len(n.fleet); {
	case n.relays.bad:
		n.relays.groups = 0
	case others > n.relays.above, n.relays.groups > 0 && others >= n.relays.above-fewer:
		n.relays.groups = int(math.Round(math.Sqrt(float64(others + 1))))
	default:
		n.relays.groups = 0
	}
	for _, p := range n.peers {
		if p != nil {
			p.route.via, p.route.relay = nil, false
		}
	}
	n.choose()
	for _, p := range n.peers {
		if p != nil && !n.far(now, p) {
			p.nextDirect = min(p.nextDirect, now+n.beat)
		}
	}
}

// choose takes a relay of each group. All nodes in the order of their hashes take a group's members in turn, so that each
// has as much to pass on as any; who finds that his is not there takes the one whose hash, with his own, is the
// greatest (rendezvous), so that the work of one that dies is shared too.
func (n *Node) choose() {
	groups, turn := n.relays.groups, 0
	all := n.relays.order[:0]
	for _, p := range n.peers {
		if p != nil && groups > 0 {
			all = append(all, p)
			if p.route.hash < n.hash {
				turn++
			}
		}
	}
	n.relays.order = all
	slices.SortFunc(all, func(a, b *peer) int { return cmp.Compare(a.route.hash, b.route.hash) })
	for len(all) > 0 {
		group, size := groupOf(all[0].route.hash, groups), 1
		for size < len(all) && groupOf(all[size].route.hash, groups) == group {
			size++
		}
		if group != groupOf(n.hash, groups) {
			n.chooseOf(all[:size], turn)
		}
		all = all[size:]
	}
}

func (n *Node) chooseOf(group []*peer, turn int) {
	relay := group[turn%len(group)]
	if relay.state != limiter.Alive {
		relay = nil
		for _, p := range group {
			if p.state == limiter.Alive && (relay == nil || mix(p.route.hash+n.hash) > mix(relay.route.hash+n.hash)) {
				relay = p
			}
		}
	}
	for _, p := range group {
		if p.state == limiter.Alive {
			if p.route.relay = p == relay; p != relay {
				p.route.via = relay
			}
		}
	}
}

// far says whether a peer is told through others, and nobody else through it.
func (n *Node) far(now time.Duration, p *peer) bool { return p.route.via != nil && !n.serves(now, p) }

// serves says whether a peer has us pass on what it says.
func (n *Node) serves(now time.Duration, p *peer) bool {
	return p.route.groups > 0 && now-p.route.asked <= 5*n.beat
}

// passingWait is how long what is to be passed on may wait for more of it.
func (n *Node) passingWait() time.Duration {
	return min(max(n.interval/4, hurried), 10*time.Millisecond)
}

// enqueue has a section sent to a peer with the next direct packet, and that by a time.
func (n *Node) enqueue(p *peer, due time.Duration, section []byte) {
	r := &p.route
	if len(r.waiting)+len(section) > maxPassing {
		n.stats.Unpassed++
		return
	}
	r.waiting = append(r.waiting, section...)
	r.ends = append(r.ends, len(r.waiting))
	p.nextDirect = min(p.nextDirect, due)
}

// spread sends a frame of ours to who is near; what it is told by others is enqueued by them.
func (n *Node) spread(now time.Duration, p *peer, s *slot, body []byte) {
	switch {
	case n.relays.groups == 0:
		n.post(p, s.packet)
	case p.route.via == nil:
		n.plain = appendPassed(n.plain[:0], n.life.id(), s.number, stamp(s.at), body)
		n.enqueue(p, now, n.plain)
	}
}

// carry has an acknowledgement passed on to a peer that is far.
func (n *Node) carry(now time.Duration, p *peer) {
	n.plain = appendCarried(n.plain[:0], sectionCarry, p.in.id, p.acks.hurry, p.acks.out)
	n.enqueue(p.route.via, now, n.plain)
}

// load appends to a direct packet what waits for its receiver, as far as there is room, and for what is left
// sends more packets.
func (n *Node) load(now time.Duration, p *peer, b []byte) []byte {
	r := &p.route
	if r.answer {
		b, r.answer = append(b, sectionAnswer), false
	}
	if r.relay {
		b = append(b, sectionThrough, byte(n.relays.groups))
	}
	b = n.appendHeard(now, p, b)
	begin := 0
	for i, end := range r.ends {
		if len(b)+end-begin > headerSize+bodySize {
			if debt := n.budget.debt(); debt > longestInterval { // the rest can wait, and is repaired if it has to for too long
				r.keep(i, begin)
				p.nextDirect = now + min(debt-longestInterval+hurried, n.beat)
				return b
			}
			n.post(p, n.sealer.seal(p.in.out, p.sentDirect, b))
			if b = n.direct(now, p); r.relay {
				b = append(b, sectionThrough, byte(n.relays.groups))
			}
		}
		b = append(b, r.waiting[begin:end]...)
		begin = end
	}
	if !p.lossy() {
		r.waiting, r.ends, r.once = r.waiting[:0], r.ends[:0], 0
		return b
	}
	if r.once > 0 {
		r.keep(r.once, r.ends[r.once-1])
	}
	if r.once = len(r.ends); r.once > 0 {
		p.acks.news = true // to be sent once more
	}
	return b
}

// keep forgets the first n sections, which end there.
func (r *route) keep(n, at int) {
	r.waiting = append(r.waiting[:0], r.waiting[at:]...)
	r.ends = append(r.ends[:0], r.ends[n:]...)
	for i := range r.ends {
		r.ends[i] -= at
	}
	r.once = max(0, r.once-n)
}

// appendHeard tells a peer of whom it would not hear otherwise that he is there.
func (n *Node) appendHeard(now time.Duration, to *peer, b []byte) []byte {
	at := len(b)
	for _, p := range n.peers {
		if p == nil || p == to || p.in == nil || !n.serves(now, p) || now-p.stamped > 2*n.beat || !n.mate(to, p.route.groups) || len(b)-at > 200 {
			continue
		}
		if len(b) == at {
			b = append(b, sectionHeard, 0)
		}
		b = appendID(b, p.in.id)
		b[at+1]++
	}
	return b
}

// mate says whether a peer is of our group, of so many.
func (n *Node) mate(p *peer, groups int) bool {
	return groupOf(p.route.hash, groups) == groupOf(n.hash, groups)
}

// byID finds who sent what was passed on; nil: nobody, or nobody knows who of two.
func (n *Node) byID(id uint32) (found *peer) {
	for _, p := range n.peers {
		if p == nil || p.in == nil || p.in.id != id {
			continue
		}
		if found != nil {
			return nil
		}
		found = p
	}
	return found
}

// receivePassed takes what a peer passes on, or wants to be passed on.
func (n *Node) receivePassed(now time.Duration, p *peer) {
	m := &n.message
	if m.holds(sectionThrough) {
		p.route.groups, p.route.asked = m.through, now
		p.nextDirect = min(p.nextDirect, now+n.beat)
	}
	if m.holds(sectionAnswer) {
		p.nextDirect, n.soon = now, true
	}
	for _, id := range m.heard {
		if o := n.byID(id); o != nil {
			o.heard = now
			n.revive(now, o)
		}
	}
	for i := range m.passed {
		it := &m.passed[i]
		o := n.byID(it.id)
		switch {
		case o == nil:
		case it.section == sectionPassed && o == p:
			if p.in.seen.fresh(it.number) {
				n.receiveFrame(now, p, it.number, p.hear(now, it.stamp), &it.frame)
				if m.holds(sectionThrough) {
					n.passOn(now, p, it)
				}
			}
		case it.section == sectionPassed:
			if o.in.seen.fresh(it.number) {
				n.receiveFrame(now, o, it.number, o.hear(now, it.stamp), &it.frame)
				n.revive(now, o)
			}
		case it.section == sectionCarry:
			if o.state == limiter.Alive {
				n.plain = appendCarried(n.plain[:0], sectionCarried, p.in.id, it.urgent, it.ack)
				n.pass(now, o, it.urgent, n.plain)
			}
		default:
			o.heard = now
			n.late(o, it.ack.after)
			n.learn(now, o, it.ack)
			n.revive(now, o)
		}
	}
}

// passOn passes a frame on to the rest of our group.
func (n *Node) passOn(now time.Duration, from *peer, it *passed) {
	for _, p := range n.peers {
		if p != nil && p != from && p.state == limiter.Alive && n.mate(p, from.route.groups) {
			n.pass(now, p, it.urgent, it.raw)
		}
	}
}

func (n *Node) pass(now time.Duration, to *peer, urgent bool, section []byte) {
	due := now + n.passingWait()
	if urgent {
		due = now + hurried // what others hurry with comes at the same time, mostly
	}
	n.stats.Passed++
	n.soon = n.soon || due < to.nextDirect
	n.enqueue(to, due, section)
}
