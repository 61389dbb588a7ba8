package limiter

import (
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

// ledger is what a limiter keeps of its fleet. Requests never take its lock.
type ledger struct {
	interval int64
	pressing chan struct{} // see Pressing
	pressed  atomic.Bool   // since the last Drain
	lag      atomic.Int64  // nanoseconds from a delta to its acknowledgement, if that is late

	mu     sync.Mutex
	names  map[uint64]shared // by content hash
	former map[uint64]shared // what rules were known by before the last reload
	reload int64             // when that was
	peers  []peer
	part   int   // of the records that was seen to last
	extra  int   // members beyond those that peers has room for
	ticked int64 // when Drain was last called after an interval
	before int64 // and the time before that
	cold   int   // words of the summary of the cold list that are to be read yet
	doubt  doubt
	stats  LedgerStats
	plain  stance // the present one, but for tolls: for Restore
}

// coldEvery is the number of intervals in which all is told that can wait.
const coldEvery = 4

// shared is a rule that deltas name, for one of its rates or for those of credentials.
type shared struct {
	plan *plan // or
	own  *ownRates
	rule *Rule
}

// LedgerStats is what has been told to peers, and what they told.
type LedgerStats struct {
	Drained  uint64 // deltas handed out
	Merged   uint64 // deltas debited
	Unneeded uint64 // deltas of buckets that are full with them as well
	Unknown  uint64 // deltas of rules that there are none of here
	Late     uint64 // deltas of other windows
	NoRoom   uint64 // deltas of buckets that there was no room for
	Excess   uint64 // tokens that were taken together beyond a limit: buckets below zero, as far as it was seen here
}

func newLedger(o Options) *ledger {
	if o.Peers == 0 {
		o.Peers = 127
	}
	if o.Interval == 0 {
		o.Interval = 50 * time.Millisecond
	}
	return &ledger{
		interval: int64(o.Interval), pressing: make(chan struct{}, 1), peers: make([]peer, o.Peers), ticked: -int64(o.Interval), doubt: doubt{pause: doubtEvery},
	}
}

// Pressing tells, by a value to receive, that a request was refused for want of acknowledgements: deltas
// should be drained and sent now, as far as pace allows. There is one value at most until the next Drain.
func (l *Limiter) Pressing() <-chan struct{} { return l.ledger.pressing }

func (g *ledger) press() {
	if !g.pressed.Load() && g.pressed.CompareAndSwap(false, true) {
		select {
		case g.pressing <- struct{}{}:
		default:
		}
	}
}

// LedgerStats counts since the start.
func (l *Limiter) LedgerStats() LedgerStats {
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	return l.ledger.stats
}

// Drain hands out what peers are to be told, at most as much as to can hold: it fills to from its beginning. It is to be
// called at every interval, and when Pressing says so, and again while it fills all of to. Each delta counts as
// unacknowledged until Acknowledge gets it back as it was.
func (l *Limiter) Drain(now time.Duration, to []Delta) []Delta {
	g, b, at := l.ledger, l.book.Load(), clamp(now)
	to = to[:0]
	if b == nil {
		return to
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pressed.Store(false)
	tick := at-g.ticked >= g.interval*3/4
	if tick {
		g.before, g.ticked = max(g.ticked, 0), at
		g.cold = (len(b.cold.summary) + coldEvery - 1) / coldEvery
		l.tick(b, at)
	}
	d := drainer{limiter: l, book: b, now: at, to: to, urgent: !tick}
	if _, all := b.hot.each(len(b.hot.summary), d.hot); all && tick || g.cold > 0 {
		done, _ := b.cold.each(g.cold, d.cold)
		g.cold -= done
	}
	g.stats.Drained += uint64(len(d.to))
	return d.to
}

// drainer makes deltas of slots.
type drainer struct {
	limiter *Limiter
	book    *book
	now     int64
	urgent  bool // it is not yet time for those that can wait
	to      []Delta
}

func (d *drainer) hot(id uint32) bool {
	if len(d.to) == cap(d.to) {
		return false
	}
	if w := d.book.at(id); d.urgent && unsentOf(w.use.Load()) <= 0 {
		d.book.hot.add(id) // its demand can wait
		return true
	}
	d.drain(id, true, 1)
	return true
}

func (d *drainer) cold(id uint32) bool {
	if len(d.to) == cap(d.to) {
		return false
	}
	d.drain(id, false, coldEvery)
	return true
}

// drain takes what a bucket has to tell, in so many intervals. What has come in anew since need not be told, if it is
// little.
func (d *drainer) drain(id uint32, hot bool, intervals int64) {
	w := d.book.at(id)
	tag := w.tag.Load()
	use, meta, word := w.use.Load(), w.meta.Load(), w.word.Load()
	if tag&stateMask != stateLive || word == owned || w.tag.Load() != tag {
		return
	}
	p := d.limiter.plans.get(tag)
	if p == nil || !p.shared {
		return
	}
	value, policy := p.read(word, d.now)
	key := keyOf(tag, meta)
	spent := policy.spent(value, d.now) && (policy.window != 0 || unsentOf(use) <= d.forgiven(policy, key, intervals))
	units, mark, ok := w.sent(use, spent)
	if !ok {
		return // it has changed hands
	}
	refused := w.takeRefused(tag)
	if units < 0 { // given back after it was sent: to be seen to once more
		d.book.cold.add(id)
		units = 0
	}
	asked := units + refused*policy.cost
	if spent || asked == 0 && !d.leaves(key, policy.rule) {
		return
	}
	delta := Delta{Key: key, Rule: policy.rule, Units: uint32(units), Window: policy.windowOf(value, d.now), slot: id, mark: mark}
	if policy.own {
		delta.Own = policy.rate
	}
	if asked == 0 {
		delta.Demand = noDemand
	} else {
		d.demand(&delta, tag, asked, hot)
	}
	d.to = append(d.to, delta)
}

// forgiven is how much a node may take of a bucket without telling, while it finds it full again: an eighth of its even
// part of the rate. It would not do to forgive whatever has come in anew: the bucket of each of many nodes may be
// full in between, by what each knows, while together they take more than the rate. A part of a token is one, as
// often.
func (d *drainer) forgiven(p *policy, k Key, intervals int64) int64 {
	g := d.limiter.ledger
	grains := p.scale.span(time.Duration(intervals*g.interval), p.size) / (8 * d.limiter.stance.Load().members)
	chance := int64(uint64(k.Number(uint64(d.now))) >> 32)
	hi, lo := bits.Mul64(uint64(chance), uint64(p.scale.token))
	return (grains + int64(hi<<32|lo>>32)) / p.scale.token
}

// leaves says whether peers think that this node uses a bucket, which it has not for some intervals. They think it no
// more then, and neither do we.
func (d *drainer) leaves(k Key, rule uint64) bool {
	i := d.book.records.find(k, rule)
	if i < 0 {
		return false
	}
	r := &d.book.records.all[i]
	if !r.idle(d.now) {
		return false
	}
	r.tell(noDemand, d.now)
	d.limiter.share(d.book, r, d.now)
	return true
}

// demand adds to a delta how much clients ask for.
func (d *drainer) demand(delta *Delta, tag uint64, tokens int64, hot bool) {
	records := &d.book.records
	var i int
	if hot {
		i = records.get(delta.Key, delta.Rule, d.now)
	} else {
		i = records.find(delta.Key, delta.Rule)
	}
	if i < 0 {
		return
	}
	r := &records.all[i]
	r.tag, r.id, r.last = tag, delta.slot, max(d.now, 1)
	r.tell(r.asked(tokens, int64(delta.Units), d.now, d.limiter.ledger.interval), d.now)
	delta.Demand, delta.round = r.told, r.round
	d.limiter.share(d.book, r, d.now)
}

// sent takes what is unsent of a bucket, out of its lists too; or drops it, as if peers had heard of it.
func (w *wide) sent(use uint64, drop bool) (units int64, mark uint16, ok bool) {
	first := markOf(use)
	for {
		units, own := unsentOf(use), ownOf(use)
		left := min(units, 0)
		if drop {
			own, left = own-units, 0
		}
		if w.use.CompareAndSwap(use, packUse(0, first, own, left)) {
			return units, uint16(first), true
		}
		if use = w.use.Load(); markOf(use) != first {
			return 0, 0, false
		}
	}
}

// share stores this node's share of a bucket where requests find it.
func (l *Limiter) share(b *book, r *record, now int64) {
	b.at(r.id).setShare(r.tag, r.share(now, l.stance.Load().members), r.owing)
}

// Acknowledge takes note that all live peers have merged deltas that Drain handed out, or never will. Each is to be
// acknowledged once.
func (l *Limiter) Acknowledge(now time.Duration, deltas []Delta) {
	g, b, at := l.ledger, l.book.Load(), clamp(now)
	if b == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range deltas {
		d := &deltas[i]
		if d.Units != 0 {
			b.at(d.slot).acknowledged(uint64(d.mark), int64(d.Units))
		}
		if d.Demand == 0 {
			continue
		}
		if i := b.records.find(d.Key, d.Rule); i >= 0 {
			r := &b.records.all[i]
			if d.round == r.round {
				lag := g.lag.Load()
				g.lag.Store(max(at-r.since, lag-lag/32))
			}
			r.acknowledged(d.round, at)
			l.share(b, r, at)
		}
	}
}
