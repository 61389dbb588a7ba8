package e2e

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// One of three targets is sick. What can be tried again never fails for a client; what cannot, because the
// answer had begun, fails a few times until the breaker opens, and then once for each
// probe. The breaker closes again when the target is well.
func TestUpstreamOneSick(t *testing.T) {
	t.Parallel()
	const openFor = 3 * time.Second
	for _, c := range []struct {
		mood string
		most int    // failures until the breaker is open
		as   string // and how they look
	}{
		{closeMood, 0, ""},
		{resetMood, 0, ""},
		{silentMood, 0, ""},
		{halfMood, 0, ""},
		{garbageMood, 0, ""},
		{errorMood, 0, ""},
		{cutMood, 8, "cut"},
		{chunkMood, 8, "cut"},
	} {
		t.Run(c.mood, func(t *testing.T) {
			t.Parallel()
			all, urls := startMoodies(t, 3)
			g := startGateway(t, moodyUpstream(urls, `balance = "round_robin"
[upstream.a.timeouts]
response = "200ms"
[upstream.a.breaker]
min_requests = 4
probes = 2
open_for = "3s"
`))
			if r := g.load(t, 1, 6); r.failed() > 0 || len(r.names) != 3 {
				t.Fatalf("all are well: %v", r)
			}
			sick := all[1]
			sick.set(c.mood)
			opening := g.load(t, 3, 60) // no more at once than the budget allows to try again
			if n := opening.failed(); n > c.most || n != opening.ended[c.as] {
				t.Errorf("until the breaker was open: %v, want at most %d failures %s", opening, c.most, c.as)
			}
			if s := g.targetOf(t, sick.address()); !isOpen(s) || s.Reopens <= 0 || s.Reopens > openFor.Seconds() {
				t.Errorf("/status of the sick target: %+v", s)
			}
			for _, well := range []*moody{all[0], all[2]} {
				if s := g.targetOf(t, well.address()); !isClosed(s) {
					t.Errorf("/status of a target that is well: %+v", s)
				}
			}
			began := time.Now()
			r := g.load(t, 4, 2000)
			allowed := 2
			if c.most > 0 {
				allowed += 2 * int(time.Since(began)/openFor) // a round of probes each
			}
			if r.failed() > allowed {
				t.Errorf("with an open breaker: %v, want at most %d failures", r, allowed)
			}
			sick.set(wellMood)
			g.until(t, "the breaker closes", sick, isClosed)
			before := sick.served.Load()
			if r := g.load(t, 4, 400); r.failed() > 0 {
				t.Errorf("all are well again: %v", r)
			}
			if sick.served.Load() == before {
				t.Error("the target that is well again gets nothing")
			}
		})
	}
}

// checked is the table of health checks that are quick to judge.
const checked = `
[upstream.a.health]
path = "/healthz"
interval = "200ms"
timeout = "200ms"
healthy = 2
unhealthy = 2
[upstream.a.breaker]
min_requests = 1000000
`

// A target whose checks fail leaves the choice before any request has met it, and comes back. With none left,
// no request is sent anywhere.
func TestUpstreamHealthChecks(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 3)
	g := startGateway(t, moodyUpstream(urls, checked))
	healthy := func(m *moody, want string) {
		t.Helper()
		eventually(t, m.name+" is "+want, func() bool {
			s := g.targetOf(t, m.address())
			return s.Health == want && s.Present == (want == "healthy") && (s.LastCheck == "") == s.Present
		})
	}
	for _, mood := range []string{errorMood, silentMood, resetMood, garbageMood} {
		all[0].set(mood)
		healthy(all[0], "unhealthy")
		before := all[0].served.Load()
		if r := g.load(t, 4, 300); r.failed() > 0 {
			t.Errorf("%s: %v", mood, r)
		}
		if all[0].served.Load() != before {
			t.Errorf("%s: an unhealthy target got requests", mood)
		}
		all[0].set(wellMood)
		healthy(all[0], "healthy")
		if r := g.load(t, 4, 300); r.failed() > 0 || r.names["a"] == 0 {
			t.Errorf("after %s: %v", mood, r)
		}
	}
	for _, m := range all {
		m.set(errorMood)
	}
	for _, m := range all {
		healthy(m, "unhealthy")
	}
	served := all[0].served.Load() + all[1].served.Load() + all[2].served.Load()
	g.turnsAway(t, "no_healthy_target", 1)
	if now := all[0].served.Load() + all[1].served.Load() + all[2].served.Load(); now != served {
		t.Error("an unhealthy target got a request")
	}
	all[2].set(wellMood)
	healthy(all[2], "healthy")
	if r := g.load(t, 4, 100); r.failed() > 0 || r.names["c"] != 100 {
		t.Errorf("with one target back: %v", r)
	}
}

// A target that breaks off several requests in a row, before or within its answer, is ejected for a while, whatever
// its breaker says; it comes back by itself. Not more than half of the targets are.
func TestUpstreamEjection(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 3)
	g := startGateway(t, moodyUpstream(urls, "[upstream.a.breaker]\nmin_requests = 1000000\n"))
	sick := all[0]
	for mood, most := range map[string]int{resetMood: 2, cutMood: 5 + 4 + 3*4} { // a cut cannot be mended: five in a row, then one for each return, and who else is there
		sick.set(mood)
		total := 0
		eventually(t, "the target is ejected", func() bool {
			r := g.load(t, 4, 20)
			total += r.failed()
			return !g.targetOf(t, sick.address()).Present
		})
		r := g.load(t, 4, 1000)
		if total += r.failed(); total > most {
			t.Errorf("%s: %d failures, then %v", mood, total, r)
		}
		sick.set(wellMood)
		g.until(t, "it is back", sick, func(s engine.TargetStatus) bool { return s.Present })
		if r := g.load(t, 4, 500); r.failed() > 0 || r.names["a"] == 0 {
			t.Errorf("after the return: %v", r)
		}
	}
	for _, m := range all {
		m.set(closeMood)
	}
	_ = g.load(t, 4, 200)
	out := 0
	for _, m := range all {
		if !g.targetOf(t, m.address()).Present {
			out++
		}
	}
	if out > 1 {
		t.Errorf("%d of three targets are ejected", out)
	}
	_, last := g.exchange(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	last.expectProblem(t, 502, "upstream_reset")
	g.says(t, "target out")
}
