package telemetry

import (
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// mostTiers is how many tiers are told apart, those of no tier and of others included.
	mostTiers = 32
	// mostLimits is how many limits of one route are told apart, no limit and others included.
	mostLimits = 32
	// reasonLimited is the one reason that comes with a limit.
	reasonLimited = "rate_limited"
	mostStripes   = 16
	// farewell is how long the figures of a route or upstream that left the configuration are still told, so that
	// whoever collects them gets the last ones.
	farewell = 10 * time.Minute
)

// The places of labels that are not names.
const (
	labelNone = iota
	labelOther
	firstLabel
)

// Metrics counts what becomes of exchanges. It is safe for concurrent use; Observe takes no lock and, once all has
// been seen once, allocates nothing. Its memory is bounded by the configuration: by routes, statuses, tiers and
// limits, never by what clients send.
//
// What is counted lasts as long as the process: a route keeps its figures over reloads by its name.
type Metrics struct {
	mask    uint32 // of stripes
	stripes []stripe
	refused atomic.Uint64 // connections
	tiers   atomic.Pointer[[]string]
	reasons []string
	none    *Route // of requests that no route took

	mu        sync.Mutex // guards what follows, and all that is called a ledger
	routes    map[string]*Route
	upstreams map[string]*Upstream
	retired   spreadTotals // overhead, of routes that are told no more
}

// stripe is what the connections count together that have it in common: so do few, and those on different
// processors rarely meet in memory.
type stripe struct {
	classes [6]atomic.Uint64 // exchanges by the status's first digit; 0: other
	_       [128 - 6*8]byte
}

// NewMetrics makes metrics for gateways that give these reasons; others are not told apart. processors is how many
// goroutines are expected to count at once.
func NewMetrics(reasons []string, processors int) *Metrics {
	n := 1 << bits.Len(uint(min(max(processors, 1), mostStripes)-1))
	m := &Metrics{
		mask: uint32(n - 1), stripes: make([]stripe, n), // #nosec G115 -- at most mostStripes
		reasons: slices.Compact(slices.Sorted(slices.Values(reasons))),
		routes:  map[string]*Route{}, upstreams: map[string]*Upstream{},
	}
	m.tiers.Store(&[]string{"", "other"})
	m.none = newRoute("", n)
	return m
}

// Observe counts an exchange that has ended.
func (m *Metrics) Observe(r *Record) {
	stripe := r.Stripe & m.mask
	class := r.Status / 100
	if class < 0 || class > 5 {
		class = 0
	}
	m.stripes[stripe].classes[class].Add(1)
	route := r.Route
	if route == nil {
		route = m.none
	}
	c := route.cell(stripe)
	if r.Route != nil {
		c.inFlight.Add(-1)
	}
	c.requests.Add(1)
	c.bytesIn.Add(r.BytesIn)
	c.bytesOut.Add(r.BytesOut)
	o := c.outcomes(placeOf(*m.tiers.Load(), r.Tier))
	o.status(r.Status).Add(1)
	if r.Refused {
		limit := labelNone
		if r.Reason == reasonLimited {
			limit = placeOf(*route.limits.Load(), r.Limit)
		}
		o.refusal(m.reason(r.Reason), limit).Add(1)
	}
	if r.Tunnel {
		return // how long it was open says nothing about how fast anybody is
	}
	c.duration.observe(r.Duration)
	c.overhead.observe(r.Overhead())
	if r.Upstream != nil && r.Attempts > 0 {
		c.upstream.observe(r.UpstreamTime)
		r.Upstream.times[stripe].observe(r.UpstreamTime)
	}
}

// placeOf is the place of a name among labels.
func placeOf(labels []string, name string) int {
	if name == "" {
		return labelNone
	}
	for i := firstLabel; i < len(labels); i++ {
		if labels[i] == name {
			return i
		}
	}
	return labelOther
}

// reason is the place of a reason: that after the last is for those that are not known.
func (m *Metrics) reason(name string) int {
	if i, ok := slices.BinarySearch(m.reasons, name); ok {
		return i
	}
	return len(m.reasons)
}

// withLabels appends the names that labels lacks, as far as there is room. It leaves labels as it is.
func withLabels(labels, names []string, most int) []string {
	extended := slices.Clip(labels)
	for _, name := range names {
		if name != "" && len(extended) < most && !slices.Contains(extended[firstLabel:], name) {
			extended = append(extended, name)
		}
	}
	return extended
}

// Refuse counts a connection that was refused: what would have come on it is not known.
func (m *Metrics) Refuse() { m.refused.Add(1) }

// Responses counts the exchanges that have ended, by the first digit of their status.
func (m *Metrics) Responses() (all uint64, classes [6]uint64) {
	for i := range m.stripes {
		for class := range m.stripes[i].classes {
			n := m.stripes[i].classes[class].Load()
			classes[class] += n
			all += n
		}
	}
	return all, classes
}

// Plan is what a configuration will have counted. Nothing of it is in force before Commit.
type Plan struct {
	metrics   *Metrics
	tiers     []string
	routes    map[string]*Route
	limits    map[*Route][]string
	upstreams map[string]*Upstream
}

// Prepare begins a plan, for a configuration with these tiers.
func (m *Metrics) Prepare(tiers []string) *Plan {
	return &Plan{
		metrics: m, tiers: tiers, routes: map[string]*Route{}, limits: map[*Route][]string{}, upstreams: map[string]*Upstream{},
	}
}

// Route is where to count the route of a name, with the limits that may refuse its requests.
func (p *Plan) Route(name string, limits []string) *Route {
	r := p.routes[name]
	if r == nil {
		p.metrics.mu.Lock()
		r = p.metrics.routes[name]
		p.metrics.mu.Unlock()
	}
	if r == nil {
		r = newRoute(name, len(p.metrics.stripes))
	}
	p.routes[name], p.limits[r] = r, append(p.limits[r], limits...)
	return r
}

// Upstream is where to count the upstream of a name.
func (p *Plan) Upstream(name string) *Upstream {
	p.metrics.mu.Lock()
	u := p.metrics.upstreams[name]
	p.metrics.mu.Unlock()
	if u == nil {
		u = newUpstream(name, len(p.metrics.stripes))
	}
	p.upstreams[name] = u
	return u
}

// Commit puts a plan in force at now. What it does not name is told for a while yet.
func (p *Plan) Commit(now time.Time) {
	m := p.metrics
	m.mu.Lock()
	defer m.mu.Unlock()
	tiers := withLabels(*m.tiers.Load(), p.tiers, mostTiers)
	m.tiers.Store(&tiers)
	for name, r := range p.routes {
		limits := withLabels(*r.limits.Load(), p.limits[r], mostLimits)
		r.limits.Store(&limits)
		r.left = time.Time{}
		m.routes[name] = r
	}
	for name, u := range p.upstreams {
		u.left = time.Time{}
		m.upstreams[name] = u
	}
	for name, r := range m.routes {
		if p.routes[name] == nil && r.left.IsZero() {
			r.left = now
		}
	}
	for name, u := range m.upstreams {
		if p.upstreams[name] == nil && u.left.IsZero() {
			u.left = now
		}
	}
}

// forget drops what has left the configuration long enough ago.
func (m *Metrics) forget(now time.Time) {
	for name, r := range m.routes {
		if !r.left.IsZero() && now.Sub(r.left) > farewell && r.inFlight() == 0 {
			if r.settle(); r.ledger != nil {
				m.retired.add(&r.ledger.overhead)
			}
			delete(m.routes, name)
		}
	}
	for name, u := range m.upstreams {
		if !u.left.IsZero() && now.Sub(u.left) > farewell {
			delete(m.upstreams, name)
		}
	}
}
