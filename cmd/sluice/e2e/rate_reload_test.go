package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// quotaOf reads what a response says of the limits.
func quotaOf(t testing.TB, r *response) (limit, remaining, reset int) {
	t.Helper()
	for name, to := range map[string]*int{"X-RateLimit-Limit": &limit, "X-RateLimit-Remaining": &remaining, "X-RateLimit-Reset": &reset} {
		n, err := strconv.Atoi(r.fields.get(name))
		if err != nil {
			t.Fatalf("%s: %v in %s %v", name, err, r.line, r.fields)
		}
		*to = n
	}
	return limit, remaining, reset
}

// becomes makes a configuration live.
func (g *gateway) becomes(t testing.TB, text string) {
	t.Helper()
	g.configure(text)
	if status, body := g.postReload(t); status != 200 {
		t.Fatalf("POST /reload: %d %s", status, body)
	}
}

// What a client has used stays used over a reload: as far as the new rule's limit goes, and draining at
// its rate.
func TestRateReload(t *testing.T) {
	t.Parallel()
	up := startCounted(t)
	token := func(rate string, burst int) string { return fmt.Sprintf("rate = %q\nburst = %d", rate, burst) }
	window := func(algorithm, rate string) string { return fmt.Sprintf("algorithm = %q\nrate = %q", algorithm, rate) }
	const year = 8760 * 3600
	for _, c := range []struct {
		intent, before string
		used           int
		after          string
		passes         int // after the reload, at once
		atLeast, most  int // seconds until one more does
	}{
		{"nothing changes", token("1/h", 10), 7, token("1/h", 10), 3, 3590, 3600},
		{"the rate is ten times as high", token("1/h", 10), 10, token("10/h", 10), 0, 350, 360},
		{"the rate is a tenth", token("10/h", 10), 10, token("1/h", 10), 0, 3590, 3600},
		{"the burst is larger", token("1/h", 10), 10, token("1/h", 25), 15, 3590, 3600},
		{"the burst is larger, and something was left", token("1/h", 10), 4, token("1/h", 25), 21, 3590, 3600},
		{"the burst is smaller than what is used", token("1/h", 20), 20, token("1/h", 5), 0, 3590, 3600},
		{"the burst is smaller than what is left", token("1/h", 20), 2, token("1/h", 5), 3, 3590, 3600},
		{"rate and burst", token("1/h", 20), 20, token("60/h", 2), 0, 50, 60},
		{"a cost", token("1/h", 10), 4, token("1/h", 10) + "\ncost = 3", 2, 3 * 3590, 3 * 3600},
		{"a larger window", window("fixed_window", "10/8760h"), 10, window("fixed_window", "15/8760h"), 5, 1, year},
		{"a smaller window", window("fixed_window", "10/8760h"), 7, window("fixed_window", "5/8760h"), 0, 1, year},
		{"a sliding window of another size", window("sliding_window", "10/8760h"), 8, window("sliding_window", "12/8760h"), 4, 1, 2 * year},
		{"another algorithm", token("1/h", 10), 6, window("fixed_window", "10/8760h"), 4, 1, year},
		{"there and back", window("sliding_window", "10/8760h"), 6, token("1/h", 10), 4, 3590, 3600},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, rated(up.URL, limit("one", c.before), "one"))
			client := g.dial(t)
			if n := client.burst(c.used, "/"); n != c.used {
				t.Fatalf("%d passed, want %d", n, c.used)
			}
			g.becomes(t, rated(up.URL, limit("one", c.after), "one")+"# reloaded\n")
			if n := client.burst(c.passes+3, "/"); n != c.passes {
				t.Errorf("after the reload %d passed, want %d", n, c.passes)
			}
			if _, _, reset := quotaOf(t, client.do(plainGet)); reset < c.atLeast || reset > c.most {
				t.Errorf("one more passes after %d seconds, want %d to %d", reset, c.atLeast, c.most)
			}
		})
	}
}

// Rules come and go, and those that stay know nothing of it. A rule that came is in force at once, one
// that went is not, and has forgotten everything when it comes again.
func TestRateReloadRules(t *testing.T) {
	t.Parallel()
	up := startCounted(t)
	stays, other := limit("stays", "rate = \"1/d\"\nburst = 100"), limit("other", "rate = \"1/d\"\nburst = 3")
	g := startGateway(t, rated(up.URL, stays, "stays"))
	c := g.dial(t)
	for round := range 4 {
		if n := c.burst(10, "/"); n != 10 {
			t.Fatalf("round %d: %d passed without the other rule, want 10", round, n)
		}
		g.becomes(t, rated(up.URL, other+stays, "other", "stays"))
		if n := c.burst(10, "/"); n != 3 {
			t.Errorf("round %d: %d passed with the other rule, want 3", round, n)
		}
		g.becomes(t, rated(up.URL, stays+limit(fmt.Sprintf("unused-%d", round), "rate = \"1/d\""), "stays"))
		if strings.Contains(c.do(plainGet).fields.get("RateLimit"), "other") {
			t.Error("a rule that went is still told of")
		}
	}
	limit, remaining, _ := quotaOf(t, c.do(plainGet))
	if used := int(up.requests.Load()); limit != 100 || remaining != 100-used {
		t.Errorf("%d of %d are left after %d requests", remaining, limit, used)
	}
	g.becomes(t, rated(up.URL, strings.Replace(stays, "[[limit]]", "[[limit]]\nmode = \"shadow\"", 1), "stays"))
	if n := c.burst(200, "/"); n != 200 {
		t.Errorf("%d passed a shadow, want all 200", n)
	}
	g.becomes(t, rated(up.URL, stays, "stays"))
	if n := c.burst(10, "/"); n != 0 {
		t.Errorf("%d passed when the shadow became real, want 0: it has counted", n)
	}
}

// A limit that cannot be changes nothing, and is told of with its bound.
func TestRateReloadBad(t *testing.T) {
	t.Parallel()
	up := startCounted(t)
	good := limit("one", "rate = \"1/d\"\nburst = 10")
	g := startGateway(t, rated(up.URL, good, "one"))
	c := g.dial(t)
	c.burst(4, "/")
	for _, bad := range []struct{ rule, key, says string }{
		{"rate = \"0/s\"", "rate", ""},
		{"rate = \"1000000001/s\"", "rate", "1000000000"},
		{"rate = \"1/367d\"", "rate", ""},
		{"rate = \"1/d\"\nburst = 1000000001", "burst", "1000000000"},
		{"rate = \"1/d\"\nburst = 0", "burst", "1"},
		{"rate = \"1/d\"\nburst = 5\ncost = 6", "cost", "5"},
		{"rate = \"1/d\"\ncost = 2", "cost", "1"},
		{"rate = \"1/d\"\nburst = 5\nalgorithm = \"fixed_window\"", "burst", "window"},
		{"rate = \"16777216/d\"\nalgorithm = \"sliding_window\"", "rate", "16777215"},
		{"rate = \"1/d\"\nalgorithm = \"leaky_bucket\"\nmax_wait = \"2h\"", "max_wait", "1h"},
		{"rate = \"10/s\"\ntiers = { gold = \"1000000001/s\" }", "tiers", "1000000000"},
		{"rate = \"1/d\"\nalgorithm = \"bucket\"", "algorithm", ""},
	} {
		g.configure(rated(up.URL, limit("new", "rate = \"1000/s\"")+limit("one", bad.rule), "new", "one"))
		status, body := g.postReload(t)
		if status < 400 || !strings.Contains(body, "limit[1]."+bad.key) || !strings.Contains(body, bad.says) {
			t.Errorf("%s: %d %s", bad.rule, status, body)
		}
		if r := c.do("HEAD /nowhere HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 && r.status != 429 || strings.Contains(r.fields.get("RateLimit"), "new") {
			t.Errorf("%s: %s %v", bad.rule, r.line, r.fields)
		}
	}
	if n := int(up.requests.Load()); n != 10 || c.burst(3, "/") != 0 {
		t.Errorf("%d passed, want 10", n)
	}
}

// However often the configuration changes under load: a rule that stays the same admits exactly what it
// says, and one whose rate changes never more than the higher rate.
func TestRateReloadStorm(t *testing.T) {
	t.Parallel()
	const reloads = 50
	up := startCounted(t)
	text := func(i int) string {
		rules := limit("fixed", "rate = \"1/d\"\nburst = 1500") + limit("moving", fmt.Sprintf("rate = \"%d/s\"\nburst = 30", 300-100*(i%2))) +
			limit(fmt.Sprintf("passing-%d", i%3), fmt.Sprintf("rate = \"%d/s\"", i+1))
		return "[limits]\ncapacity = 4096\n" + rules + toService(up.URL, "", `limits = ["fixed"]`) +
			"[[route]]\nname = \"moving\"\npath = \"/moving\"\nauth = [\"none\"]\nto = \"up\"\nlimits = [\"moving\"]\n"
	}
	g := startGateway(t, text(0))
	var done atomic.Bool
	fixed, moving := 0, 0
	began := time.Now()
	waitFixed := g.startCrowd(t, 16, plainGet, func(r *response) bool {
		if r.status == 200 {
			fixed++
		}
		return !done.Load() || fixed < 1500 && time.Since(began) < patience
	})
	waitMoving := g.startCrowd(t, 16, "GET /moving HTTP/1.1\r\nHost: h\r\n\r\n", func(r *response) bool {
		if r.status == 200 {
			moving++
		}
		return !done.Load()
	})
	for i := range reloads {
		g.becomes(t, text(i+1))
	}
	done.Store(true)
	waitMoving()
	took := time.Since(began).Seconds()
	waitFixed()
	if fixed != 1500 {
		t.Errorf("the rule that stayed admitted %d, want 1500", fixed)
	}
	if most := 30 + 300*took; float64(moving) > most || float64(moving) < 200*(took-1)*0.5 {
		t.Errorf("the rule that changed admitted %d in %.2f s, want at most %.0f", moving, took, most)
	}
	t.Logf("%d reloads in %.2f s; %d admitted by the changing rule", reloads, took, moving)
}
