//go:build !race

package telemetry

import (
	"io"
	"runtime"
	"testing"
	"time"
)

// Nothing is allocated to count an exchange, nor to log it.
func TestObserveAllocations(t *testing.T) {
	m, routes := someMetrics(1, "gold")
	l, _, _ := startAccess(t, &AccessOutput{Writer: io.Discard}, 1)
	r := fullRecord()
	r.Route, r.Upstream, r.Tier = routes[0], m.upstreams["origin"], "gold"
	for name, observe := range map[string]func(){
		"a success":      func() { r.Status, r.Refused = 200, false; m.Observe(r) },
		"a refusal":      func() { r.Status, r.Refused, r.Reason, r.Limit = 429, true, "rate_limited", "per-client"; m.Observe(r) },
		"unknown labels": func() { r.Status, r.Tier, r.Limit = 418, "silver", "another"; m.Observe(r) },
		"a line":         func() { l.Write(r) },
	} {
		for range 2 * crowd {
			observe()
		}
		if n := testing.AllocsPerRun(1000, observe); n > 0.1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.rotate(time.Time{}) }); n > 2 {
		t.Errorf("a window: %v allocations", n)
	}
}

// Ten thousand routes that are all in use take less than 60 MB; and a scrape of them is whole, by the official parser,
// which is too slow for the race detector.
func TestMetricsMemory(t *testing.T) {
	const n = 10_000
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	m, _ := someMetrics(n, "gold")
	for range windows {
		m.rotate(time.Time{})
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if took := after.HeapAlloc - before.HeapAlloc; took > 60<<20 {
		t.Errorf("%d bytes", took)
	}
	began := time.Now()
	families := scraped(t, m.Handler(nil, nothing))
	t.Logf("%d bytes; scraped and parsed in %v", after.HeapAlloc-before.HeapAlloc, time.Since(began))
	for name, want := range map[string]int{
		"sluice_requests_total": 3 * n, "sluice_rejections_total": n, "sluice_request_duration_seconds": n, "sluice_upstream_duration_seconds": 1,
	} {
		if got := len(families[name].GetMetric()); got != want {
			t.Errorf("%s has %d series, want %d", name, got, want)
		}
	}
}
