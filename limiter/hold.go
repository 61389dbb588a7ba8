package limiter

import "time"

// hold is how long the use of a silent peer is taken to go on as it was. After that, a node keeps to the part of
// the limit that the nodes it can see have in the fleet.
const hold = int64(5 * time.Second)

// settles is how long after a silent peer is back all is told that it let pass meanwhile.
const settles = int64(500 * time.Millisecond)

// hold charges a bucket for the peers that are silent: for each what it may take by its share, if its clients ask for as
// much; or what it took when it was heard last, if that was clearly more. It may be at work, and see nobody else's use.
func (l *Limiter) hold(b *book, r *record, uses []peerUse, now int64, f *stance) (owing bool) {
	users, demand := r.users(uses)
	granted := l.granted(r)
	for i := range uses {
		u, p := &uses[i], &l.ledger.peers[i]
		if !p.known || p.state != Silent || now-p.since > hold || u.heard == 0 {
			continue
		}
		owing = true
		from, rate := u.paid, u.due(granted, users, demand)
		if u.rate > rate*5/4 {
			rate = u.rate
		}
		u.owed += rate * float32(now-from) / float32(time.Second)
		u.paid = now
		units := int64(u.owed)
		if units == 0 {
			continue
		}
		u.owed -= float32(units)
		u.lent += float32(l.lend(b, r, units, now, from))
	}
	return owing
}

// granted is how many tokens a second a bucket's rate is.
func (l *Limiter) granted(r *record) float32 {
	p := l.plans.get(r.tag)
	if p == nil {
		return 0
	}
	rate := p.policy.Load().rate
	return float32(rate.N) / float32(rate.Per.Seconds())
}

// repay gives back what was taken for peers that were silent, are back, and have told all that they took: they took
// less. If it stayed taken, those who had called a peer silent would go on seeing less in the bucket than others do, and
// while all are at the limit they would get little of it, or nothing.
func (l *Limiter) repay(b *book, r *record, uses []peerUse, now int64) {
	lent := float32(0)
	for i := range uses {
		lent += uses[i].lent
	}
	if lent == 0 {
		return
	}
	missing := l.missing(b, r)
	back := float32(0)
	for i := range uses {
		u, p := &uses[i], &l.ledger.peers[i]
		if lent > missing { // the rest would have come in anew by now
			u.lent *= missing / lent
		}
		switch {
		case p.missed:
			u.lent = 0
		case p.state == Alive && now-p.since > settles:
			back += u.lent
			u.lent = 0
		}
	}
	if units := int64(back); units > 0 {
		l.lend(b, r, -units, now, now)
	}
}

// missing is how many tokens a bucket lacked at the tick before: if this node had no processor since then, it has not
// heard yet what was taken meanwhile.
func (l *Limiter) missing(b *book, r *record) float32 {
	word := b.at(r.id).word.Load()
	p := l.plans.get(r.tag)
	if p == nil || word == owned {
		return 0
	}
	value, policy := p.read(word, l.ledger.before)
	tokens, parts := policy.debt(value, l.ledger.before)
	return float32(tokens) / float32(parts)
}

// lend takes units from a bucket that a silent peer may have taken since then, or gives them back, and says how many
// they were.
func (l *Limiter) lend(b *book, r *record, units, now, then int64) int64 {
	w := b.at(r.id)
	p := l.plans.get(r.tag)
	for p != nil {
		word := w.word.Load()
		if word == owned || w.tag.Load() != r.tag {
			return 0
		}
		value, policy := p.read(word, now)
		next, lent := policy.lend(value, now, then, min(units, policy.limit))
		if lent == 0 || w.word.CompareAndSwap(word, policy.epoch<<valueBits|next) {
			return lent
		}
	}
	return 0
}

// lend is the value of a bucket after that, and how many units it made. Of windows nothing is given back: the next one
// begins anew.
func (p *policy) lend(value uint64, now, then, units int64) (next uint64, lent int64) {
	if p.window != 0 {
		if units < 0 {
			return value, 0
		}
		next, _, ok := p.debit(value, now, now, p.windowOf(value, now), units, whole, 1)
		if !ok {
			return value, 0
		}
		return next, units
	}
	clock, full := p.scale.at(now), int64(value)
	if units < 0 { // it may then have been full for a while: what is told late was taken before that
		most := max(full-p.scale.at(max(now-hold, 0)), 0) / p.scale.token
		return uint64(full - min(-units, most)*p.scale.token), units
	}
	full = max(full, p.scale.at(then))
	after := min(full+units*p.scale.token, clock+p.mostDebt(1))
	return uint64(max(full, after)), max(after-full, 0) / p.scale.token
}
