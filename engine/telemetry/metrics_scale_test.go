package telemetry

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every duration is in the bucket whose borders enclose it, and no bucket is wider than a quarter of where it
// begins.
func TestScale(t *testing.T) {
	for b := 1; b < buckets; b++ {
		low, before := lowerEnd(b), lowerEnd(b-1)
		if low <= before {
			t.Errorf("bucket %d begins at %v, the one before at %v", b, low, before)
		}
		if b > 1 && float64(low-before) > 0.25*float64(before)+1 {
			t.Errorf("the bucket from %v to %v is too wide", before, low)
		}
		if got := bucketOf(low); got != b-1 {
			t.Errorf("%v is in bucket %d: a border belongs to the one below, %d", low, got, b-1)
		}
		if got := bucketOf(low + 1); got != b {
			t.Errorf("%v is in bucket %d, want %d", low+1, got, b)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(math.Exp(rapid.Float64Range(0, math.Log(math.MaxInt64)).Draw(t, "log")))
		b := bucketOf(d)
		if d <= lowerEnd(b) && b > 0 || b < buckets-1 && d > lowerEnd(b+1) {
			t.Errorf("%v is in bucket %d, that begins at %v", d, b, lowerEnd(b))
		}
	})
	for _, d := range []time.Duration{0, -1, math.MinInt64} {
		if b := bucketOf(d); b != 0 {
			t.Errorf("%v is in bucket %d", d, b)
		}
	}
}

// A quantile is as near to the true one as the buckets are narrow.
func TestQuantile(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		micros := rapid.SliceOfN(rapid.IntRange(10, 90_000_000), 1, 200).Draw(t, "durations")
		q := rapid.Float64Range(0.01, 1).Draw(t, "q")
		var s spread
		for _, us := range micros {
			s[bucketOf(time.Duration(us)*time.Microsecond)]++
		}
		slices.Sort(micros)
		want := time.Duration(micros[int(math.Ceil(q*float64(len(micros))))-1]) * time.Microsecond
		got := s.quantile(q)
		if float64(got) < float64(want)/1.26-1e4 || float64(got) > float64(want)*1.26+1e4 {
			t.Errorf("estimated %v for %v", got, want)
		}
	})
	if (&spread{}).quantile(0.5) != 0 {
		t.Error("nothing has a quantile")
	}
}

// A route that leaves the configuration is forgotten, whether anybody ever asked for it or not; what was counted in
// the whole gateway's name stays.
func TestMetricsForget(t *testing.T) {
	m := NewMetrics([]string{"no_route"}, 1)
	now := time.Unix(0, 0)
	plan := m.Prepare(nil)
	used, _ := plan.Route("used", nil), plan.Route("idle", nil)
	plan.Commit(now)
	used.Begin(m, 0)
	m.Observe(&Record{Route: used, Status: 200, Duration: time.Millisecond})
	if all := m.Total(); all.Requests != 1 || all.Duration.P50 == 0 {
		t.Errorf("at first %+v", all)
	}
	m.Prepare(nil).Commit(now)
	m.rotate(now.Add(farewell))
	if n := m.Total().Requests; n != 1 {
		t.Errorf("%d requests while the route is told of", n)
	}
	m.rotate(now.Add(farewell + 1))
	if all := m.Total(); all.Requests != 0 || len(m.routes) > 0 {
		t.Errorf("after that %+v", all)
	}
	if n, _ := m.Responses(); n != 1 {
		t.Errorf("%d responses in all", n)
	}
}
