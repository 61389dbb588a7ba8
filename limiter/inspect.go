package limiter

import "time"

// State is how one bucket stands.
type State struct {
	Tier      string // whose it is; empty: of clients without a tier of the rule's
	Rate      Rate
	Limit     int64 // tokens
	Remaining int64 // tokens
	Reset     time.Duration
}

// Inspect describes the buckets that a rule has for a key: one for each rate that has been used with it.
// No state means that nothing has been taken lately.
func (l *Limiter) Inspect(r *Rule, k Key, now time.Duration) (states []State) {
	at := clamp(now)
	for _, t := range r.plans() {
		place := l.tableOf(t.plan).place(t.plan, k)
		s, tag := place.find()
		if s == nil {
			continue
		}
		word := s.word.Load()
		if word == owned || s.tag.Load() != tag {
			continue
		}
		value, policy := t.plan.read(word, at)
		if policy.spent(value, at) {
			continue
		}
		left, full := policy.state(value, at)
		states = append(states, State{t.name, policy.rate, policy.limit, left, time.Duration(full)})
	}
	return states
}

// Forget makes the buckets of a key full again, and says how many that were not. Of a shared rule, the peers' buckets
// stay as they are.
func (l *Limiter) Forget(r *Rule, k Key, now time.Duration) (n int) {
	at := clamp(now)
	for _, t := range r.plans() {
		place := l.tableOf(t.plan).place(t.plan, k)
		for {
			s, tag := place.find()
			if s == nil {
				break
			}
			word := s.word.Load()
			if word == owned || s.tag.Load() != tag {
				break
			}
			value, policy := t.plan.read(word, at)
			if policy.spent(value, at) {
				break
			}
			if s.word.CompareAndSwap(word, policy.epoch<<valueBits|policy.indebted(0, 1, at)) {
				n++
				break
			}
		}
	}
	return n
}

// Stats is what the limiter has done, and how full it is.
type Stats struct {
	Capacity   int    // buckets that there is room for: half as many again as were asked for
	Live       int    // buckets with something taken from them
	Claims     uint64 // buckets begun
	Evictions  uint64 // buckets forgotten, with less than a twentieth of their limit taken, to make room
	Overflowed uint64 // requests counted in a shared bucket for want of room
}

// Stats counts. It reads the whole table: a few milliseconds for a million buckets.
func (l *Limiter) Stats(now time.Duration) Stats {
	s := Stats{}
	for _, t := range l.tables() {
		s.Capacity += t.slots()
		for i := range t.slots() {
			if _, kind := t.classify(t.slot(i), clamp(now)); kind != slotEmpty && kind != slotSpent {
				s.Live++
			}
		}
		for i := range t.counts {
			n := &t.counts[i]
			s.Claims += n.claims.Load()
			s.Evictions += n.evictions.Load()
			s.Overflowed += n.overflowed.Load()
		}
	}
	return s
}
