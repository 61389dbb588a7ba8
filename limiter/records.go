package limiter

import (
	"math/bits"
	"time"
)

const (
	ways      = 4
	fresh     = int64(time.Second)            // who has told nothing of a bucket for so long does not use it
	demandFor = int64(200 * time.Millisecond) // over which demand is averaged
	useFor    = int64(500 * time.Millisecond) // and the use of a peer
	noDemand  = 1                             // what a node tells that does not use a bucket any more
	reserve   = whole / 4                     // of a bucket in use, kept for nodes that come to it
)

// record is what is known of who uses a shared bucket that is under pressure. There are as many as was provided
// for: a bucket without one is shared out evenly.
type record struct {
	key  Key
	rule uint64
	tag  uint64 // of the bucket's slot, when it was last seen
	id   uint32 // of that slot
	last int64  // when a delta of it came or went; zero: the record is free

	demand  float64 // own, in tokens a minute, averaged
	drained int64   // when it was sent last
	rate    float32 // own, tokens admitted a second, averaged as that of peers is
	told    uint32  // as it was sent last
	// What peers may believe it to be is something that was sent in this round or the one before. A round ends when
	// all have acknowledged something of it.
	round         uint16
	least, before uint32 // told in this round, and in the one before; before is zero until all have heard of us
	since, sinceB int64  // when these began

	active int    // peers that use the bucket
	sum    uint64 // of their demand
	owing  bool   // some of them are silent, and their use is held

	starved int64 // since when this node gets too little; 0: it does not
	doubted bool  // and believes that its peers see more in the bucket
}

// peerUse is what one peer does with one bucket.
type peerUse struct {
	heard  int64 // when a delta came last
	demand uint32
	rate   float32 // tokens a second, averaged
	owed   float32 // of a silent peer: part of a token that its use has come to
	lent   float32 // tokens that were charged for it while it was silent
	paid   int64   // until when all its use is charged: told, or while it was silent
}

type records struct {
	all   []record
	uses  []peerUse // peers of them for each record
	peers int
	most  int // peers there may be
}

// fewPeers is for how many peers there is room to begin with: most fleets have no more.
const fewPeers = 32

func newRecords(n, most int) records {
	n, peers := min(max(n, 256), 1<<14)/ways*ways, min(most, fewPeers)
	return records{make([]record, n), make([]peerUse, n*peers), peers, most}
}

// seat makes room for a peer; false: there are more than may be.
func (r *records) seat(peer int) bool {
	if peer >= r.most {
		return false
	}
	peers := r.peers
	for peers <= peer {
		peers = min(2*peers, r.most)
	}
	if peers > r.peers {
		uses := make([]peerUse, len(r.all)*peers)
		for i := range r.all {
			copy(uses[i*peers:], r.usesOf(i))
		}
		r.uses, r.peers = uses, peers
	}
	return true
}

func (r *records) usesOf(i int) []peerUse { return r.uses[i*r.peers : (i+1)*r.peers] }

// find returns the record of a bucket, or -1.
func (r *records) find(k Key, rule uint64) int {
	first := r.set(k)
	for i := first; i < first+ways; i++ {
		if r.all[i].last != 0 && r.all[i].key == k && r.all[i].rule == rule {
			return i
		}
	}
	return -1
}

func (r *records) set(k Key) int {
	n, _ := bits.Mul64(uint64(k)*0x9e3779b97f4a7c15, uint64(len(r.all)/ways))
	return int(n) * ways
}

// get returns the record of a bucket, a new one if need be and if there is one to spare; else -1.
func (r *records) get(k Key, rule uint64, now int64) int {
	if i := r.find(k, rule); i >= 0 {
		return i
	}
	first := r.set(k)
	for i := first; i < first+ways; i++ {
		if r.all[i].last == 0 {
			r.all[i] = record{key: k, rule: rule, last: max(now, 1)}
			clear(r.usesOf(i))
			return i
		}
	}
	return -1
}

// share is what a node may take of the slack before it is acknowledged, in 1/whole; zero: nobody is known to use the
// bucket, and all have the same.
//
// Half of it is the same for all who use the bucket, and half goes by the demand that each has told. A node takes its
// own for the least that any peer may believe it to be: so the shares of all add up to no more than one, though no
// two know the same. A part is kept for nodes that use the bucket next: they are many at once when load moves, and
// must not find that others have divided all of it.
func (r *record) share(now, members int64) int64 {
	own := min(r.least, r.before)
	if own <= noDemand || now-r.sinceB > fresh {
		if r.active == 0 {
			return 0
		}
		return max(1, min(whole/members, reserve/max(1, members-int64(r.active))))
	}
	n := int64(r.active) + 1
	all := int64(whole)
	if n < members {
		all -= reserve
	}
	even := all / 2 / n
	return max(1, even+int64(float64(all/2)*(float64(own)/float64(uint64(own)+r.sum))))
}

// users is how many nodes use a bucket, silent ones too, and their demand.
func (r *record) users(uses []peerUse) (n, demand float32) {
	n, demand = 1, float32(r.told)
	for i := range uses {
		if uses[i].heard != 0 {
			n++
			demand += float32(uses[i].demand)
		}
	}
	return n, demand
}

// due is how much a peer may take of what a bucket is granted, in tokens a second: its share, if its clients ask for it.
func (u *peerUse) due(granted, users, demand float32) float32 {
	own := float32(u.demand)
	return min(own/60, granted/2*(1/users+own/max(demand, 1)))
}

// tell takes note that a demand is sent.
func (r *record) tell(demand uint32, now int64) {
	if r.told == 0 {
		r.least, r.since = demand, now
	}
	r.told, r.least = demand, min(r.least, demand)
}

// acknowledged takes note that all live peers have heard what was sent in a round.
func (r *record) acknowledged(round uint16, now int64) {
	if round == r.round {
		r.before, r.sinceB = r.least, r.since
		r.round, r.least, r.since = round+1, r.told, now
	}
}

// heardFrom takes note of a peer's delta.
func (r *record) heardFrom(u *peerUse, now, interval int64, d *Delta) {
	if d.Demand == noDemand {
		if u.heard != 0 {
			r.active--
			r.sum -= uint64(u.demand)
			*u = peerUse{lent: u.lent}
		}
		return
	}
	if u.heard == 0 || now-u.heard > fresh {
		if u.heard == 0 {
			r.active++
		}
		*u = peerUse{heard: now - interval, lent: u.lent}
	}
	dt := max(now-u.heard, int64(time.Millisecond))
	u.rate += (float32(float64(d.Units)*float64(time.Second)/float64(dt)) - u.rate) * float32(dt) / float32(dt+useFor)
	u.heard = max(now, 1)
	if d.Demand != 0 && d.Demand != u.demand {
		r.sum += uint64(d.Demand) - uint64(u.demand)
		u.demand = d.Demand
	}
	r.last = u.heard
}

// expire forgets peers that have not told of the bucket for long. Those who are silent altogether do not share it
// out with us; what they used is kept while it is held.
func (r *record) expire(uses []peerUse, peers []peer, now int64) {
	r.active, r.sum = 0, 0
	for i := range uses {
		u := &uses[i]
		switch {
		case u.heard == 0:
		case peers[i].state == Silent && now-peers[i].since <= hold:
		case peers[i].state != Alive:
			*u = peerUse{}
		case now-u.heard > fresh:
			*u = peerUse{lent: u.lent}
		default:
			r.active++
			r.sum += uint64(u.demand)
		}
	}
}

// asked takes note of what clients asked of this node since the last time, and what of it was admitted, and says their
// demand.
func (r *record) asked(tokens, passed, now, interval int64) uint32 {
	dt := max(now-r.drained, int64(time.Millisecond))
	if r.drained == 0 || dt > fresh {
		r.demand = float64(tokens) * float64(time.Minute) / float64(interval)
		r.rate = float32(float64(passed) * float64(time.Second) / float64(interval))
	} else {
		r.rate += (float32(float64(passed)*float64(time.Second)/float64(dt)) - r.rate) * float32(dt) / float32(dt+useFor)
		r.demand += (float64(tokens)*float64(time.Minute)/float64(dt) - r.demand) * float64(dt) / float64(dt+demandFor)
	}
	r.drained = now
	return uint32(min(max(r.demand+0.5, noDemand+1), 1<<32-1))
}

// idle says whether nothing was asked of this node for a while, though peers were told of a demand.
func (r *record) idle(now int64) bool { return r.told > noDemand && now-r.drained > fresh/2 }
