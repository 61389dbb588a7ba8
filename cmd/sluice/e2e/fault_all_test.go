package e2e

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// When the breakers of all targets are open, the answer is made at once and tells when to come again; no byte
// of the request reaches a target. When they are well, probes find out.
func TestFaultOfAll(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T){}
	for _, fault := range []string{killedFault, stoppedFault, closeMood, resetMood, halfMood, garbageMood, silentMood, errorMood, dripMood, cutMood} {
		tests[fault] = func(t *testing.T) { faultOfAll(t, fault) }
	}
	together(t, 5, tests)
}

const allOpenFor = 4 // seconds

func faultOfAll(t *testing.T, fault string) {
	var all []victim
	var urls []string
	for range 3 {
		v := startVictim(t, fault)
		all, urls = append(all, v), append(urls, fmt.Sprintf("%q", "http://"+v.address))
	}
	g := startGateway(t, moodyUpstream(strings.Join(urls, ","), fmt.Sprintf(`
[upstream.a.timeouts]
connect = "200ms"
response = "200ms"
[upstream.a.breaker]
min_requests = 2
probes = 2
open_for = "%ds"
`, allOpenFor)))
	for _, v := range all {
		v.fall()
	}
	// They are opened at about the same time, by as many requests as it takes, and then left in peace.
	load := startPour(t, g, 8, 10*time.Millisecond)
	defer load.stop()
	eventually(t, "all breakers are open, and for long enough to look", func() bool {
		return g.every(t, all, func(s engine.TargetStatus) bool { return isOpen(s) && s.InFlight == 0 && s.Reopens > 2 })
	})
	load.stop()

	before := touched(all)
	longest := g.reopens(t, all)
	r := g.dial(t).do("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	shortest := g.reopens(t, all)
	if after, err := strconv.ParseFloat(r.fields.get("Retry-After"), 64); err != nil || after < math.Ceil(shortest) || after > math.Ceil(longest) {
		t.Errorf("Retry-After %q, with %v to %v seconds left", r.fields.get("Retry-After"), shortest, longest)
	}
	g.turnsAway(t, "circuit_open", allOpenFor)
	if n := touched(all) - before; n != 0 {
		t.Errorf("%d bytes or connections reached the targets", n)
	}

	for _, v := range all {
		v.rise()
	}
	eventually(t, "the breakers close", func() bool {
		_ = g.load(t, 1, 5)
		return g.every(t, all, isClosed)
	})
	if r := g.load(t, 4, 200); r.failed() > 0 {
		t.Errorf("after the recovery: %v", r)
	}
	for _, line := range []string{`"from":"closed","to":"open"`, `"from":"open","to":"half-open"`, `"from":"half-open","to":"closed"`} {
		if n := strings.Count(g.log.String(), line); n < 3 {
			t.Errorf("%d log lines with %s, want one for each target", n, line)
		}
	}
}

// turnsAway checks that requests are refused at once, for a second at most.
func (g *gateway) turnsAway(t testing.TB, reason string, retryAfter int) {
	t.Helper()
	var answers span
	client := g.dial(t)
	for began := time.Now(); time.Since(began) < time.Second && len(answers) < 300; {
		asked := time.Now()
		r := client.do("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		answers = append(answers, sample{asked, time.Since(asked), reason})
		r.expectProblem(t, 503, reason)
		if after, err := strconv.Atoi(r.fields.get("Retry-After")); err != nil || after < 1 || after > retryAfter {
			t.Errorf("Retry-After %q, want 1 to %d", r.fields.get("Retry-After"), retryAfter)
		}
	}
	t.Log(answers)
	if p50 := answers.quantile(0.5); p50 > 5*time.Millisecond || len(answers) < 50 {
		t.Errorf("%d answers, half of them within %v, want 5 ms", len(answers), p50)
	}
}

// every says whether all of them are so, by /status.
func (g *gateway) every(t testing.TB, all []victim, is func(s engine.TargetStatus) bool) bool {
	for _, v := range all {
		if !is(g.targetOf(t, v.address)) {
			return false
		}
	}
	return true
}

// reopens is how many seconds are left until the first breaker lets somebody through, by /status.
func (g *gateway) reopens(t testing.TB, all []victim) float64 {
	soonest := math.Inf(1)
	for _, v := range all {
		soonest = min(soonest, g.targetOf(t, v.address).Reopens)
	}
	return soonest
}

func touched(all []victim) (n int64) {
	for _, v := range all {
		n += v.touched()
	}
	return n
}
