package limiter

import (
	"sync"
	"sync/atomic"
	"time"
)

// Options says how large a limiter is and what it starts from.
type Options struct {
	// Capacity is how many live buckets there are at most. Memory is 24 bytes for each, taken at once, and 48 more
	// when there is the first shared rule: there may be as many shared ones again.
	Capacity int
	Secret   [16]byte  // random; what hostile parts of keys are hashed under; the same on nodes that share rules
	Epoch    time.Time // the time on the wall when `now` is zero: windows begin on its full seconds, minutes, days

	// For shared rules. Zero is a default. Peers is how many peers are told apart (127): those with larger
	// numbers count, but nothing is remembered of what they use. It takes 32 bytes for each, for every 64th bucket;
	// beyond 32 of them once they tell something. Interval is from one Drain to the next (50ms).
	Peers    int
	Interval time.Duration
}

// Limiter decides on requests. It is safe for concurrent use.
type Limiter struct {
	secret [2]uint64
	unix   int64 // nanoseconds from the Unix epoch to ours
	plans  *plans
	table  *table

	capacity int
	book     atomic.Pointer[book] // nil: there never was a shared rule
	stance   atomic.Pointer[stance]
	ledger   *ledger

	mu     sync.Mutex // held while rules are replaced
	rules  map[string]*Rule
	update uint64 // how often they were
}

// New makes a limiter without rules.
func New(o Options) *Limiter {
	l := &Limiter{unix: o.Epoch.UnixNano(), plans: &plans{}, rules: map[string]*Rule{}, capacity: o.Capacity}
	for i, b := range o.Secret {
		l.secret[i/8] = l.secret[i/8]<<8 | uint64(b)
	}
	l.table = newTable(o.Capacity, l.plans)
	l.ledger = newLedger(o)
	l.takeStance(0)
	return l
}

// tables is all that there are.
func (l *Limiter) tables() []*table {
	if b := l.book.Load(); b != nil {
		return []*table{l.table, &b.table}
	}
	return []*table{l.table}
}

// tableOf is the one that a plan's buckets are in.
func (l *Limiter) tableOf(p *plan) *table {
	if p.shared {
		return &l.book.Load().table
	}
	return l.table
}

// Charge is what a request asks of a rule.
type Charge struct {
	Rule  *Rule
	Key   Key    // its bucket
	Group Key    // whom it shares a bucket with when the table has no room: its network, say
	Tier  string // of the client; may be empty
	Own   Rate   // the credential's own rate, which wins over the tier's; may be zero
}

// Verdict is the answer to a charge.
type Verdict struct {
	Refused bool   // the rule did not admit the request; if it is a shadow, nobody shall notice
	taken   bool   // and not given back since
	held    bool   // refused only until peers have acknowledged what was taken
	mark    uint16 // of a shared rule: what the use of the slot was marked with
	plan    *plan
	policy  *policy
	slot    *slot // nil: an overflow bucket, or none yet
	tag     uint64
	value   uint64 // of the bucket: after the request if it was admitted, as it was found if not
	now     int64
	cost    int64
	group   Key
	wide    *wide // of a shared rule: the slot
}

// Take asks every rule for a request at now, and takes from all of their buckets or, if one refuses, from
// none. Shadows are asked only once all others have agreed, and have no say. There are as many verdicts
// as charges; those after a refusal may be of rules that were not asked, and then say how their buckets
// stand.
//
// now is the time since the limiter's epoch by a monotonic clock. It may lag behind that of requests that
// are decided earlier.
func (l *Limiter) Take(now time.Duration, charges []Charge, verdicts []Verdict) (admitted bool) {
	if len(charges) == 1 {
		l.take(&charges[0], &verdicts[0], clamp(now))
		return !verdicts[0].Refused || charges[0].Rule.spec.Shadow
	}
	admitted = true
	for i := range charges {
		l.look(&charges[i], &verdicts[i], clamp(now))
		admitted = admitted && (!verdicts[i].Refused || charges[i].Rule.spec.Shadow)
	}
	if !admitted {
		return false
	}
	for i := range charges {
		if l.take(&charges[i], &verdicts[i], clamp(now)); verdicts[i].Refused && !charges[i].Rule.spec.Shadow {
			l.GiveBack(now, verdicts[:i])
			return false
		}
	}
	return true
}

// clamp keeps a time within what words can hold.
func clamp(now time.Duration) int64 { return min(max(int64(now), 0), maxNow) }

// begin fills in what a verdict needs to know of its charge.
func (v *Verdict) begin(c *Charge, now int64) {
	*v = Verdict{plan: c.Rule.plan(c.Tier, c.Own), now: now, group: c.Group % overflows}
}

// look says what take would say, and takes nothing.
func (l *Limiter) look(c *Charge, v *Verdict, now int64) {
	v.begin(c, now)
	if v.plan.shared {
		l.lookShared(c, v, now)
		return
	}
	v.value, v.policy = 0, v.plan.policy.Load()
	if s, tag := l.peek(v.plan, c.Key); s != nil {
		if word := s.word.Load(); word != owned && s.tag.Load() == tag {
			v.value, v.policy = v.plan.read(word, now)
		}
	}
	v.ask()
}

// peek finds the live slot of a local bucket, or nil.
func (l *Limiter) peek(p *plan, k Key) (*slot, uint64) {
	live := stateLive | p.id | uint64(k)&printMask
	r := l.table.first(k)
	for i := range r {
		if tag := r[i].tag.Load(); tag&^versionMask == live {
			return &r[i], tag
		}
	}
	at := l.table.place(p, k)
	return at.find()
}

// ask says what follows if a request is charged to the bucket as it was read.
func (v *Verdict) ask() (next uint64, ok bool) {
	v.cost = v.policy.cost
	next, ok = v.policy.take(v.value, v.now, v.cost)
	v.Refused = !ok
	return next, ok
}

// charged takes note that the bucket was.
func (v *Verdict) charged(next uint64, s *slot, tag uint64) {
	v.value, v.slot, v.tag, v.taken = next, s, tag, true
}

// patience is how many races an insertion loses before it ceases to yield, and how many before it takes
// an overflow bucket.
const (
	patience  = 64
	endurance = 4096
)

// take decides on a charge. Most keys have their bucket in the first of their rows.
func (l *Limiter) take(c *Charge, v *Verdict, now int64) {
	if c.Rule.spec.Shared {
		l.takeShared(c, v, now)
		return
	}
	v.begin(c, now)
	live := stateLive | v.plan.id | uint64(c.Key)&printMask
	r := l.table.first(c.Key)
	for i := range r {
		if tag := r[i].tag.Load(); tag&^versionMask == live && v.draw(&r[i], tag, now) {
			return
		}
	}
	l.search(c, v, now)
}

// search decides on a charge whose bucket is elsewhere, or nowhere yet, or just changes hands.
func (l *Limiter) search(c *Charge, v *Verdict, now int64) {
	t := l.tableOf(v.plan)
	at := t.place(v.plan, c.Key)
	for attempt := 0; attempt < endurance; attempt++ {
		if found, drawn := l.drawAt(v, &at, now); drawn {
			return
		} else if found {
			pause(attempt)
			continue
		}
		candidate := t.candidate(&at, now)
		if candidate.slot == nil && !candidate.busy {
			break
		}
		if candidate.slot != nil && l.settle(v, t, &at, candidate, now, attempt < patience) {
			return
		}
		pause(attempt)
	}
	t.countsOf(&at).overflowed.Add(1)
	l.overflow(v)
}

// drawAt takes from the live slot of a place, if there is one and it does not change hands just now.
func (l *Limiter) drawAt(v *Verdict, at *place, now int64) (found, drawn bool) {
	if !v.plan.shared {
		s, tag := at.find()
		return s != nil, s != nil && v.draw(s, tag, now)
	}
	w, tag, id := at.findWide()
	return w != nil, w != nil && v.drawShared(l, l.book.Load(), w, id, tag, now)
}

// draw takes from a live slot. It fails if the slot has changed hands.
func (v *Verdict) draw(s *slot, tag uint64, now int64) bool {
	for {
		word := s.word.Load()
		if word == owned || s.tag.Load() != tag {
			return false
		}
		v.value, v.policy = v.plan.read(word, now)
		next, ok := v.ask()
		if !ok {
			return true
		}
		if s.word.CompareAndSwap(word, v.policy.epoch<<valueBits|next) {
			v.charged(next, s, tag)
			return true
		}
		stepBack()
	}
}

// stepBack leaves a word that two processors fight over to the one that has it: whoever goes on at once takes the
// cache line away from it, and both spend their time on moving it.
func stepBack() {
	for range 32 {
	}
}

// settle takes from a new bucket. It fails if somebody else was faster.
func (l *Limiter) settle(v *Verdict, t *table, at *place, c candidate, now int64, patient bool) bool {
	v.value, v.policy = 0, v.plan.policy.Load()
	if c.evicts {
		v.value = v.policy.worn(now)
	}
	var next, charge uint64
	var ok bool
	if v.plan.shared {
		next, charge, ok = v.askShared(l.stance.Load(), now)
	} else {
		next, ok = v.ask()
	}
	if !ok && c.evicts { // as it would be ever again: a debt that nobody keeps does not drain
		t.countsOf(at).overflowed.Add(1)
		l.overflow(v)
		return true
	}
	if !ok {
		return true
	}
	tag, ok := t.claim(at, c, v.policy.epoch<<valueBits|next, charge, patient)
	if !ok {
		return false
	}
	v.charged(next, c.slot, tag)
	if v.plan.shared {
		v.wide = at.wideSlot(c.index)
		v.mark = uint16(markOf(v.wide.use.Load()))
		l.book.Load().list(at.id(c.index), charge)
	}
	return true
}

// overflow takes from a word that stands in for buckets that there is no room for. Nobody tells peers of it: of a
// shared rule, each node gives out its part.
func (l *Limiter) overflow(v *Verdict) {
	word := &v.plan.overflow[v.group]
	for {
		w := word.Load()
		v.value, v.policy = v.plan.read(w, v.now)
		v.cost = v.policy.cost
		if v.plan.shared {
			v.cost = min(v.cost*l.stance.Load().members, v.policy.limit)
		}
		next, ok := v.policy.take(v.value, v.now, v.cost)
		if v.Refused = !ok; v.Refused {
			return
		}
		if word.CompareAndSwap(w, v.policy.epoch<<valueBits|next) {
			v.charged(next, nil, 0)
			return
		}
	}
}

// giveBack puts back into a word what was taken from it, unless it has changed hands since.
func (v *Verdict) giveBack(word *atomic.Uint64, now int64) {
	refund := v.policy.unused(v.value, max(now, v.now), v.cost)
	for {
		w := word.Load()
		if w == owned || v.slot != nil && v.slot.tag.Load() != v.tag {
			return
		}
		value, policy := v.plan.read(w, now)
		next, ok := policy.giveBack(value, refund)
		if !ok || policy != v.policy && policy.algorithm != TokenBucket {
			return
		}
		if word.CompareAndSwap(w, policy.epoch<<valueBits|next) {
			v.value, v.policy = next, policy
			if v.wide != nil {
				v.wide.returned(uint64(v.mark), int64(refund.tokens/refund.parts))
			}
			return
		}
	}
}
