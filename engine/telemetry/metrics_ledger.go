package telemetry

import (
	"context"
	"slices"
	"time"
)

// The last minute is kept as windows, the last of which is not complete.
const (
	windowTime = 10 * time.Second
	windows    = 6
)

// ledger is what is known of a route beside its counters: how far they were read, what they held then, and the last
// minute. Only who holds Metrics.mu comes near it.
type ledger struct {
	requests                     uint64
	duration, upstream, overhead spreadTotals
	recent                       [windows][3][]tally
}

// upstreamLedger is the same of an upstream.
type upstreamLedger struct{ times spreadTotals }

// spreadTotals is all that histograms have counted: they wrap around, and this does not.
type spreadTotals struct {
	seen   spread
	counts [groups]uint64
	sum    uint64 // nanoseconds
}

// tally is how often a bucket was hit. Most are not.
type tally struct {
	bucket uint8
	n      uint32
}

// advance reads what has been counted since the last time.
func (t *spreadTotals) advance(h ...*histogram) (fresh spread) {
	var now spread
	t.sum = 0
	for _, one := range h {
		t.sum += one.sum.Load()
		for b := range one.counts {
			now[b] += one.counts[b].Load()
		}
	}
	for b := range now {
		fresh[b] = now[b] - t.seen[b]
		t.counts[groupOf(b)] += uint64(fresh[b])
	}
	t.seen = now
	return fresh
}

func (t *spreadTotals) add(other *spreadTotals) {
	t.sum += other.sum
	for b := range t.counts {
		t.counts[b] += other.counts[b]
	}
}

// settle brings a route's ledger up to date. What is new belongs to the current window.
func (r *Route) settle() {
	requests := uint64(0)
	r.cells(func(c *cell) { requests += c.requests.Load() })
	if r.ledger == nil {
		if requests == 0 {
			return
		}
		r.ledger = &ledger{}
	}
	l := r.ledger
	if requests == l.requests {
		return
	}
	l.requests = requests
	var duration, upstream, overhead [mostStripes + 1]*histogram
	n := 0
	r.cells(func(c *cell) {
		duration[n], upstream[n], overhead[n] = &c.duration, &c.upstream, &c.overhead
		n++
	})
	window := &l.recent[windows-1]
	for i, t := range [...]struct {
		totals *spreadTotals
		of     []*histogram
	}{{&l.duration, duration[:n]}, {&l.upstream, upstream[:n]}, {&l.overhead, overhead[:n]}} {
		fresh := t.totals.advance(t.of...)
		window[i] = addTallies(window[i], &fresh)
	}
}

// addTallies adds a spread to tallies in the order of their buckets.
func addTallies(tallies []tally, s *spread) []tally {
	at := 0
	for b, n := range s {
		if n == 0 {
			continue
		}
		for at < len(tallies) && int(tallies[at].bucket) < b {
			at++
		}
		if at < len(tallies) && int(tallies[at].bucket) == b {
			tallies[at].n += n
			continue
		}
		tallies = slices.Insert(tallies, at, tally{uint8(b), n}) // #nosec G115 -- there are fewer buckets
	}
	return tallies
}

// rotate ends the current window.
func (r *Route) rotate() {
	r.settle()
	if r.ledger == nil {
		return
	}
	recent := &r.ledger.recent
	oldest := recent[0]
	copy(recent[:], recent[1:])
	for i := range oldest {
		oldest[i] = oldest[i][:0]
	}
	recent[windows-1] = oldest
}

// Run keeps the last minute current until ctx ends.
func (m *Metrics) Run(ctx context.Context) {
	ticker := time.NewTicker(windowTime)
	defer ticker.Stop()
	for {
		select {
		case now := <-ticker.C:
			m.rotate(now)
		case <-ctx.Done():
			return
		}
	}
}

func (m *Metrics) rotate(now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.none.rotate()
	for _, r := range m.routes {
		r.rotate()
	}
	for _, u := range m.upstreams {
		u.settle()
	}
	m.forget(now)
}

func (u *Upstream) settle() {
	var times [mostStripes]*histogram
	for i := range u.times {
		times[i] = &u.times[i]
	}
	u.ledger.times.advance(times[:len(u.times)]...)
}

// Traffic is what passed through a route since the start.
type Traffic struct {
	Requests           uint64 // that have ended
	InFlight           int64
	BytesIn, BytesOut  uint64
	Statuses           [6]uint64         // by first digit
	Refusals           map[string]uint64 // by reason
	Duration           Percentiles       // of the last minute, as are the next
	Upstream, Overhead Percentiles
}

// Percentiles are estimates, good to some ten percent.
type Percentiles struct{ P50, P95, P99 time.Duration }

// Traffic tells what passed through a route; nil stands for requests that no route took.
func (m *Metrics) Traffic(r *Route) Traffic {
	if r == nil {
		r = m.none
	}
	t := Traffic{Refusals: map[string]uint64{}}
	m.addCounts(&t, r)
	m.mu.Lock()
	defer m.mu.Unlock()
	r.settle()
	if r.ledger != nil {
		t.Duration, t.Upstream, t.Overhead = r.ledger.percentiles(0), r.ledger.percentiles(1), r.ledger.percentiles(2)
	}
	return t
}

// Total tells what passed through all routes that are told of, and what no route took. Its counts fall when a route
// that has left the configuration is told no more.
func (m *Metrics) Total() Traffic {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := Traffic{Refusals: map[string]uint64{}}
	var recent [3]spread
	add := func(r *Route) {
		m.addCounts(&t, r)
		if r.settle(); r.ledger != nil {
			for of := range recent {
				r.ledger.addRecent(&recent[of], of)
			}
		}
	}
	add(m.none)
	for _, r := range m.routes {
		add(r)
	}
	t.Duration, t.Upstream, t.Overhead = recent[0].percentiles(), recent[1].percentiles(), recent[2].percentiles()
	return t
}

// addCounts adds what a route has counted.
func (m *Metrics) addCounts(t *Traffic, r *Route) {
	r.cells(func(c *cell) {
		t.InFlight += c.inFlight.Load()
		t.BytesIn += c.bytesIn.Load()
		t.BytesOut += c.bytesOut.Load()
		for i := range c.tiers {
			if o := c.counted(i); o != nil {
				o.each(func(status int, n uint64) { t.Statuses[status/100] += n; t.Requests += n })
				m.eachRefusal(o, func(reason string, _ int, n uint64) { t.Refusals[reason] += n })
			}
		}
	})
}

// eachRefusal calls do with every reason and place of a limit that was counted.
func (m *Metrics) eachRefusal(o *outcomes, do func(reason string, limit int, n uint64)) {
	p := o.refusals.Load()
	if p == nil {
		return
	}
	for i := range p.reasons {
		n := p.reasons[i].Load()
		switch {
		case n == 0:
		case i < len(m.reasons):
			do(m.reasons[i], labelNone, n)
		default:
			do("other", labelNone, n)
		}
	}
	for i := range p.limits {
		if n := p.limits[i].Load(); n > 0 {
			do(reasonLimited, i, n)
		}
	}
}

// percentiles are those of the last minute, of duration, upstream or overhead.
func (l *ledger) percentiles(of int) Percentiles {
	var s spread
	l.addRecent(&s, of)
	return s.percentiles()
}

// addRecent adds the last minute of duration, upstream or overhead.
func (l *ledger) addRecent(s *spread, of int) {
	for i := range l.recent {
		for _, t := range l.recent[i][of] {
			s[t.bucket] += t.n
		}
	}
}

func (s *spread) percentiles() Percentiles {
	return Percentiles{s.quantile(0.5), s.quantile(0.95), s.quantile(0.99)}
}
