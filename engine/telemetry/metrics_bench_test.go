package telemetry

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// someMetrics are metrics with routes that were all asked for, by clients of these tiers and with three statuses.
func someMetrics(routes int, tiers ...string) (*Metrics, []*Route) {
	m := NewMetrics([]string{"no_route", "rate_limited", "upstream_reset"}, 4)
	plan := m.Prepare(tiers)
	all := make([]*Route, routes)
	up := plan.Upstream("origin")
	for i := range all {
		all[i] = plan.Route(fmt.Sprintf("a-route-with-a-name-%05d", i), []string{"per-client"})
	}
	plan.Commit(time.Time{})
	for i, r := range all {
		for j, tier := range tiers {
			for _, status := range []int{200, 404, 429} {
				r.Begin(m, uint32(i))
				m.Observe(&Record{
					Route: r, Upstream: up, Tier: tier, Status: status, Refused: status == 429, Reason: "rate_limited", Limit: "per-client",
					BytesIn: 100, BytesOut: 1000, Duration: time.Duration(1+i%100) * time.Millisecond * time.Duration(1+j),
					UpstreamTime: time.Duration(1+i%100) * time.Millisecond, Attempts: 1, Stripe: uint32(i),
				})
			}
		}
	}
	return m, all
}

func BenchmarkObserve(b *testing.B) {
	m, routes := someMetrics(1, "gold")
	r := Record{
		Route: routes[0], Upstream: m.upstreams["origin"], Tier: "gold", Status: 200, BytesIn: 100, BytesOut: 1000,
		Duration: 3 * time.Millisecond, UpstreamTime: 2900 * time.Microsecond, Attempts: 1,
	}
	b.ReportAllocs()
	for b.Loop() {
		m.Observe(&r)
	}
}

// BenchmarkScrape answers a scrape of ten thousand routes that are all in use.
func BenchmarkScrape(b *testing.B) {
	m, _ := someMetrics(10_000, "gold")
	handler := m.Handler(nil, func(func(int, float64, ...string)) {})
	for _, encoding := range []string{"identity", "gzip"} {
		b.Run(encoding, func(b *testing.B) {
			b.ReportAllocs()
			var size int64
			for b.Loop() {
				request := httptest.NewRequest("GET", "/metrics", nil)
				request.Header.Set("Accept-Encoding", encoding)
				w := &discard{header: http.Header{}}
				handler.ServeHTTP(w, request)
				size = w.n
			}
			b.ReportMetric(float64(size)/1e6, "MB")
		})
	}
}

type discard struct {
	header http.Header
	n      int64
}

func (d *discard) Header() http.Header { return d.header }
func (d *discard) WriteHeader(int)     {}
func (d *discard) Write(p []byte) (int, error) {
	d.n += int64(len(p))
	return len(p), nil
}

func BenchmarkRotate(b *testing.B) {
	m, _ := someMetrics(10_000, "gold")
	for b.Loop() {
		m.rotate(time.Time{})
	}
}
