package e2e

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// truth is how soon /status must tell a change of a target.
const truth = time.Second

// tells waits until /status tells of a target what became true at since, or later.
func (g *gateway) tells(t testing.TB, address, what string, since time.Time, is func(s engine.TargetStatus) bool) {
	t.Helper()
	eventually(t, what, func() bool { return is(g.targetOf(t, address)) })
	if late := time.Since(since); late > truth {
		t.Errorf("%s: /status tells it after %v, want within %v", what, late, truth)
	}
}

// /status tells the states of a breaker as they change: the last failure opens it, a probe makes it half-open,
// enough of them close it, or one opens it again.
func TestFaultStatusOfBreaker(t *testing.T) {
	t.Parallel()
	const openFor = 2 * time.Second
	var sick atomic.Bool
	probed := make(chan struct{}, 16)
	release := make(chan struct{})
	url := startRaw(t, func(c *rawConn, done <-chan struct{}) {
		for head := c.head(); head != ""; head = c.head() {
			if headValue(head, "X-Probe") != "" {
				probed <- struct{}{}
				select {
				case <-release:
				case <-done:
				}
			}
			if sick.Load() {
				c.write("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			c.write(answerOK)
		}
	})
	g := startGateway(t, moodyUpstream(fmt.Sprintf("%q", url), fmt.Sprintf(`
[upstream.a.retry]
attempts = 1
[upstream.a.breaker]
min_requests = 3
probes = 2
open_for = %q
`, openFor)))
	address, client := url[len("http://"):], g.dial(t)
	g.tells(t, address, "closed at first", time.Now(), isClosed)

	sick.Store(true)
	for range 3 {
		client.ask("/")
	}
	opened := time.Now()
	g.tells(t, address, "open", opened, func(s engine.TargetStatus) bool { return isOpen(s) && s.Opened == 1 })
	s := g.targetOf(t, address)
	if sum := time.Since(opened).Seconds() + s.Reopens; s.Reopens <= 0 || sum < openFor.Seconds()-0.5 || sum > openFor.Seconds()+0.5 {
		t.Errorf("it is open for %v and for %vs more, want %v in all", time.Since(opened), s.Reopens, openFor)
	}

	for _, well := range []bool{false, true} {
		eventually(t, "a probe is let through", func() bool {
			if s := g.targetOf(t, address); s.Breaker != "open" || s.Reopens > 0 {
				return false
			}
			g.dial(t).send("GET / HTTP/1.1\r\nHost: h\r\nX-Probe: 1\r\n\r\n")
			within(t, "the probe", probed)
			return true
		})
		g.tells(t, address, "half-open", time.Now(), func(s engine.TargetStatus) bool { return s.Breaker == "half-open" && s.InFlight == 1 })
		sick.Store(!well)
		release <- struct{}{}
		answered := time.Now()
		if !well {
			g.tells(t, address, "open again", answered, isOpen)
			continue
		}
		if r := client.ask("/"); r.status != 200 {
			t.Errorf("the second probe: %s", r.line)
		}
		g.tells(t, address, "closed again", time.Now(), isClosed)
	}
}

// /status tells that a target was ejected, and that it is back; and again after one more failure, for twice as long.
func TestFaultStatusOfEjection(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(urls, "balance = \"round_robin\"\n[upstream.a.retry]\nattempts = 1\n"+lenient))
	sick, client := all[0], g.dial(t)
	sick.set(resetMood)
	for round, failures := range []int{5, 1} {
		for failures > 0 {
			if r := client.ask("/"); r.status != 200 {
				failures--
			}
		}
		ejected, out := time.Now(), time.Second<<round
		g.tells(t, sick.address(), "ejected", ejected, func(s engine.TargetStatus) bool {
			return !s.Present && s.Ejections == uint64(round)+1
		})
		g.tells(t, sick.address(), "back", ejected.Add(out), func(s engine.TargetStatus) bool { return s.Present })
		if early := out - time.Since(ejected); early > 0 {
			t.Errorf("back %v too early", early)
		}
	}
}

// /status tells what the checks have found as soon as they have.
func TestFaultStatusOfHealth(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(urls, checked))
	sick := all[0]
	for i := range 6 {
		mood, health := errorMood, "unhealthy"
		if i%2 == 1 {
			mood, health = wellMood, "healthy"
		}
		sick.set(mood)
		// Two checks decide, 200 ms apart, give or take a tenth.
		g.tells(t, sick.address(), health, time.Now().Add(440*time.Millisecond), func(s engine.TargetStatus) bool {
			return s.Health == health && s.Present == (health == "healthy") && (s.LastCheck == "") == s.Present
		})
		if s := g.targetOf(t, all[1].address()); s.Health != "healthy" || !s.Present {
			t.Errorf("the other target: %+v", s)
		}
	}
}
