package limiter

import "time"

const (
	// enough is what part of its due a node is content with.
	enough = 0.7
	// starvedFor is how long a node gets too little of a bucket before it believes that its peers see more in it.
	starvedFor = int64(time.Second)
	// starvedOf is how many requests it should have got through meanwhile, so that this is no chance.
	starvedOf = 8
	// working is for how long a bucket may be granted what a node at the limit sees in it, at most: so much less than
	// starvedFor that who is told wrong, again and again, admits no more than he would alone.
	working = 300 * time.Millisecond
	// doubtEvery is how often a peer is asked, at most; mostDoubt, where that does not help.
	doubtEvery = int64(time.Second)
	mostDoubt  = int64(time.Minute)
)

// doubt is whom to ask for what it sees in buckets of which this node gets too little.
type doubt struct {
	peer  int
	open  bool
	next  int64 // when somebody may be asked again
	pause int64
}

// Doubt names a peer whose debts should be asked for, by Snapshot, and taken over by Restore: it is admitting much more
// of a bucket than this node is, though both are at the limit. It is named once.
func (l *Limiter) Doubt() (peer int, ok bool) {
	g := l.ledger
	g.mu.Lock()
	defer g.mu.Unlock()
	peer, ok = g.doubt.peer, g.doubt.open
	g.doubt.open = false
	return peer, ok
}

// weigh compares what this node gets of a bucket with what is its due, and doubts its view if that is too little for too
// long.
func (l *Limiter) weigh(r *record, uses []peerUse, now int64, f *stance) {
	g := l.ledger
	p := l.plans.get(r.tag)
	if p == nil || r.active == 0 || r.owing || f.silent > 0 || r.told <= noDemand || r.rate*60 > enough*float32(r.told) {
		r.starved, r.doubted = 0, false
		return
	}
	policy, granted := p.policy.Load(), l.granted(r)
	due, all, most := granted*r.weight(r.told), float32(0), -1 // no less than is due, as all weights are one at least
	if r.rate <= enough*due {
		due, all, most = r.dues(uses, granted)
	}
	if policy.window != 0 || policy.small(f.members) || r.rate > enough*due {
		r.starved, r.doubted = 0, false
		return
	}
	if r.starved == 0 {
		r.starved = now
	}
	some := min(float32(starvedOf*policy.cost)/min(due, granted/float32(f.members)), 1e9) // seconds: in nanoseconds they fit
	if now-r.starved < max(starvedFor, int64(some*float32(time.Second))) || all < granted*9/10 || all > granted*11/10 {
		return
	}
	r.doubted = true
	if d := &g.doubt; !d.open && now >= d.next && most >= 0 && g.peers[most].state == Alive {
		if now-d.next > mostDoubt {
			d.pause = doubtEvery
		}
		d.peer, d.open, d.next, d.pause = most, true, now+d.pause, min(2*d.pause, mostDoubt)
	}
}

// dues is what this node should get of all that the fleet admits, in tokens a second, if all saw the same in the bucket;
// all that it admits; and the peer that gets most beyond its own due, or -1.
func (r *record) dues(uses []peerUse, granted float32) (due, all float32, most int) {
	own := r.weight(r.told)
	all, weights := r.rate, own
	for i := range uses {
		if u := &uses[i]; u.heard != 0 {
			all += u.rate
			weights += r.weight(u.demand)
		}
	}
	best := float32(0)
	most = -1
	for i := range uses {
		u := &uses[i]
		if u.heard == 0 {
			continue
		}
		if over := u.rate - granted*r.weight(u.demand)/weights; over > best {
			best, most = over, i
		}
	}
	return min(float32(r.told)/60, granted*own/weights), all, most
}

// weight is what a node gets in proportion to. Who has a share s, and waits for acknowledgements as long as everybody does,
// has U = s*(V+U) unacknowledged: that is V*s/(1-s).
func (r *record) weight(demand uint32) float32 {
	share := (1/float32(r.active+1) + float32(demand)/float32(uint64(r.told)+r.sum)) / 2
	return share / (1 - share)
}

// raise gives a bucket what a peer sees in it more than this node does, which gets too little of it. That makes nothing
// worse: while all are at the limit, who sees most takes all that comes in, whether he is right or not. So it is done
// only if he is at the limit, and no further than that. told is what the bucket lacks there.
func (m *merger) raise(i int, policy *policy, value uint64, w *wide, tag uint64, told int64) {
	l, records := m.limiter, &m.book.records
	r := &records.all[i]
	if r.tag != tag {
		return // it is about the client's bucket of another rate
	}
	r.starved, r.doubted = 0, false
	lag := min(time.Duration(4*l.ledger.interval+l.ledger.lag.Load()), working)
	most := min(policy.limit/2, max(policy.scale.span(lag, policy.size)/policy.scale.token, 2*m.stance.members*policy.cost))
	if policy.limit-told > most || l.stance.Load().silent > 0 {
		return
	}
	units := policy.lacks(value, m.then, 0) - told
	units -= max(ownOf(w.use.Load()), 0) // he has not heard of that
	for _, u := range records.usesOf(i) {
		units -= int64(u.rate * float32(m.now-m.then) / float32(time.Second)) // nor of what others told here meanwhile
	}
	room, unit := policy.room(value, m.now)
	if units = min(units, most-room/unit); units > 0 {
		l.lend(m.book, r, -units, m.now, m.now)
		l.ledger.doubt.pause = doubtEvery
	}
}
