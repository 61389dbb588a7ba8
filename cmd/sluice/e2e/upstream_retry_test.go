package e2e

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// strict is a breaker that opens at the first failure that counts, and not again for a minute.
const strict = `
[upstream.a.breaker]
failure_ratio = 0.01
min_requests = 1
open_for = "1m"
`

// lenient is one that does not open.
const lenient = `
[upstream.a.breaker]
min_requests = 1000000
`

// Nothing is tried again that a target has, or may have, acted on for good, however many tries are allowed.
func TestUpstreamNoSecondTry(t *testing.T) {
	t.Parallel()
	const get, post = "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
	for _, c := range []struct {
		intent, mood, raw string
		status            int
		reason            string
		tries             int64
	}{
		{"half a head, to what cannot be repeated", halfMood, post, 502, "upstream_reset", 1},
		{"a malformed answer to it", garbageMood, post, 502, "upstream_malformed", 1},
		{"a bad status", errorMood, post, 500, "", 1},
		{"an answer that breaks off in its body", cutMood, get, 200, "", 1},
		{"a body was sent, then a close", closeMood, post, 502, "upstream_reset", 1},
		{"a body was sent, then a reset", resetMood, post, 502, "upstream_reset", 1},
		{"a body was sent, then silence", silentMood, post, 504, "upstream_timeout", 1},
		{"what can be repeated is", closeMood, get, 502, "upstream_reset", 3},
		{"after half a head", halfMood, get, 502, "upstream_reset", 3},
		{"after a malformed answer", garbageMood, get, 502, "upstream_malformed", 3},
		{"after a bad status, and the last one is the answer", errorMood, get, 500, "", 3},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			all, urls := startMoodies(t, 3)
			g := startGateway(t, moodyUpstream(urls, `balance = "round_robin"
[upstream.a.retry]
attempts = 3
[upstream.a.timeouts]
response = "200ms"
`+lenient))
			// The connections stand already: only the request itself meets the mood.
			if r := g.load(t, 1, 3); r.failed() > 0 || len(r.names) != 3 {
				t.Fatalf("all are well: %v", r)
			}
			before := int64(0)
			for _, m := range all {
				m.set(c.mood)
				before += m.served.Load()
			}
			_, r := g.exchange(t, c.raw)
			if c.reason != "" {
				r.expectProblem(t, c.status, c.reason)
			} else if r.status != c.status {
				t.Errorf("status %d, want %d", r.status, c.status)
			}
			tries := -before
			for _, m := range all {
				tries += m.served.Load()
			}
			// A target that resets at once never reads a request on a new connection.
			if tries > c.tries || tries < min(c.tries, 1) {
				t.Errorf("%d tries, want %d", tries, c.tries)
			}
		})
	}
}

// Where nothing listens nothing was sent: every method is tried elsewhere.
func TestUpstreamNothingListens(t *testing.T) {
	t.Parallel()
	_, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(fmt.Sprintf("\"http://%s\", %s", freeAddress(t), urls), lenient))
	r := g.loadWith(t, 4, 1000, func(i int) string {
		return []string{"GET", "POST", "PURGE"}[i%3] + " / HTTP/1.1\r\nHost: h\r\n"
	})
	if r.failed() > 1 || len(r.names) != 2 {
		t.Error(r)
	}
}

// Targets that close each idle connection right behind the answer cost idempotent requests nothing, and
// are not blamed for it.
func TestUpstreamKeepAliveRace(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 2)
	for _, m := range all {
		m.set(raceMood)
	}
	g := startGateway(t, moodyUpstream(urls, strict))
	if r := g.load(t, 8, 4000); r.failed() > 0 {
		t.Error(r)
	}
	for _, m := range all {
		if s := g.targetOf(t, m.address()); !isClosed(s) {
			t.Errorf("a race counts as a failure: %+v", s)
		}
	}
	if strings.Contains(g.log.String(), "forwarding failed") {
		t.Error("a race is logged as a failure")
	}
}

// The same when each of many idle connections is closed just as it is used: none may count.
func TestUpstreamKeepAliveRaceOfMany(t *testing.T) {
	t.Parallel()
	up := startRecorder(t, func(c *recorderConn) {
		r := c.next()
		if r == nil {
			return
		}
		if r.path == "/slow" {
			time.Sleep(300 * time.Millisecond) // so that as many connections are opened as clients ask
		}
		nonce := r.fields.get("X-Nonce")
		c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Name: a\r\nX-Nonce: %s\r\nContent-Length: 0\r\n\r\n", nonce))
		_, _ = c.in.ReadByte()
	})
	g := startGateway(t, moodyUpstream(fmt.Sprintf("%q", up.url()), strict))
	slow := func(int) string { return "GET /slow HTTP/1.1\r\nHost: h\r\n" }
	if r := g.loadWith(t, 6, 6, slow); r.failed() > 0 {
		t.Fatal(r)
	}
	if n := g.idle(t); n < 4 {
		t.Fatalf("%d idle connections, want some more", n)
	}
	if r := g.load(t, 1, 1); r.failed() > 0 {
		t.Errorf("several idle connections that were closed: %v", r)
	}
	if s := g.targetOf(t, up.address); !isClosed(s) {
		t.Errorf("races count as failures: %+v", s)
	}
}

// A client that leaves, before or within the answer, says nothing about the target.
func TestUpstreamClientLeaves(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 1)
	g := startGateway(t, moodyUpstream(urls, strict))
	m := all[0]
	for i, mood := range []string{silentMood, slowMood, wellMood} {
		m.set(mood)
		for range 20 {
			seen := m.served.Load()
			c := g.dial(t)
			c.send("GET /x HTTP/1.1\r\nHost: h\r\nX-Nonce: 7\r\n\r\n") // a large answer, if any
			eventually(t, "the target has the request", func() bool { return m.served.Load() > seen })
			if i%2 == 0 {
				_ = c.SetLinger(0)
			}
			c.Close()
		}
		// Half a request body, too.
		c := g.dial(t)
		c.send("POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 50000\r\n\r\nhello")
		time.Sleep(10 * time.Millisecond)
		c.Close()
		eventually(t, "no request is left", func() bool { return g.targetOf(t, m.address()).InFlight == 0 })
		if s := g.targetOf(t, m.address()); !isClosed(s) {
			t.Fatalf("%s: the target is blamed: %+v", mood, s)
		}
	}
	if r := g.load(t, 2, 50); r.failed() > 0 {
		t.Error(r)
	}
}

// An answer whose end its client did not wait for says nothing of its target, no good either: failures before and
// after it are failures in a row.
func TestUpstreamClientLeavesSickTarget(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(urls, "balance = \"round_robin\"\n[upstream.a.retry]\nattempts = 1\n"+lenient))
	sick, client := all[0], g.dial(t)
	fail := func(times int) {
		sick.set(resetMood)
		for times > 0 {
			if client.ask("/").status != 200 {
				times--
			}
		}
	}
	fail(4)
	sick.set(trickleMood)
	for before := sick.served.Load(); sick.served.Load() == before; {
		c := g.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		if _, err := c.in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	eventually(t, "no request is left", func() bool { return g.targetOf(t, sick.address()).InFlight == 0 })
	fail(1)
	if s := g.targetOf(t, sick.address()); s.Present {
		t.Errorf("not ejected after five failures in a row: %+v", s)
	}
}

// A reload leaves an upstream that did not change its breakers; one that changed begins anew.
func TestUpstreamReload(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 2)
	before := moodyUpstream(urls, strict)
	g := startGateway(t, before)
	all[0].set(errorMood)
	g.until(t, "the breaker opens", all[0], isOpen)
	served := all[0].served.Load()
	g.reload(t, before+"\n[upstream.other]\ntargets = [\"http://127.0.0.1:1\"]\n"+routeTo("/other", "other", ""))
	if s := g.targetOf(t, all[0].address()); !isOpen(s) || s.Reopens < 1 {
		t.Errorf("after a reload of something else: %+v", s)
	}
	if r := g.load(t, 4, 200); r.failed() > 0 || all[0].served.Load() != served {
		t.Errorf("the open breaker let requests pass: %v", r)
	}
	all[0].set(wellMood)
	g.reload(t, strings.Replace(before, `"1m"`, `"2m"`, 1))
	if s := g.targetOf(t, all[0].address()); !isClosed(s) {
		t.Errorf("after a reload with another breaker: %+v", s)
	}
	if r := g.load(t, 4, 200); r.failed() > 0 || len(r.names) != 2 {
		t.Errorf("after a reload with another breaker: %v", r)
	}
}

// The first try at a single target is followed by a pause of random length: what has just failed needs one.
func TestUpstreamBacksOff(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 1)
	g := startGateway(t, moodyUpstream(urls, lenient))
	all[0].set(closeMood)
	began := time.Now()
	const requests = 40
	if r := g.load(t, 1, requests); r.ended["upstream_reset"] != requests {
		t.Error(r)
	}
	// A pause is 25 ms long on average; that forty add up to less than half of it does not happen.
	if took := time.Since(began); took < requests*12*time.Millisecond {
		t.Errorf("%d requests with two tries each took %v", requests, took)
	}
	if got := all[0].touched.Load(); got != 2*requests {
		t.Errorf("%d connections for %d requests", got, requests)
	}
}

// Clients that leave while a retry of theirs waits give back their part of the budget.
func TestUpstreamClientLeavesBackOff(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 1)
	m := all[0]
	g := startGateway(t, moodyUpstream(urls, lenient))
	m.set(closeMood)
	for range 60 { // a pause is 25 ms on average, and it is looked for clients that left every 100 ms
		before := m.touched.Load()
		c := g.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		c.Close()
		eventually(t, "the request has come, and gone", func() bool {
			return m.touched.Load() > before && g.targetOf(t, m.address()).InFlight == 0
		})
	}
	eventually(t, "a request is tried twice", func() bool {
		before := m.touched.Load()
		g.exchange(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		return m.touched.Load() == before+2
	})
}

// A tunnel may last for days. That it was opened is what a probe has to know.
func TestUpstreamTunnelAsProbe(t *testing.T) {
	t.Parallel()
	var sick atomic.Bool
	url := startRaw(t, func(c *rawConn, done <-chan struct{}) {
		for head := c.head(); head != ""; head = c.head() {
			switch {
			case sick.Load():
				c.write("HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
			case headValue(head, "Upgrade") != "":
				c.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				<-done
				return
			default:
				c.write(answerOK)
			}
		}
	})
	g := startGateway(t, moodyUpstream(fmt.Sprintf("%q", url), `
[upstream.a.breaker]
failure_ratio = 0.01
min_requests = 1
open_for = "200ms"
probes = 1
`))
	sick.Store(true)
	client := g.dial(t)
	if r := client.ask("/"); r.status != 500 {
		t.Fatal(r.line)
	}
	client.ask("/").expectProblem(t, 503, "circuit_open")
	sick.Store(false)
	eventually(t, "a tunnel is let through", func() bool {
		c := g.dial(t)
		return c.ask("/", "Connection: Upgrade", "Upgrade: echo").status == 101
	})
	if r := client.ask("/"); r.status != 200 {
		t.Errorf("a target that opened a tunnel: %s %s", r.line, r.body)
	}
}
