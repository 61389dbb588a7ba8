package e2e

import (
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// rated is the configuration of one public route to url with the limits named; tables are those limits,
// and what else there is.
func rated(url, tables string, names ...string) string {
	return tables + toService(url, "", fmt.Sprintf(`limits = ["%s"]`, strings.Join(names, `", "`)))
}

// limit is a [[limit]] with one bucket for all.
func limit(name, rest string) string {
	return fmt.Sprintf("[[limit]]\nname = %q\nkey = []\n%s\n", name, rest)
}

// counted is an upstream that counts what it is asked.
type counted struct {
	*service
	requests atomic.Int64
}

func startCounted(t testing.TB) *counted {
	t.Helper()
	u := &counted{}
	u.service = startService(t, func(http.ResponseWriter, *http.Request) { u.requests.Add(1) })
	return u
}

const plainGet = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// crowd has clients on connections of their own send requests, one after the other, all at once, and hands
// each answer to see, one at a time. A client ends when see says so.
func (g *gateway) crowd(t testing.TB, clients int, raw string, see func(r *response) (more bool)) {
	t.Helper()
	g.startCrowd(t, clients, raw, see)()
}

// startCrowd does not wait for the end of the crowd: wait does.
func (g *gateway) startCrowd(t testing.TB, clients int, raw string, see func(r *response) (more bool)) (wait func()) {
	t.Helper()
	var mu sync.Mutex
	var running sync.WaitGroup
	begin := make(chan struct{})
	for i := range clients {
		c := g.dial(t)
		running.Go(func() {
			<-begin
			for more := true; more; {
				c.send(raw)
				r, err := readResponse(c.in, "GET")
				if err != nil || r.cut != nil {
					t.Errorf("client %d: %v", i, err)
					return
				}
				mu.Lock()
				more = see(r)
				mu.Unlock()
			}
		})
	}
	close(begin)
	return running.Wait
}

// Many clients at once get exactly the allowed number of answers, and the upstream gets as many requests.
func TestRateCrowd(t *testing.T) {
	t.Parallel()
	const clients, requests, allowed = 64, 64 * 15, 300
	for _, c := range []struct{ intent, rule string }{
		{"token bucket", "rate = \"1/d\"\nburst = 300"},
		{"token bucket with a cost", "rate = \"1/d\"\nburst = 2105\ncost = 7"},
		{"fixed window", "algorithm = \"fixed_window\"\nrate = \"300/8760h\""},
		{"sliding window", "algorithm = \"sliding_window\"\nrate = \"300/8760h\""},
		{"leaky bucket, nobody waits", "algorithm = \"leaky_bucket\"\nrate = \"1/d\"\nmax_wait = \"0s\""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			up := startCounted(t)
			g := startGateway(t, rated(up.URL, limit("one", c.rule), "one"))
			want := allowed
			if strings.Contains(c.rule, "leaky") {
				want = 1
			}
			seen, left := map[int]int{}, requests
			remaining := map[string]bool{}
			g.crowd(t, clients, plainGet, func(r *response) bool {
				seen[r.status]++
				if r.status == 200 {
					remaining[r.fields.get("X-RateLimit-Remaining")] = true
				}
				left--
				return left >= clients
			})
			if seen[200] != want || len(seen) != 2 || seen[429] == 0 {
				t.Errorf("statuses %v, want %d times 200 and else 429", seen, want)
			}
			if n := up.requests.Load(); n != int64(want) {
				t.Errorf("the upstream got %d requests, want %d", n, want)
			}
			// A request that was read before, and decided after, another one reckons with a clock that lags: it is told
			// one less than is left, which the next one is told too.
			if len(remaining) > want || len(remaining) < want-want/10 {
				t.Errorf("%d admitted requests were told %d different things of what is left", want, len(remaining))
			}
		})
	}
}

// With time going by, no more is admitted than the burst and what the rate grants, and not much less.
func TestRateCrowdInTime(t *testing.T) {
	t.Parallel()
	up := startCounted(t)
	g := startGateway(t, rated(up.URL, limit("one", "rate = \"150/s\"\nburst = 40"), "one"))
	admitted := 0
	began := time.Now()
	g.crowd(t, 32, plainGet, func(r *response) bool {
		if r.status == 200 {
			admitted++
		}
		return time.Since(began) < 1500*time.Millisecond
	})
	took := time.Since(began).Seconds()
	if most := 40 + 150*took; float64(admitted) > most || float64(admitted) < 40+150*(took-1)*0.7 {
		t.Errorf("%d admitted in %.2f s, want about %.0f", admitted, took, most)
	}
}

// Several limits are all or nothing: what one refuses costs the others nothing, however many ask at once.
func TestRateAllOrNothing(t *testing.T) {
	t.Parallel()
	up := startCounted(t)
	rules := limit("wide", "rate = \"1/d\"\nburst = 5000") + limit("narrow", "rate = \"1/d\"\nburst = 100") +
		limit("guard", "rate = \"1/d\"\nburst = 5000\nbefore_auth = true")
	text := rules + toService(up.URL, "", `limits = ["wide", "narrow", "guard"]`) +
		"[[route]]\nname = \"free\"\npath = \"/free\"\nauth = [\"none\"]\nto = \"up\"\nlimits = [\"wide\", \"guard\"]\n"
	g := startGateway(t, text)
	left, blamed := 2000, 0
	g.crowd(t, 64, plainGet, func(r *response) bool {
		if r.status == 429 && !strings.Contains(r.body, `"limit":"narrow"`) {
			blamed++
		}
		left--
		return left >= 64
	})
	if blamed > 0 {
		t.Errorf("%d refusals name a limit that had room", blamed)
	}
	if n := up.requests.Load(); n != 100 {
		t.Errorf("the upstream got %d requests, want 100", n)
	}
	_, r := g.exchange(t, "GET /free HTTP/1.1\r\nHost: h\r\n\r\n")
	const want = `"guard";r=4899;t=`
	if got := r.fields.get("RateLimit"); !strings.HasPrefix(got, want) || !strings.Contains(got, `"wide";r=4899;t=`) {
		t.Errorf("RateLimit: %s; want 4899 of both left: 101 of the requests were carried out", got)
	}
}

// burst sends n requests on one connection and counts those that pass.
func (c *client) burst(n int, path string) (passed int) {
	c.t.Helper()
	for range n {
		switch r := c.do("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"); r.status {
		case 200:
			passed++
		case 429:
		default:
			c.t.Fatalf("%s: %s", path, r.line)
		}
	}
	return passed
}

// Around the border of two fixed windows twice the limit passes in a moment. A sliding window lets pass
// only what has slid out of it.
func TestRateWindowBorder(t *testing.T) {
	t.Parallel()
	const window, tokens = 2 * time.Second, 20
	up := startCounted(t)
	text := limit("fixed", "algorithm = \"fixed_window\"\nrate = \"20/2s\"") + limit("sliding", "algorithm = \"sliding_window\"\nrate = \"20/2s\"") +
		toService(up.URL, "", `limits = ["fixed"]`) +
		"[[route]]\nname = \"sliding\"\npath = \"/sliding\"\nauth = [\"none\"]\nto = \"up\"\nlimits = [\"sliding\"]\n"
	g := startGateway(t, text)
	c := g.dial(t)
	for attempt := range time.Duration(5) {
		now := time.Now()
		border := now.Truncate(window).Add(window * min(attempt+2, 3)) // with nothing left of the attempt before
		time.Sleep(border.Add(-600 * time.Millisecond).Sub(now))
		began := time.Now()
		beforeFixed, beforeSliding := c.burst(tokens+5, "/fixed"), c.burst(tokens+5, "/sliding")
		if !time.Now().Before(border) {
			continue // too slow to be done before the border
		}
		time.Sleep(time.Until(border.Add(time.Millisecond)))
		afterFixed, afterSliding := c.burst(tokens+5, "/fixed"), c.burst(tokens+5, "/sliding")
		after := time.Since(border)
		if after >= window {
			continue
		}
		if beforeFixed != tokens || beforeSliding != tokens || afterFixed != tokens {
			t.Errorf("passed before the border %d and %d, after it %d of the fixed window; want %d", beforeFixed, beforeSliding, afterFixed, tokens)
		}
		if most := int(math.Ceil(tokens * after.Seconds() / window.Seconds())); afterSliding > most {
			t.Errorf("the sliding window let %d pass within %v after the border, want at most %d", afterSliding, after, most)
		}
		t.Logf("within %v: %d through the fixed window, %d through the sliding one", time.Since(began), beforeFixed+afterFixed, beforeSliding+afterSliding)
		return
	}
	t.Error("this machine is too slow to send 100 requests in a moment")
}

// A client that waits as long as it was told is admitted, on a real clock.
func TestRateRetryAfter(t *testing.T) {
	t.Parallel()
	up := startCounted(t)
	for _, rule := range []string{
		"rate = \"1/s\"\nburst = 1", "algorithm = \"fixed_window\"\nrate = \"1/s\"", "algorithm = \"sliding_window\"\nrate = \"2/s\"",
		"algorithm = \"leaky_bucket\"\nrate = \"1/s\"\nburst = 1\nmax_wait = \"0s\"",
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, rated(up.URL, limit("one", rule), "one"))
			c := g.dial(t)
			r := c.do(plainGet)
			for n := 0; r.status == 200 && n < 1000; n++ {
				r = c.do(plainGet)
			}
			wait, err := strconv.Atoi(r.fields.get("Retry-After"))
			if r.status != 429 || err != nil || wait < 1 || wait > 3 {
				t.Fatalf("%s, Retry-After %q", r.line, r.fields.get("Retry-After"))
			}
			time.Sleep(time.Duration(wait) * time.Second)
			if r := c.do(plainGet); r.status != 200 {
				t.Errorf("after Retry-After %d: %s %v", wait, r.line, r.fields)
			}
		})
	}
}

// Clients are told apart by where they come from, not by what they say.
func TestRateByAddress(t *testing.T) {
	t.Parallel()
	up := startCounted(t)
	text := rated(up.URL, "[[limit]]\nname = \"one\"\nkey = [\"ip\"]\nrate = \"1/d\"\nburst = 3\nbefore_auth = true\n", "one")
	g := startGateway(t, text)
	for _, address := range []string{"127.0.0.1", "127.9.9.9"} {
		passed := 0
		for i := range 9 { // each on a connection of its own
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}, Timeout: patience}
			s, err := d.Dial("tcp", g.address)
			if err != nil {
				t.Fatal(err)
			}
			_ = s.SetDeadline(time.Now().Add(patience))
			_, _ = fmt.Fprintf(s, "GET / HTTP/1.1\r\nHost: h\r\nX-Forwarded-For: 10.0.0.%d\r\nX-Real-IP: 10.0.0.%d\r\nConnection: close\r\n\r\n", i, i)
			text, err := io.ReadAll(s)
			s.Close()
			if err != nil {
				t.Fatal(err)
			}
			if strings.HasPrefix(string(text), "HTTP/1.1 200 ") {
				passed++
			}
		}
		if passed != 3 {
			t.Errorf("%d requests from %s passed, want 3", passed, address)
		}
	}
}

// An upgrade is a request as any other: it is counted, says so, and is refused in time.
func TestRateUpgrade(t *testing.T) {
	t.Parallel()
	up := startLongLived(t)
	g := startGateway(t, rated(up.URL, limit("one", "rate = \"1/d\"\nburst = 1"), "one"))
	const upgrade = "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"
	first := g.dial(t)
	first.send(upgrade)
	if r := first.receive("GET"); r.status != 101 || r.fields.get("RateLimit") != `"one";r=0;t=86400` {
		t.Errorf("%s %v", r.line, r.fields)
	}
	first.expectEcho("on")
	if _, r := g.exchange(t, upgrade); r.status != 429 || r.fields.get("Retry-After") == "" {
		t.Errorf("the second: %s %v", r.line, r.fields)
	}
	first.expectEcho("and on")
}
