package telemetry

import (
	"maps"
	"slices"
	"strconv"
	"time"

	dto "github.com/prometheus/client_model/go"
)

// The families of what is counted of exchanges.
const (
	requestsTotal = iota
	rejectionsTotal
	requestsInFlight
	receivedBytes
	sentBytes
	requestDuration
	upstreamDuration
	overheadDuration
	connectionsRefused
	trafficFamilies
)

func newTrafficFamilies() []*dto.MetricFamily {
	all := make([]*dto.MetricFamily, trafficFamilies)
	for i, f := range [trafficFamilies]struct {
		name, help string
		kind       dto.MetricType
	}{
		requestsTotal:      {"requests_total", "Requests that have ended, by route, status and the client's tier.", dto.MetricType_COUNTER},
		rejectionsTotal:    {"rejections_total", "Requests that the gateway answered itself, by reason and, if one refused them, limit.", dto.MetricType_COUNTER},
		requestsInFlight:   {"requests_in_flight", "Requests under way, tunnels included.", dto.MetricType_GAUGE},
		receivedBytes:      {"received_bytes_total", "Bytes of requests that have ended, heads included.", dto.MetricType_COUNTER},
		sentBytes:          {"sent_bytes_total", "Bytes of answers that have ended, heads included.", dto.MetricType_COUNTER},
		requestDuration:    {"request_duration_seconds", "From the end of a request's head to the end of its answer; tunnels are left out.", dto.MetricType_HISTOGRAM},
		upstreamDuration:   {"upstream_duration_seconds", "The part of a request that was spent on targets.", dto.MetricType_HISTOGRAM},
		overheadDuration:   {"overhead_seconds", "The part of a request that was the gateway's own: not targets, not the client, no waiting on purpose.", dto.MetricType_HISTOGRAM},
		connectionsRefused: {"connections_refused_total", "Connections beyond max_connections.", dto.MetricType_COUNTER},
	} {
		name := "sluice_" + f.name
		all[i] = &dto.MetricFamily{Name: &name, Help: &f.help, Type: &f.kind}
	}
	return all
}

// Names lists what is counted of exchanges, by the names under which it is published.
func Names() (names []string) {
	for _, f := range newTrafficFamilies() {
		names = append(names, f.GetName())
	}
	return names
}

// bounds are the borders of groups that are published.
type bounds struct {
	last    []int // the group that a bound ends
	seconds []float64
}

func newBounds(least, most time.Duration) *bounds {
	b := &bounds{}
	for bucket := 1; bucket < buckets; bucket++ {
		low, group := lowerEnd(bucket), groupOf(bucket-1)
		if low < least || low > most || group == groupOf(bucket) {
			continue
		}
		b.last = append(b.last, group)
		b.seconds = append(b.seconds, float64(low.Microseconds())/1e6)
	}
	return b
}

// histogram makes the published form.
func (b *bounds) histogram(t *spreadTotals) *dto.Histogram {
	made := make([]dto.Bucket, len(b.last))
	pointers := make([]*dto.Bucket, len(b.last))
	values := make([]uint64, len(b.last)+1)
	var all uint64
	next := 0
	for group, n := range t.counts {
		all += n
		if next < len(b.last) && group == b.last[next] {
			values[next] = all
			made[next].CumulativeCount, made[next].UpperBound = &values[next], &b.seconds[next]
			pointers[next] = &made[next]
			next++
		}
	}
	values[next] = all
	sum := float64(t.sum) / float64(time.Second)
	return &dto.Histogram{SampleCount: &values[next], SampleSum: &sum, Bucket: pointers}
}

// gather makes the families of what was counted. Nobody who counts waits for it.
func (m *Metrics) gather() []*dto.MetricFamily {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := &scrape{
		metrics: m, families: newTrafficFamilies(), refused: map[refusal]uint64{}, overhead: m.retired,
		durations: newBounds(100*time.Microsecond, 10*time.Second), overheads: newBounds(10*time.Microsecond, time.Second),
	}
	for _, tier := range *m.tiers.Load() {
		s.tiers = append(s.tiers, pair("tier", tier))
	}
	s.add(connectionsRefused, float64(m.refused.Load()))
	s.route(m.none)
	for _, name := range slices.Sorted(maps.Keys(m.routes)) {
		s.route(m.routes[name])
	}
	for _, name := range slices.Sorted(maps.Keys(m.upstreams)) {
		u := m.upstreams[name]
		u.settle()
		s.addHistogram(upstreamDuration, s.durations.histogram(&u.ledger.times), pair("upstream", name))
	}
	s.addHistogram(overheadDuration, s.overheads.histogram(&s.overhead))
	return slices.DeleteFunc(s.families, func(f *dto.MetricFamily) bool { return len(f.Metric) == 0 })
}

// scrape is one collection under way. It is made for ten thousand routes: what recurs is made once, and what is
// needed one by one comes from slabs.
type scrape struct {
	metrics              *Metrics
	families             []*dto.MetricFamily
	overhead             spreadTotals
	durations, overheads *bounds

	tiers    []*dto.LabelPair
	statuses [lastStatus + 1]*dto.LabelPair
	found    [lastStatus + 1]uint64
	refused  map[refusal]uint64

	points []point
	labels []*dto.LabelPair
}

// refusal is why requests were refused: limit is the place of a label.
type refusal struct {
	reason string
	limit  int
}

// point is a metric with what it points to.
type point struct {
	metric  dto.Metric
	counter dto.Counter
	gauge   dto.Gauge
	value   float64
}

func (s *scrape) point(family int, labels []*dto.LabelPair) *point {
	const slab = 1024
	if len(s.points) == 0 {
		s.points = make([]point, slab)
	}
	p := &s.points[0]
	s.points = s.points[1:]
	if len(s.labels) < len(labels) {
		s.labels = make([]*dto.LabelPair, 4*slab)
	}
	p.metric.Label = s.labels[:copy(s.labels, labels):len(labels)]
	s.labels = s.labels[len(labels):]
	s.families[family].Metric = append(s.families[family].Metric, &p.metric)
	return p
}

func (s *scrape) add(family int, value float64, labels ...*dto.LabelPair) {
	p := s.point(family, labels)
	p.value = value
	if s.families[family].GetType() == dto.MetricType_GAUGE {
		p.gauge.Value, p.metric.Gauge = &p.value, &p.gauge
		return
	}
	p.counter.Value, p.metric.Counter = &p.value, &p.counter
}

func (s *scrape) addHistogram(family int, h *dto.Histogram, labels ...*dto.LabelPair) {
	s.point(family, labels).metric.Histogram = h
}

func (s *scrape) route(r *Route) {
	r.settle()
	if r.ledger == nil && r.inFlight() == 0 {
		return // routes that nobody ever asked for need no series
	}
	label := pair("route", r.name)
	for tier := range s.tiers {
		s.ended(r, label, tier)
	}
	var bytesIn, bytesOut uint64
	r.cells(func(c *cell) {
		bytesIn += c.bytesIn.Load()
		bytesOut += c.bytesOut.Load()
	})
	s.add(requestsInFlight, float64(r.inFlight()), label)
	s.add(receivedBytes, float64(bytesIn), label)
	s.add(sentBytes, float64(bytesOut), label)
	if r.ledger != nil {
		s.addHistogram(requestDuration, s.durations.histogram(&r.ledger.duration), label)
		s.overhead.add(&r.ledger.overhead)
	}
}

// ended tells how the requests of a route and tier ended.
func (s *scrape) ended(r *Route, route *dto.LabelPair, tier int) {
	counted := false
	r.cells(func(c *cell) {
		o := c.counted(tier)
		if o == nil {
			return
		}
		counted = true
		o.each(func(status int, n uint64) { s.found[status] += n })
		s.metrics.eachRefusal(o, func(reason string, limit int, n uint64) { s.refused[refusal{reason, limit}] += n })
	})
	if !counted {
		return
	}
	for status, n := range s.found {
		if n == 0 {
			continue
		}
		s.found[status] = 0
		if s.statuses[status] == nil {
			s.statuses[status] = pair("status", strconv.Itoa(status))
		}
		s.add(requestsTotal, float64(n), route, s.statuses[status], s.tiers[tier])
	}
	limits := *r.limits.Load()
	for why, n := range s.refused {
		s.add(rejectionsTotal, float64(n), pair("limit", limits[why.limit]), pair("reason", why.reason), route, s.tiers[tier])
	}
	clear(s.refused)
}

func pair(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }
