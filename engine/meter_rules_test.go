package engine

import (
	"encoding/json"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Many clients at once get exactly what the rule allows, whichever way it counts; of several rules, those
// that would have admitted a refused request lose nothing by it.
func TestCrowd(t *testing.T) {
	const clients, requests, allowed = 32, 20, 40
	target := rawServer(t, smallAnswer)
	for _, c := range []struct{ intent, algorithm string }{
		{"token bucket", "algorithm = \"token_bucket\"\nrate = \"1/d\"\nburst = 40"},
		{"fixed window", "algorithm = \"fixed_window\"\nrate = \"40/8760h\""},
		{"sliding window", "algorithm = \"sliding_window\"\nrate = \"40/8760h\""},
	} {
		for _, guard := range []string{"false", "true"} {
			t.Run(c.intent+", the larger one a guard: "+guard, func(t *testing.T) {
				rules := limitTable("small", c.algorithm+"\nkey = []") +
					limitTable("large", strings.ReplaceAll(c.algorithm, "40", "1000")+"\nkey = []\nbefore_auth = "+guard)
				g := startLimited(t, "", limitedRoutes(target, rules, "small", "large"))
				seen := map[int]int{}
				g.crowd(t, clients, requests, func(_ int, a *answer) { seen[a.status]++ })
				if seen[200] != allowed || seen[200]+seen[429] != clients*requests {
					t.Errorf("statuses %v, want %d times 200 and else 429", seen, allowed)
				}
				if left := g.bucket(t, "large").Remaining; left != 1000-allowed {
					t.Errorf("%d are left of the larger limit, want %d", left, 1000-allowed)
				}
			})
		}
	}
}

// Under a crowd, too, a refusal names the limit that refused, and the wait is that limit's.
func TestCrowdBlame(t *testing.T) {
	rules := limitTable("patient", "algorithm = \"fixed_window\"\nrate = \"1000000/8760h\"\nkey = []") +
		limitTable("quick", "rate = \"1000/s\"\nburst = 1\nkey = []")
	g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, "patient", "quick"))
	wrong, refused, admitted := 0, 0, 0
	g.crowd(t, 32, 100, func(_ int, a *answer) {
		if a.status != 429 {
			admitted++
			return
		}
		refused++
		if wait, err := strconv.Atoi(a.fields.Get("Retry-After")); problemOf(t, a).Limit != "quick" || err != nil || wait > 2 {
			if wrong++; wrong <= 3 {
				t.Errorf("refused with Retry-After %q by %s", a.fields.Get("Retry-After"), a.body)
			}
		}
	})
	if refused == 0 || admitted == 0 {
		t.Errorf("%d refused and %d admitted: nothing was shown", refused, admitted)
	}
	if wrong > 0 {
		t.Errorf("%d of %d refusals are put down to a limit that had room", wrong, refused)
	}
	if used := 1000000 - g.bucket(t, "patient").Remaining; used != int64(admitted) {
		t.Errorf("%d counted, %d admitted", used, admitted)
	}
}

// problem is the body of an answer that the gateway made itself.
type problem struct {
	Type      string `json:"type"`
	Title     string `json:"title"`
	Status    int    `json:"status"`
	Detail    string `json:"detail"`
	Reason    string `json:"reason"`
	Limit     string `json:"limit"`
	RequestID string `json:"request_id"`
}

func problemOf(t testing.TB, a *answer) (p problem) {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(a.body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&p); err != nil || a.fields.Get("Content-Type") != "application/problem+json" {
		t.Errorf("not a problem: %v\n%v %s", err, a.fields, a.body)
	}
	return p
}

// A refusal tells its reason, its limit, and nothing of how it was made.
func TestRefusalBody(t *testing.T) {
	rule := limitTable("per-client", "rate = \"1/d\"\nburst = 1")
	g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rule, "per-client"))
	client := dial(t, g.address)
	client.ask(t, "GET /").expect(t, 200)
	a := client.ask(t, "GET /").expect(t, 429)
	p := problemOf(t, a)
	if p.Type != "about:blank" || p.Title != "Too Many Requests" || p.Status != 429 || p.Detail == "" || p.Reason != "rate_limited" ||
		p.Limit != "per-client" || p.RequestID == "" || p.RequestID != a.fields.Get("X-Request-ID") {
		t.Errorf("the problem is %+v, the request id %q", p, a.fields.Get("X-Request-ID"))
	}
	if a.fields.Get("Cache-Control") != "no-store" {
		t.Errorf("a refusal may be cached: %q", a.fields.Get("Cache-Control"))
	}
	if head := client.ask(t, "HEAD /").expect(t, 429); head.body != "" || head.fields.Get("Retry-After") == "" {
		t.Errorf("HEAD: %v %q", head.fields, head.body)
	}
	client.ask(t, "GET /").expect(t, 429) // the connection goes on
}

// What a guard took is given back when a limit behind it refuses: the guard's own client has lost nothing.
func TestGuardGetsBack(t *testing.T) {
	for _, c := range []struct{ intent, guard string }{
		{"token bucket", "rate = \"1/d\"\nburst = 100\nkey = []\n"},
		{"fixed window", "algorithm = \"fixed_window\"\nrate = \"100/8760h\"\nkey = []\n"},
		{"sliding window", "algorithm = \"sliding_window\"\nrate = \"100/8760h\"\nkey = []\n"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			rules := limitTable("guard", c.guard+"before_auth = true") + limitTable("limit", "rate = \"1/min\"\nburst = 1\nkey = []")
			g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, "limit", "guard"))
			client := dial(t, g.address)
			client.ask(t, "GET /").expect(t, 200)
			for range 20 {
				a := client.ask(t, "GET /").expect(t, 429)
				if p := problemOf(t, a); p.Limit != "limit" {
					t.Fatalf("refused by %q, want the limit", p.Limit)
				}
				if wait, err := strconv.Atoi(a.fields.Get("Retry-After")); err != nil || wait < 59 || wait > 67 {
					t.Fatalf("Retry-After %q, want that of the limit: a minute, or a tenth more", a.fields.Get("Retry-After"))
				}
				if list := quotas(t, a, "RateLimit"); len(list) != 2 || list[0].name != "guard" || list[0].parameters["r"] != 99 || list[0].parameters["t"] < 86000 {
					t.Fatalf("RateLimit %v: the guard has what it had", list)
				}
			}
			if left := g.bucket(t, "guard").Remaining; left != 99 {
				t.Errorf("%d are left of the guard, want 99", left)
			}
			g.pass(time.Minute)
			client.ask(t, "GET /").expect(t, 200)
		})
	}
}

// Guards are asked first: a request that a guard refuses costs no limit anything.
func TestGuardRefuses(t *testing.T) {
	rules := limitTable("limit", "rate = \"1/d\"\nburst = 100\nkey = []") +
		limitTable("guard", "rate = \"1/d\"\nburst = 3\nkey = [\"ip\"]\nbefore_auth = true")
	g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, "limit", "guard"))
	client := dial(t, g.address)
	for range 3 {
		client.ask(t, "GET /").expect(t, 200)
	}
	for range 10 {
		a := client.ask(t, "GET /").expect(t, 429)
		if got := a.fields.Get("RateLimit"); !strings.HasPrefix(got, `"guard";r=0;`) || strings.Contains(got, `"limit"`) {
			t.Fatalf("RateLimit %q, want of the guard alone", got)
		}
	}
	if left := g.bucket(t, "limit").Remaining; left != 97 {
		t.Errorf("%d are left of the limit, want 97", left)
	}
}

// A shadow counts what it would have refused, and nobody notices; it takes nothing when another refuses.
func TestShadow(t *testing.T) {
	rules := limitTable("real", "rate = \"1/d\"\nburst = 5\nkey = []") + limitTable("shadow", "rate = \"1/d\"\nburst = 2\nkey = []\nmode = \"shadow\"")
	for _, order := range [][]string{{"real", "shadow"}, {"shadow", "real"}} {
		g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, order...))
		client := dial(t, g.address)
		for i := range 8 {
			want := 200
			if i >= 5 {
				want = 429
			}
			a := client.ask(t, "GET /").expect(t, want)
			if a.fields.Get("X-RateLimit-Limit") != "5" || strings.Contains(a.fields.Get("RateLimit")+a.fields.Get("RateLimit-Policy"), "shadow") {
				t.Errorf("a shadow shows itself: %v", a.fields)
			}
		}
		meters := g.snapshot.Load().meters
		if n := meters["shadow"].counts.shadowed.Load(); n != 3 {
			t.Errorf("%d would have been refused, want 3: those that the other limit admitted", n)
		}
		if r, s := meters["real"].counts.refused.Load(), meters["shadow"].counts.refused.Load(); r != 3 || s != 0 {
			t.Errorf("%d and %d refused, want 3 and 0", r, s)
		}
	}
	t.Run("alone", func(t *testing.T) {
		g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, "shadow"))
		client := dial(t, g.address)
		for range 5 {
			if a := client.ask(t, "GET /").expect(t, 200); a.fields.Get("RateLimit") != "" || a.fields.Get("X-RateLimit-Limit") != "" {
				t.Errorf("a shadow shows itself: %v", a.fields)
			}
		}
		if n := g.snapshot.Load().meters["shadow"].counts.shadowed.Load(); n != 3 {
			t.Errorf("%d would have been refused, want 3", n)
		}
	})
}

// A shadow of a queue lets nobody wait, and counts those for whom it would have been too long.
func TestShadowQueue(t *testing.T) {
	rule := limitTable("shadow", "algorithm = \"leaky_bucket\"\nrate = \"6/h\"\nburst = 2\nmax_wait = \"1h\"\nmode = \"shadow\"")
	g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rule, "shadow"))
	client := dial(t, g.address)
	for range 5 {
		client.ask(t, "GET /").expect(t, 200)
	}
	if n := g.snapshot.Load().meters["shadow"].counts.shadowed.Load(); n != 2 {
		t.Errorf("%d would have been refused, want 2: one leaves, two wait", n)
	}
}

// Clients of a hidden limit learn neither its name nor its numbers, only how long to wait.
func TestHidden(t *testing.T) {
	rules := limitTable("secret", "rate = \"1/d\"\nburst = 2\nkey = []\nhidden = true") + limitTable("open", "rate = \"1/d\"\nburst = 100\nkey = []")
	for _, c := range []struct {
		intent string
		limits []string
	}{{"alone", []string{"secret"}}, {"beside another", []string{"secret", "open"}}} {
		t.Run(c.intent, func(t *testing.T) {
			g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, c.limits...))
			client := dial(t, g.address)
			for i := range 4 {
				a := client.ask(t, "GET /")
				if (a.status == 429) != (i >= 2) {
					t.Errorf("request %d: status %d", i, a.status)
				}
				told := a.body + a.fields.Get("RateLimit") + a.fields.Get("RateLimit-Policy")
				if limit := a.fields.Get("X-RateLimit-Limit"); strings.Contains(told, "secret") || len(c.limits) == 1 && limit+told != a.body || len(c.limits) == 2 && limit != "100" {
					t.Errorf("a hidden limit shows: %v %s", a.fields, a.body)
				}
				if a.status == 429 && a.fields.Get("Retry-After") == "" {
					t.Error("a refusal without Retry-After")
				}
				if a.status == 429 && len(c.limits) == 2 && a.fields.Get("X-RateLimit-Remaining") != "98" {
					t.Errorf("the other limit stands at %s, want 98", a.fields.Get("X-RateLimit-Remaining"))
				}
			}
		})
	}
}

// Calling on while refused does not put off the moment of readmission.
func TestHammering(t *testing.T) {
	for _, c := range []struct {
		intent, rule string
		wait         time.Duration // after which a request passes again
	}{
		{"token bucket", "rate = \"1/h\"\nburst = 1", time.Hour},
		{"sliding window", "algorithm = \"sliding_window\"\nrate = \"1/h\"", 2 * time.Hour},
		{"fixed window", "algorithm = \"fixed_window\"\nrate = \"1/h\"", time.Hour},
		{"leaky bucket", "algorithm = \"leaky_bucket\"\nrate = \"1/h\"\nburst = 1\nmax_wait = \"1ms\"", time.Hour},
	} {
		t.Run(c.intent, func(t *testing.T) {
			g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), limitTable("one", c.rule), "one"))
			client := dial(t, g.address)
			client.ask(t, "GET /").expect(t, 200)
			reset, err := strconv.Atoi(client.ask(t, "GET /").expect(t, 429).fields.Get("X-RateLimit-Reset"))
			if err != nil || time.Duration(reset)*time.Second > c.wait {
				t.Fatalf("X-RateLimit-Reset %d, %v; want at most %v", reset, err, c.wait)
			}
			const steps = 50
			wait := time.Duration(reset) * time.Second
			for i := range steps {
				g.pass(wait / steps)
				if i < steps-1 {
					client.ask(t, "GET /").expect(t, 429)
				}
			}
			g.pass(time.Duration(steps)) // what the division lost
			client.ask(t, "GET /").expect(t, 200)
		})
	}
}
