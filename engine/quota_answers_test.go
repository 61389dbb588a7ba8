package engine

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// quotaNames are all fields that tell of limits.
func quotaNames() []string {
	return []string{"X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit"}
}

func originAnswer(status, fields string) string {
	return "HTTP/1.1 " + status + "\r\n" + fields + "Content-Length: 2\r\n\r\nok"
}

// Whoever makes the answer: if the request was counted, it says so, and if it was not, it does not.
func TestQuotaFieldsByAnswer(t *testing.T) {
	const rule = "rate = \"1/d\"\nburst = 9\nkey = []"
	unreachable := freeAddress(t)
	for _, c := range []struct {
		intent, target string
		line           string
		route          string // more of the route
		status         int
		counted        bool
	}{
		{"the target's 200", rawServer(t, smallAnswer), "GET /a", "", 200, true},
		{"the target's 404", rawServer(t, originAnswer("404 Not Found", "")), "GET /a", "", 404, true},
		{"the target's 500", rawServer(t, originAnswer("500 Internal Server Error", "")), "GET /a", "", 500, true},
		{"an answer without a body", rawServer(t, "HTTP/1.1 204 No Content\r\n\r\n"), "GET /a", "", 204, true},
		{"a chunked answer", rawServer(t, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), "GET /a", "", 200, true},
		{"502: no target listens", unreachable, "GET /a", "", 502, true},
		{"502: the target talks nonsense", rawServer(t, "nonsense\r\n\r\n"), "GET /a", "", 502, true},
		{"no route", rawServer(t, smallAnswer), "GET /b", "", 404, false},
		{"no such method", rawServer(t, smallAnswer), "PUT /a", "", 405, false},
		{"a bad path", rawServer(t, smallAnswer), "GET /a/%zz", "", 400, false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			tables := strings.Replace(limitedRoutes(c.target, limitTable("one", rule), "one"), `"/*"`, `"/a"`, 1)
			tables = strings.Replace(tables, `name = "all"`, "name = \"all\"\nmethods = [\"GET\"]", 1)
			g := startLimited(t, "", tables)
			a := dial(t, g.address).ask(t, c.line).expect(t, c.status)
			for i, name := range quotaNames() {
				want := []string{"9", "8", "86400", `"one";q=9;w=777600`, `"one";r=8;t=86400`}[i]
				if c.counted {
					a.field(t, name, want)
				} else if got, there := a.fields[name]; there || a.fields.Get(name) != "" {
					t.Errorf("not counted, and still %s: %q", name, got)
				}
			}
			if a.fields.Get("Retry-After") != "" {
				t.Errorf("Retry-After %q on what was not refused", a.fields.Get("Retry-After"))
			}
		})
	}
	t.Run("a route without limits", func(t *testing.T) {
		g := startGateway(t, publicRoute(rawServer(t, smallAnswer)))
		a := dial(t, g.address).ask(t, "GET /").expect(t, 200)
		for _, name := range quotaNames() {
			if a.fields.Get(name) != "" {
				t.Errorf("%s: %q", name, a.fields.Get(name))
			}
		}
	})
}

// Each set of fields can be switched off; a refusal has Retry-After in any case.
func TestQuotaFieldsOff(t *testing.T) {
	for _, c := range []struct {
		headers      string
		legacy, ietf bool
	}{{`"x-ratelimit", "ietf"`, true, true}, {`"x-ratelimit"`, true, false}, {`"ietf"`, false, true}, {``, false, false}} {
		t.Run("headers = ["+c.headers+"]", func(t *testing.T) {
			target := rawServer(t, originAnswer("200 OK", "X-RateLimit-Remaining: 77\r\n"))
			tables := limitedRoutes(target, limitTable("one", "rate = \"1/d\"\nburst = 1"), "one") + "[limits]\nheaders = [" + c.headers + "]\n"
			g := startLimited(t, "", tables)
			client := dial(t, g.address)
			for _, status := range []int{200, 429} {
				a := client.ask(t, "GET /").expect(t, status)
				theirs := status == 200 && !c.legacy
				for i, name := range quotaNames() {
					want := i < 3 && c.legacy || i >= 3 && c.ietf || theirs && name == "X-RateLimit-Remaining"
					if got := a.fields.Get(name) != ""; got != want {
						t.Errorf("%d, %s: %q", status, name, a.fields.Get(name))
					}
				}
				if theirs {
					a.field(t, "X-RateLimit-Remaining", "77") // with ours off, the target's pass
				}
				if (a.fields.Get("Retry-After") != "") != (status == 429) {
					t.Errorf("%d: Retry-After %q", status, a.fields.Get("Retry-After"))
				}
			}
		})
	}
}

// Of the target's own X-RateLimit fields and ours, the client gets the set that leaves less, whole.
func TestQuotaFieldsOfTarget(t *testing.T) {
	for _, c := range []struct {
		intent, fields string
		ours           bool
		want           [3]string // if not ours: limit, remaining, reset
	}{
		{"none", "", true, [3]string{}},
		{"less is left", "X-RateLimit-Limit: 50\r\nX-RateLimit-Remaining: 3\r\nX-RateLimit-Reset: 7\r\n", false, [3]string{"50", "3", "7"}},
		{"nothing is left", "x-ratelimit-remaining: 0\r\n", false, [3]string{"", "0", ""}},
		{"as much is left", "X-RateLimit-Limit: 50\r\nX-RateLimit-Remaining: 8\r\nX-RateLimit-Reset: 7\r\n", true, [3]string{}},
		{"more is left", "X-RateLimit-Limit: 50\r\nX-RateLimit-Remaining: 9\r\nX-RateLimit-Reset: 7\r\n", true, [3]string{}},
		{"no number", "X-RateLimit-Limit: 50\r\nX-RateLimit-Remaining: few\r\n", true, [3]string{}},
		{"a negative number", "X-RateLimit-Remaining: -1\r\n", true, [3]string{}},
		{"no number of any size", "X-RateLimit-Remaining: 99999999999999999999\r\n", true, [3]string{}},
		{"a limit without what is left", "X-RateLimit-Limit: 1\r\nX-RateLimit-Reset: 7\r\n", true, [3]string{}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			target := rawServer(t, originAnswer("200 OK", c.fields))
			g := startLimited(t, "", limitedRoutes(target, limitTable("one", "rate = \"1/d\"\nburst = 9"), "one"))
			a := dial(t, g.address).ask(t, "GET /").expect(t, 200)
			want := c.want
			if c.ours {
				want = [3]string{"9", "8", "86400"}
			}
			for i, name := range quotaNames()[:3] {
				if got := a.fields.Values(name); strings.Join(got, "+") != want[i] {
					t.Errorf("%s: %q, want %q", name, got, want[i])
				}
			}
			a.field(t, "RateLimit", `"one";r=8;t=86400`)
		})
	}
}

// A target's own RateLimit fields stay, beside ours: together they are one list.
func TestQuotaListsOfTarget(t *testing.T) {
	target := rawServer(t, originAnswer("200 OK", "RateLimit-Policy: \"theirs\";q=10;w=1\r\nRateLimit: \"theirs\";r=2;t=1\r\n"))
	g := startLimited(t, "", limitedRoutes(target, limitTable("ours", "rate = \"1/d\"\nburst = 9"), "ours"))
	a := dial(t, g.address).ask(t, "GET /").expect(t, 200)
	for _, name := range quotaNames()[3:] {
		var names []string
		for _, q := range quotas(t, a, name) {
			names = append(names, q.name)
		}
		if !slices.Equal(names, []string{"theirs", "ours"}) {
			t.Errorf("%s names %q", name, names)
		}
	}
}

// seeded is a source of numbers that are the same in each run.
func seeded() func() uint64 {
	var mu sync.Mutex
	source := rand.NewPCG(1, 2)
	return func() uint64 {
		mu.Lock()
		defer mu.Unlock()
		return source.Uint64()
	}
}

// retryAfter is a refusal's Retry-After in seconds.
func retryAfter(t testing.TB, a *answer) int {
	t.Helper()
	got := a.fields.Values("Retry-After")
	if len(got) != 1 {
		t.Fatalf("Retry-After: %q", got)
	}
	n, err := strconv.Atoi(got[0])
	if err != nil || n < 1 || strconv.Itoa(n) != got[0] {
		t.Fatalf("Retry-After: %q", got)
	}
	return n
}

// Who waits as long as he was told is admitted, and nobody was told to wait much longer than he has to.
// What the quota fields say is exact: a moment earlier he is still refused.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		intent, rule string
		fill         int // requests that pass
	}{
		{"token bucket", "rate = \"10/h\"\nburst = 3", 3},
		{"token bucket, a cost", "rate = \"10/h\"\nburst = 9\ncost = 4", 2},
		{"token bucket, odd rate", "rate = \"7/d\"\nburst = 2", 2},
		{"fixed window", "algorithm = \"fixed_window\"\nrate = \"3/d\"", 3},
		{"sliding window", "algorithm = \"sliding_window\"\nrate = \"3/d\"", 3},
		{"leaky bucket", "algorithm = \"leaky_bucket\"\nrate = \"2/d\"\nburst = 1\nmax_wait = \"1ms\"", 1},
	} {
		t.Run(c.intent, func(t *testing.T) {
			g := startLimitedWith(t, "", limitedRoutes(rawServer(t, smallAnswer), limitTable("one", c.rule), "one"), seeded())
			client := dial(t, g.address)
			for range c.fill {
				client.ask(t, "GET /").expect(t, 200)
			}
			for round := range 5 {
				waits := map[int]bool{}
				var exact int
				for range 40 {
					a := client.ask(t, "GET /").expect(t, 429)
					var err error
					if exact, err = strconv.Atoi(a.fields.Get("X-RateLimit-Reset")); err != nil {
						t.Fatal(err)
					}
					wait := retryAfter(t, a)
					if wait < exact || wait > exact+exact/10+1 {
						t.Fatalf("Retry-After %d where %d are to be waited", wait, exact)
					}
					if list := quotas(t, a, "RateLimit"); list[0].parameters["t"] != int64(exact) || list[0].parameters["r"] != 0 && c.fill != 2 {
						t.Fatalf("RateLimit %v, want %d seconds", list, exact)
					}
					waits[wait] = true
				}
				if len(waits) < min(20, exact/30) { // 40 of exact/10; a day's window may be about to end
					t.Errorf("40 refusals, and only %d different waits: a herd", len(waits))
				}
				g.pass(time.Duration(exact-2) * time.Second)
				client.ask(t, "GET /").expect(t, 429)
				wait := retryAfter(t, client.ask(t, "GET /").expect(t, 429))
				g.pass(time.Duration(wait) * time.Second)
				client.ask(t, "GET /").expect(t, 200)
				for n := 0; client.ask(t, "GET /").status == 200; n++ {
					if n > c.fill {
						t.Fatalf("round %d: refills without time passing", round)
					}
				}
			}
		})
	}
}

// A short wait is jittered by at most a second, and is never none.
func TestRetryAfterShort(t *testing.T) {
	g := startLimitedWith(t, "", limitedRoutes(rawServer(t, smallAnswer), limitTable("one", "rate = \"20/s\"\nburst = 1"), "one"), seeded())
	client := dial(t, g.address)
	seen := map[int]int{}
	for range 200 {
		if a := client.ask(t, "GET /"); a.status == 429 {
			seen[retryAfter(t, a)]++
		}
	}
	if seen[1] == 0 || seen[2] == 0 || len(seen) != 2 {
		t.Errorf("Retry-After, and how often: %v; want 1 and 2", seen)
	}
}

// When several limits refuse, the longest of their waits is told, and its limit is to blame.
func TestRetryAfterOfSeveral(t *testing.T) {
	rules := limitTable("minute", "rate = \"1/min\"\nburst = 1") + limitTable("hour", "rate = \"1/h\"\nburst = 1") +
		limitTable("second", "rate = \"1/s\"\nburst = 1") + limitTable("shadow", "rate = \"1/d\"\nburst = 1\nmode = \"shadow\"")
	for _, order := range [][]string{
		{"minute", "hour", "second", "shadow"}, {"shadow", "hour", "minute", "second"}, {"second", "minute", "hour"},
	} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, order...))
			client := dial(t, g.address)
			client.ask(t, "GET /").expect(t, 200)
			a := client.ask(t, "GET /").expect(t, 429)
			if wait := retryAfter(t, a); wait < 3599 || wait > 3961 || problemOf(t, a).Limit != "hour" {
				t.Errorf("Retry-After %d: %s", wait, a.body)
			}
			a.field(t, "X-RateLimit-Reset", "3600")
			g.pass(time.Hour)
			client.ask(t, "GET /").expect(t, 200)
		})
	}
}
