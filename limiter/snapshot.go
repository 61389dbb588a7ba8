package limiter

import "time"

// Snapshot tells the debts of shared buckets to a node that joins, a page at a time: as much as to can hold. cursor is
// zero at first, then what the call before returned; zero is returned at the end. Units is here all that a bucket
// lacks, but for what is about to be given back to it: who joins meanwhile would else get nothing while all others are
// at their limit.
func (l *Limiter) Snapshot(now time.Duration, cursor uint64, to []Delta) (debts []Delta, next uint64) {
	b, at := l.book.Load(), clamp(now)
	to = to[:0]
	if b == nil || cap(to) < 2 {
		return to, 0
	}
	l.ledger.mu.Lock()
	defer l.ledger.mu.Unlock()
	for id := int(min(cursor, uint64(b.slots()))); id < b.slots(); id++ {
		if cap(to)-len(to) < 2 {
			return to, uint64(id)
		}
		to = l.debts(b, b.at(uint32(id)), at, to)
	}
	return to, 0
}

// debts adds what a bucket lacks.
func (l *Limiter) debts(b *book, w *wide, now int64, to []Delta) []Delta {
	tag := w.tag.Load()
	meta, word := w.meta.Load(), w.word.Load()
	p := l.plans.get(tag)
	if tag&stateMask != stateLive || word == owned || w.tag.Load() != tag || p == nil || !p.shared {
		return to
	}
	value, policy := p.read(word, now)
	if policy.spent(value, now) {
		return to
	}
	d := Delta{Key: keyOf(tag, meta), Rule: policy.rule, Window: policy.windowOf(value, now)}
	if policy.own {
		d.Own = policy.rate
	}
	if policy.algorithm == SlidingWindow {
		w := policy.sliding(value, now)
		d.Window = policy.windowOf(policy.slidingValue(&w), now)
		d.Units = uint32(w.current)
		before := d
		before.Window, before.Units = d.Window-1, uint32(w.previous)
		return append(to, before, d)
	}
	tokens, parts := policy.debt(value, now)
	d.Units = uint32(min((tokens+parts-1)/parts, uint64(1<<32-1)))
	d.Units -= min(d.Units, uint32(max(0, unsentOf(w.use.Load())))) // for it comes in a delta yet
	d.Units -= min(d.Units, l.repayable(b, &d, policy))
	return append(to, d)
}

// repayable is how much of what a bucket lacks was taken for peers that are back, and is given back unless they tell
// that they took it.
func (l *Limiter) repayable(b *book, d *Delta, p *policy) uint32 {
	lent := float32(0)
	if i := b.records.find(d.Key, d.Rule); i >= 0 && p.window == 0 {
		for j, u := range b.records.usesOf(i) {
			if peer := &l.ledger.peers[j]; peer.state == Alive && !peer.missed {
				lent += u.lent
			}
		}
	}
	return uint32(lent)
}

// Restore takes over what a peer told by Snapshot, age ago: a bucket lacks what it lacks there, or here if that is more.
func (l *Limiter) Restore(now, age time.Duration, debts []Delta) { l.takeOver(now, age, debts, false) }

// Resolve takes over what the peer that was doubted (see Doubt) told by Snapshot, age ago: a bucket of which there is doubt
// lacks what it lacks there, be it more or less than here. Others stay as they are: what is on its way to both would be
// taken from them twice.
func (l *Limiter) Resolve(now, age time.Duration, debts []Delta) { l.takeOver(now, age, debts, true) }

func (l *Limiter) takeOver(now, age time.Duration, debts []Delta, doubted bool) {
	g, b := l.ledger, l.book.Load()
	if b == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.plain = *l.stance.Load()
	g.plain.toll, g.plain.held = whole, whole // a debt is what it is, whoever is out of sight
	m := merger{limiter: l, book: b, stance: &g.plain, now: clamp(now), then: clamp(now - max(age, 0)), from: -1}
	for i := range debts {
		m.restore(&debts[i], doubted)
	}
}

// restore takes over a debt; doubted: only that of a bucket of which there is doubt, and less than there is here too.
func (m *merger) restore(d *Delta, doubted bool) {
	p := m.planOf(d)
	if p == nil {
		m.limiter.ledger.stats.Unknown++
		return
	}
	r := -1
	if doubted {
		if r = m.book.records.find(d.Key, d.Rule); r < 0 || !m.book.records.all[r].doubted {
			return
		}
	}
	at := m.book.place(p, d.Key)
	w, tag, _ := at.findWide()
	units := int64(d.Units)
	if w != nil {
		word := w.word.Load()
		if word == owned || w.tag.Load() != tag {
			return
		}
		value, policy := p.read(word, m.now)
		at := m.now
		if policy.window == 0 {
			at = m.then // what it lacked there has been refilled since, as what it lacks here has
			if doubted {
				m.raise(r, policy, value, w, tag, units)
			}
		}
		units -= policy.lacks(value, at, d.Window)
	}
	switch {
	case units <= 0:
	case w != nil:
		m.debit(p, w, tag, d.Window, units)
	default:
		m.open(p, &at, d, units)
	}
}

// lacks is how many tokens a bucket lacks, or of a sliding window one of its counts.
func (p *policy) lacks(value uint64, now int64, window uint32) int64 {
	if p.algorithm != SlidingWindow {
		tokens, parts := p.debt(value, now)
		return int64((tokens + parts - 1) / parts) // as Snapshot rounds it
	}
	w := p.sliding(value, now)
	if window == p.windowOf(p.slidingValue(&w), now) {
		return w.current
	}
	return w.previous
}
