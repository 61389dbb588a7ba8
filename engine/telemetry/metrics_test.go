package telemetry

import (
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"pgregory.net/rapid"
)

// scraped asks a handler as Prometheus does, and reads the answer with its parser.
func scraped(t testing.TB, handler http.Handler) map[string]*dto.MetricFamily {
	t.Helper()
	w := httptest.NewRecorder()
	request := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	request.Header.Set("Accept-Encoding", "gzip")
	handler.ServeHTTP(w, request)
	if w.Code != 200 || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("answered %d, %v", w.Code, w.Header())
	}
	body, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

func nothing(func(int, float64, ...string)) {}

// labelsOf are the labels of a metric, "name=value", in their order.
func labelsOf(m *dto.Metric) string {
	text := ""
	for _, l := range m.GetLabel() {
		text += l.GetName() + "=" + l.GetValue() + ","
	}
	return text
}

// The published figures are those of a plain count, whatever was observed.
func TestMetricsAgreeWithAModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMetrics([]string{"rate_limited", "no_route"}, 4)
		handler := m.Handler(nil, nothing)
		plan := m.Prepare([]string{"gold"})
		routes := []*Route{nil, plan.Route("a", []string{"few"}), plan.Route("b", nil)}
		names := []string{"", "a", "b"}
		up := plan.Upstream("up")
		plan.Commit(time.Time{})
		want := map[string]float64{}
		count := func(name string) { want[name]++ }
		for range rapid.IntRange(0, 60).Draw(rt, "requests") {
			which := rapid.IntRange(0, 2).Draw(rt, "route")
			r := &Record{
				Route: routes[which], Status: rapid.SampledFrom([]int{200, 204, 429, 404, 418, 599}).Draw(rt, "status"),
				Tier: rapid.SampledFrom([]string{"", "gold", "silver"}).Draw(rt, "tier"), Stripe: rapid.Uint32().Draw(rt, "stripe"),
				Duration: time.Duration(rapid.IntRange(0, 20_000_000_000).Draw(rt, "duration")), Attempts: 1,
			}
			if which > 0 {
				routes[which].Begin(m, r.Stripe+1)
				r.Upstream = up
				count("sluice_upstream_duration_seconds upstream=up,")
			}
			tier := map[string]string{"": "", "gold": "gold", "silver": "other"}[r.Tier]
			count(fmt.Sprintf("sluice_requests_total route=%s,status=%d,tier=%s,", names[which], r.Status, tier))
			if r.Status == 429 {
				r.Refused, r.Reason = true, rapid.SampledFrom([]string{"rate_limited", "no_route", "unheard_of"}).Draw(rt, "reason")
				r.Limit = rapid.SampledFrom([]string{"", "few", "unknown"}).Draw(rt, "limit")
				limit, reason := "", r.Reason
				switch {
				case r.Reason == "unheard_of":
					reason = "other"
				case r.Reason == "rate_limited" && r.Limit == "few" && which == 1:
					limit = "few"
				case r.Reason == "rate_limited" && r.Limit != "":
					limit = "other"
				}
				count(fmt.Sprintf("sluice_rejections_total limit=%s,reason=%s,route=%s,tier=%s,", limit, reason, names[which], tier))
			}
			count("sluice_request_duration_seconds route=" + names[which] + ",")
			count("sluice_overhead_seconds ")
			m.Observe(r)
			if rapid.IntRange(0, 9).Draw(rt, "rotate") == 0 {
				m.rotate(time.Time{})
			}
		}
		got := map[string]float64{}
		for name, f := range scraped(t, handler) {
			if !slices.Contains([]string{
				"sluice_requests_total", "sluice_rejections_total", "sluice_request_duration_seconds", "sluice_upstream_duration_seconds",
				"sluice_overhead_seconds", "sluice_requests_in_flight",
			}, name) {
				continue
			}
			for _, one := range f.GetMetric() {
				if n := one.GetCounter().GetValue() + one.GetGauge().GetValue() + float64(one.GetHistogram().GetSampleCount()); n != 0 {
					got[name+" "+labelsOf(one)] = n
				}
			}
		}
		for name, n := range want {
			if got[name] != n {
				rt.Errorf("%s is %v, want %v", name, got[name], n)
			}
		}
		if len(got) != len(want) {
			rt.Errorf("%v, want %v", got, want)
		}
	})
}

// A published histogram tells for each of its bounds how many durations did not exceed it.
func TestHistogramIsExact(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := NewMetrics(nil, 1)
		durations := rapid.SliceOf(rapid.Custom(func(t *rapid.T) time.Duration {
			if rapid.Bool().Draw(t, "border") {
				return lowerEnd(rapid.IntRange(0, buckets-1).Draw(t, "bucket"))
			}
			return time.Duration(rapid.Int64Range(0, 200_000_000_000).Draw(t, "ns"))
		})).Draw(rt, "durations")
		sum := time.Duration(0)
		for _, d := range durations {
			m.Observe(&Record{Duration: d})
			sum += d
		}
		if len(durations) == 0 {
			return
		}
		h := scraped(t, m.Handler(nil, nothing))["sluice_request_duration_seconds"].GetMetric()[0].GetHistogram()
		if len(h.GetBucket()) != 17 || h.GetBucket()[0].GetUpperBound() != 0.0001 {
			rt.Fatalf("%d buckets from %v", len(h.GetBucket()), h.GetBucket()[0].GetUpperBound())
		}
		for _, b := range h.GetBucket() {
			want := uint64(0)
			for _, d := range durations {
				if d.Seconds() <= b.GetUpperBound() {
					want++
				}
			}
			if b.GetCumulativeCount() != want {
				rt.Errorf("%d up to %v s, want %d", b.GetCumulativeCount(), b.GetUpperBound(), want)
			}
		}
		if diff := h.GetSampleSum() - sum.Seconds(); diff > 1e-6 || diff < -1e-6 {
			rt.Errorf("the sum is off by %v s", diff)
		}
	})
}

// Many count at once, while others scrape and windows end: nothing is lost, and no counter ever falls.
func TestMetricsUnderWay(t *testing.T) {
	m := NewMetrics([]string{"rate_limited"}, 8)
	handler := m.Handler(nil, nothing)
	plan := m.Prepare(nil)
	route := plan.Route("a", nil)
	plan.Commit(time.Time{})
	const writers, each = 8, 2 * crowd
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				route.Begin(m, uint32(w))
				m.Observe(&Record{Route: route, Status: 200, Duration: time.Duration(i) * time.Microsecond, Stripe: uint32(w)})
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		all.Wait()
	}()
	value := func(families map[string]*dto.MetricFamily, name string) float64 {
		n := 0.0
		for _, one := range families[name].GetMetric() {
			n += one.GetCounter().GetValue() + one.GetGauge().GetValue() + float64(one.GetHistogram().GetSampleCount())
		}
		return n
	}
	last := map[string]float64{}
	for over := false; !over; {
		select {
		case <-done:
			over = true
		default:
		}
		m.rotate(time.Time{})
		families := scraped(t, handler)
		for _, name := range []string{"sluice_requests_total", "sluice_request_duration_seconds", "sluice_overhead_seconds"} {
			n := value(families, name)
			if n < last[name] {
				t.Errorf("%s fell from %v to %v", name, last[name], n)
			}
			last[name] = n
		}
	}
	for name, n := range last {
		if n != writers*each {
			t.Errorf("%s is %v, want %d", name, n, writers*each)
		}
	}
	if n := value(scraped(t, handler), "sluice_requests_in_flight"); n != 0 {
		t.Errorf("%v in flight", n)
	}
}

// What left the configuration is told of until the last figures have been collected, and goes on if it comes back
// before; its share of the whole stays.
func TestMetricsOfRemovedRoutes(t *testing.T) {
	m := NewMetrics(nil, 1)
	handler := m.Handler(nil, nothing)
	at := time.Time{}
	use := func(names ...string) map[string]*Route {
		plan, routes := m.Prepare(nil), map[string]*Route{}
		for _, name := range names {
			routes[name] = plan.Route(name, nil)
		}
		plan.Commit(at)
		return routes
	}
	told := func() string {
		text := ""
		for _, one := range scraped(t, handler)["sluice_requests_total"].GetMetric() {
			text += labelsOf(one) + strconv.FormatFloat(one.GetCounter().GetValue(), 'f', -1, 64) + " "
		}
		return text
	}
	ask := func(r *Route) {
		r.Begin(m, 0)
		m.Observe(&Record{Route: r, Status: 200, Duration: time.Millisecond})
	}
	first := use("a", "b", "never asked for")
	ask(first["a"])
	ask(first["b"])
	use("a")
	ask(first["b"]) // it was under way
	at = at.Add(farewell / 2)
	m.rotate(at)
	if got := told(); got != "route=a,status=200,tier=,1 route=b,status=200,tier=,2 " {
		t.Errorf("soon after: %s", got)
	}
	ask(use("a", "b")["b"])
	use("a")
	first["b"].Begin(m, 0) // a long one
	at = at.Add(farewell + 1)
	m.rotate(at)
	if got := told(); got != "route=a,status=200,tier=,1 route=b,status=200,tier=,3 " {
		t.Errorf("while one is under way: %s", got)
	}
	m.Observe(&Record{Route: first["b"], Status: 200, Duration: time.Millisecond})
	m.rotate(at)
	if got := told(); got != "route=a,status=200,tier=,1 " {
		t.Errorf("when all has been told: %s", got)
	}
	if n := scraped(t, handler)["sluice_overhead_seconds"].GetMetric()[0].GetHistogram().GetSampleCount(); n != 5 {
		t.Errorf("%d in all, want 5", n)
	}
}

// Labels are bounded: tiers and limits beyond what there is room for count together.
func TestLabelsAreBounded(t *testing.T) {
	m := NewMetrics(nil, 1)
	for i := range 100 {
		plan := m.Prepare([]string{fmt.Sprint("tier", i)})
		r := plan.Route("a", []string{fmt.Sprint("limit", i)})
		plan.Commit(time.Time{})
		r.Begin(m, 0)
		m.Observe(&Record{Route: r, Tier: fmt.Sprint("tier", i), Status: 429, Refused: true, Reason: reasonLimited, Limit: fmt.Sprint("limit", i)})
	}
	families := scraped(t, m.Handler(nil, nothing))
	for _, name := range []string{"sluice_requests_total", "sluice_rejections_total"} {
		total := 0.0
		for _, one := range families[name].GetMetric() {
			total += one.GetCounter().GetValue()
		}
		if n := len(families[name].GetMetric()); n > mostTiers || total != 100 {
			t.Errorf("%s has %d series and counts %v", name, n, total)
		}
	}
}

// The last minute forgets what is older.
func TestTrafficOfLastMinute(t *testing.T) {
	m := NewMetrics(nil, 4)
	plan := m.Prepare(nil)
	r := plan.Route("a", nil)
	plan.Commit(time.Time{})
	ask := func(n int, d time.Duration) {
		for range n {
			r.Begin(m, uint32(n))
			m.Observe(&Record{Route: r, Status: 200, Duration: d, BytesIn: 10, BytesOut: 20, Stripe: uint32(n)})
		}
	}
	near := func(what string, got, want time.Duration) {
		t.Helper()
		if float64(got) < 0.8*float64(want) || float64(got) > 1.25*float64(want) {
			t.Errorf("%s is %v, want about %v", what, got, want)
		}
	}
	ask(90, 10*time.Millisecond)
	ask(10, time.Second)
	for i := range windows {
		traffic := m.Traffic(r)
		near(fmt.Sprint("p50 after ", i, " windows"), traffic.Duration.P50, 10*time.Millisecond)
		near(fmt.Sprint("p95 after ", i, " windows"), traffic.Duration.P95, time.Second)
		m.rotate(time.Time{})
	}
	if traffic := m.Traffic(r); traffic.Duration != (Percentiles{}) || traffic.Requests != 100 || traffic.BytesIn != 1000 || traffic.BytesOut != 2000 {
		t.Errorf("after a minute: %+v", traffic)
	}
	ask(5, 50*time.Millisecond)
	near("p99 of a new minute", m.Traffic(r).Duration.P99, 50*time.Millisecond)
	if traffic := m.Traffic(nil); traffic.Requests != 0 {
		t.Errorf("unrouted: %+v", traffic)
	}
}

// A report's figures are published as it tells them.
func TestReport(t *testing.T) {
	m := NewMetrics(nil, 1)
	families := []Family{
		{Name: "gauge", Help: "A gauge.", Labels: []string{"of"}},
		{Name: "things_total", Help: "A counter.", Counter: true},
	}
	got := scraped(t, m.Handler(families, func(tell func(int, float64, ...string)) {
		tell(0, -2.5, `a "quoted" name`)
		tell(1, 7)
	}))
	if g := got["sluice_gauge"]; g.GetType() != dto.MetricType_GAUGE || g.GetMetric()[0].GetGauge().GetValue() != -2.5 || labelsOf(g.GetMetric()[0]) != `of=a "quoted" name,` {
		t.Errorf("%v", g)
	}
	if c := got["sluice_things_total"]; c.GetType() != dto.MetricType_COUNTER || c.GetMetric()[0].GetCounter().GetValue() != 7 {
		t.Errorf("%v", c)
	}
	m.Refuse()
	if n := scraped(t, m.Handler(nil, nothing))["sluice_connections_refused_total"].GetMetric()[0].GetCounter().GetValue(); n != 1 {
		t.Errorf("%v refused", n)
	}
}
