package telemetry

import (
	"net/http"
	"sync/atomic"
	"time"
)

// Route is what is counted of one route. Requests find it by a pointer that was resolved when the configuration was
// compiled. It is safe for concurrent use.
//
// What a request touches lies close together: with many routes, that it has to come from memory is most of its cost.
type Route struct {
	own    []atomic.Pointer[cell] // of stripes, once there is much to count; none if there is but one
	base   cell
	name   string
	label  []byte                   // as lines of the access log have it
	limits atomic.Pointer[[]string] // labels

	left   time.Time // when the configuration lost it; zero: it has it. Under Metrics.mu, as is what follows
	ledger *ledger   // nil: nothing was counted yet
}

// Upstream is what is counted of one upstream, all of its targets together.
type Upstream struct {
	name   string
	label  []byte      // as lines of the access log have it
	times  []histogram // by stripe
	left   time.Time   // as of a route
	ledger upstreamLedger
}

// crowd is how many exchanges a route has before its stripes get memory of their own. Most of ten thousand routes
// never do.
const crowd = 4096

func newRoute(name string, stripes int) *Route {
	r := &Route{name: name}
	if stripes > 1 {
		r.own = make([]atomic.Pointer[cell], stripes)
	}
	r.label = appendText(nil, `,"route":"`, name, longestText)
	r.limits.Store(&[]string{"", "other"})
	return r
}

func newUpstream(name string, stripes int) *Upstream {
	u := &Upstream{name: name, times: make([]histogram, stripes)}
	u.label = appendText(nil, `,"upstream":"`, name, longestText)
	return u
}

// Name is the route's name in the configuration.
func (r *Route) Name() string { return r.name }

// Name is the upstream's name in the configuration.
func (u *Upstream) Name() string { return u.name }

// Begin counts a request that the route has taken; Observe counts that it has ended.
func (r *Route) Begin(m *Metrics, stripe uint32) { r.cell(stripe & m.mask).inFlight.Add(1) }

// cell is where a stripe counts.
func (r *Route) cell(stripe uint32) *cell {
	if len(r.own) == 0 {
		return &r.base
	}
	own := &r.own[stripe]
	if c := own.Load(); c != nil {
		return c
	}
	if r.base.requests.Load() < crowd {
		return &r.base
	}
	own.CompareAndSwap(nil, &cell{})
	return own.Load()
}

// cells calls do with every cell of the route.
func (r *Route) cells(do func(*cell)) {
	do(&r.base)
	for i := range r.own {
		if c := r.own[i].Load(); c != nil {
			do(c)
		}
	}
}

func (r *Route) inFlight() (n int64) {
	r.cells(func(c *cell) { n += c.inFlight.Load() })
	return n
}

// cell is the counters of a route, for some of its requests. A request may begin in one and end in another: only
// sums over all cells mean anything.
type cell struct {
	inFlight          atomic.Int64
	requests          atomic.Uint64
	bytesIn, bytesOut atomic.Uint64
	untiered          outcomes // of requests of no tier
	duration          histogram
	upstream          histogram
	overhead          histogram
	tiers             [mostTiers]atomic.Pointer[outcomes] // the first is never used
	_                 [64]byte                            // what follows in memory is another's
}

// outcomes is where the requests of a tier are counted.
func (c *cell) outcomes(tier int) *outcomes {
	if o := c.counted(tier); o != nil {
		return o
	}
	c.tiers[tier].CompareAndSwap(nil, &outcomes{})
	return c.tiers[tier].Load()
}

// counted is outcomes if any request of the tier was counted, else it may be nil.
func (c *cell) counted(tier int) *outcomes {
	if tier == labelNone {
		return &c.untiered
	}
	return c.tiers[tier].Load()
}

// outcomes is how the requests of one tier ended.
type outcomes struct {
	usual    [len(usualStatuses)]atomic.Uint64
	unusual  atomic.Pointer[[lastStatus - firstStatus + 1]atomic.Uint64]
	refusals atomic.Pointer[refusals]
}

// The statuses there can be: both sides of the gateway refuse others.
const (
	firstStatus = 100
	lastStatus  = 599
)

// usualStatuses are those that most routes ever have.
var usualStatuses = [...]int{
	200, 201, 202, 204, 206, 301, 302, 304, 307, 308, 400, 401, 403, 404, 405, 409, 413, 422, 429, 499, 500, 502, 503, 504,
}

// status is the counter of a status. One that cannot be is counted as a failure of ours.
func (o *outcomes) status(status int) *atomic.Uint64 {
	if status < firstStatus || status > lastStatus {
		status = http.StatusInternalServerError
	}
	for i, s := range usualStatuses {
		if s == status {
			return &o.usual[i]
		}
	}
	p := o.unusual.Load()
	if p == nil {
		o.unusual.CompareAndSwap(nil, new([lastStatus - firstStatus + 1]atomic.Uint64))
		p = o.unusual.Load()
	}
	return &p[status-firstStatus]
}

// each calls do with every status that was counted.
func (o *outcomes) each(do func(status int, n uint64)) {
	for i, s := range usualStatuses {
		if n := o.usual[i].Load(); n > 0 {
			do(s, n)
		}
	}
	if p := o.unusual.Load(); p != nil {
		for i := range p {
			if n := p[i].Load(); n > 0 {
				do(firstStatus+i, n)
			}
		}
	}
}

// mostReasons is room for the reasons there are, and one more.
const mostReasons = 48

// refusals is why requests were refused: by reason, for those that no limit refused, and by limit.
type refusals struct {
	reasons [mostReasons]atomic.Uint64
	limits  [mostLimits]atomic.Uint64
}

// refusal is the counter of a refusal. Only one reason comes with a limit.
func (o *outcomes) refusal(reason, limit int) *atomic.Uint64 {
	p := o.refusals.Load()
	if p == nil {
		o.refusals.CompareAndSwap(nil, &refusals{})
		p = o.refusals.Load()
	}
	if limit != labelNone {
		return &p.limits[limit]
	}
	return &p.reasons[min(reason, mostReasons-1)]
}
