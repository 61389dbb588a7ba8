package limiter

import "time"

// Merge debits what a peer has let pass: from is its number, age the time since it drained the deltas. The caller
// sees to it that each delta is merged once.
//
// What it believes a peer is bounded: a delta takes no more than a bucket holds, and the debt of a bucket ends at
// twice that and a token for each node.
func (l *Limiter) Merge(now time.Duration, from int, age time.Duration, deltas []Delta) {
	g, b := l.ledger, l.book.Load()
	if b == nil || from < 0 {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	m := merger{limiter: l, book: b, stance: l.stance.Load(), now: clamp(now), then: clamp(now - max(age, 0)), from: from}
	for i := range deltas {
		m.merge(&deltas[i])
	}
}

// merger debits deltas of one peer.
type merger struct {
	limiter   *Limiter
	book      *book
	stance    *stance
	now, then int64
	from      int

	name uint64 // of the rule of the delta before, which is often the next one's too
	plan *plan
}

// planOf finds the plan that a delta is about.
func (m *merger) planOf(d *Delta) *plan {
	if m.plan != nil && m.name == d.Rule && d.Own == (Rate{}) {
		return m.plan
	}
	s, found := m.limiter.ledger.find(d.Rule, m.now)
	m.name, m.plan = d.Rule, s.plan
	if found && s.own != nil {
		m.plan = nil
		if d.Own.N > 0 && d.Own.Per > 0 {
			return s.own.plan(s.rule, d.Own)
		}
	}
	return m.plan
}

func (m *merger) merge(d *Delta) {
	stats := &m.limiter.ledger.stats
	p := m.planOf(d)
	if p == nil {
		stats.Unknown++
		return
	}
	units := int64(d.Units)
	at := m.book.place(p, d.Key)
	w, tag, id := at.findWide()
	if w == nil {
		if units == 0 || !m.open(p, &at, d, units) {
			return
		}
		units = 0
		if w, tag, id = at.findWide(); w == nil {
			return
		}
	}
	i := -1
	if m.book.records.seat(m.from) {
		i = m.book.records.get(d.Key, d.Rule, m.now)
	}
	if i >= 0 {
		r, u := &m.book.records.all[i], &m.book.records.usesOf(i)[m.from]
		r.tag, r.id = tag, id
		r.heardFrom(u, m.now, m.limiter.ledger.interval, d)
		u.paid = max(u.paid, m.then)
		units = m.settled(u, units)
	}
	if units > 0 {
		m.debit(p, w, tag, d.Window, units)
	}
	if i >= 0 {
		m.limiter.share(m.book, &m.book.records.all[i], m.now)
	}
	m.press(p, w, tag, id)
}

// settled is what is left to debit of a peer that was silent: some of it may have been, when nothing was heard.
func (m *merger) settled(u *peerUse, units int64) int64 {
	p := &m.limiter.ledger.peers[m.from]
	if u.lent < 1 || p.state != Silent && m.then >= p.since {
		return units
	}
	n := min(units, int64(u.lent))
	u.lent -= float32(n)
	return units - n
}

// debit takes units from a live bucket.
func (m *merger) debit(p *plan, w *wide, tag uint64, window uint32, units int64) {
	stats := &m.limiter.ledger.stats
	for {
		word := w.word.Load()
		if word == owned || w.tag.Load() != tag {
			stats.NoRoom++ // it has become somebody else's, for it was full
			return
		}
		value, policy := p.read(word, m.now)
		toll := m.stance.toll
		if w.meta.Load()&heldFlag != 0 {
			toll = m.stance.held
		}
		next, excess, ok := policy.debit(value, m.now, m.then, window, min(units, policy.limit), toll, m.stance.members)
		if !ok {
			stats.Late++
			return
		}
		if w.word.CompareAndSwap(word, policy.epoch<<valueBits|next) {
			stats.Merged++
			stats.Excess += uint64(excess)
			return
		}
	}
}

// open debits a bucket that is not here yet: it begins with a debt, unless it would be full even if all nodes told as
// much.
func (m *merger) open(p *plan, at *place, d *Delta, units int64) (opened bool) {
	stats := &m.limiter.ledger.stats
	for range patience {
		if w, tag, _ := at.findWide(); w != nil {
			m.debit(p, w, tag, d.Window, units)
			return true
		}
		policy := p.policy.Load()
		next, _, ok := policy.debit(0, m.now, m.then, d.Window, min(units, policy.limit), m.stance.toll, m.stance.members)
		if !ok {
			stats.Late++
			return false
		}
		if many, _, _ := policy.debit(0, m.now, m.then, d.Window, min(units*m.stance.members, policy.limit), m.stance.toll, m.stance.members); policy.spent(many, m.now) {
			stats.Unneeded++
			return false
		}
		c := m.book.candidate(at, m.now)
		if c.slot == nil && !c.busy {
			break
		}
		if c.slot == nil {
			pause(patience)
			continue
		}
		if _, ok := m.book.claim(at, c, policy.epoch<<valueBits|next, 0, true); ok {
			stats.Merged++
			return true
		}
	}
	stats.NoRoom++
	return false
}

// press makes what this node has to tell of a bucket urgent, if a peer's use has made it so.
func (m *merger) press(p *plan, w *wide, tag uint64, id uint32) {
	use, meta, word := w.use.Load(), w.meta.Load(), w.word.Load()
	if unsentOf(use) <= 0 || use&listedHot != 0 || word == owned || w.tag.Load() != tag {
		return
	}
	value, policy := p.read(word, m.now)
	slack, unit := policy.room(value, m.now)
	own := min(max(ownOf(use), 0), policy.limit) * unit
	if own <= portion(shareOr(meta, m.stance.prior), max(slack, 0)+own)>>3 {
		return
	}
	if w.use.CompareAndSwap(use, use|listedHot) { // else somebody charges it, and sees for himself
		m.book.hot.add(id)
	}
}

// room is what a bucket holds, in grains, of which there are so many in a token. It may be below zero.
func (p *policy) room(value uint64, now int64) (slack, unit int64) {
	tokens, parts := p.debt(value, now)
	size := p.limit
	if p.window == 0 {
		size = p.size
	}
	return size - int64(tokens), int64(parts)
}

// debit is the value of a bucket from which a peer has taken units at then. It may be more than the bucket held:
// excess is how many tokens that makes. It fails for windows that are not the bucket's.
func (p *policy) debit(value uint64, now, then int64, window uint32, units, toll, members int64) (next uint64, excess int64, ok bool) {
	switch p.algorithm {
	case TokenBucket, LeakyBucket:
		grains := units * p.scale.token
		if toll != whole {
			grains = tolled(grains, toll)
		}
		clock := p.scale.at(now)
		full := max(int64(value), p.scale.at(then)) + grains
		if over := full - clock - p.size; over > 0 {
			excess = min((over+p.scale.token-1)/p.scale.token, units)
			full = min(full, clock+p.mostDebt(members))
		}
		return uint64(full), excess, true
	case FixedWindow:
		number, used, left := p.fixed(value, now)
		ahead, ok := p.windowFor(window, now, left)
		later := (number - ahead) & p.wrap // by so much the bucket's is
		if !ok || later != 0 && later < p.wrap/2 {
			return value, 0, false
		}
		if later != 0 {
			number, used = ahead, 0
		}
		excess = max(0, used+units-p.limit)
		return number<<p.count | uint64(min(used+units, p.limit)), excess, true
	default:
		return p.debitSliding(value, now, window, units)
	}
}

// mostDebt is how far a bucket sinks, in grains from full.
func (p *policy) mostDebt(members int64) int64 {
	most := uint64(1)<<60 - 1
	return int64(min(2*uint64(p.size)+mulDivUp(uint64(p.scale.token), uint64(members), 1, most/2), most))
}

// early is how far into the future windows may be told of: clocks differ.
func (p *policy) early() int64 { return p.window / 50 }

// windowFor is the number, wrapped, of a window that a peer tells of: ours, or the next one if it is about to begin.
func (p *policy) windowFor(window uint32, now, left int64) (number uint64, ok bool) {
	current := p.number(now)
	switch int32(window - uint32(current)) {
	case 0:
		return current & p.wrap, true
	case 1:
		if p.window-p.elapsed(now) <= p.early() {
			return (current + 1) & p.wrap, true
		}
	}
	return 0, false
}

// windowOf is the number of the window that a value is in, by the wall clock; zero for buckets.
func (p *policy) windowOf(value uint64, now int64) uint32 {
	if p.window == 0 {
		return 0
	}
	current := p.number(now)
	if ahead := (value>>p.shift() - current) & p.wrap; ahead <= p.ahead {
		current += ahead
	}
	return uint32(current)
}

func (p *policy) debitSliding(value uint64, now int64, window uint32, units int64) (next uint64, excess int64, ok bool) {
	w := p.sliding(value, now)
	most := int64(1)<<p.count - 1
	bucket := p.windowOf(value, now)
	if current := uint32(p.number(now)); w.number == uint64(current)&p.wrap || int32(bucket-current) < 0 {
		bucket = current
	}
	switch int32(window - bucket) {
	case 0:
		w.current = min(w.current+units, most)
	case -1:
		w.previous = min(w.previous+units, most)
	case 1:
		if w.late > 0 || w.left > p.early() {
			return value, 0, false
		}
		w = slide{number: (w.number + 1) & p.wrap, previous: w.current, current: units, left: p.window}
	default:
		return value, 0, false
	}
	excess = min(max(0, w.current+int64(w.carried(p.window))-p.limit), units)
	return p.slidingValue(&w), excess, true
}
