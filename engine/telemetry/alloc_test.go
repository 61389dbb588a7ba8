//go:build !race

package telemetry

import (
	"io"
	"testing"
	"time"
)

// Nothing is allocated to count an exchange, nor to log it.
func TestObserveAllocations(t *testing.T) {
	m, routes := someMetrics(1)
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
