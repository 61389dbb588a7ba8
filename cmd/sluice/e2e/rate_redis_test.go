package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// fleet is two gateways with limits in one Redis, and an upstream.
type fleet struct {
	t     testing.TB
	redis *redisServer
	up    *counted
	both  [2]*gateway
}

// startFleet starts them with one limit, "shared", in Redis. The timeout is long for the race detector's sake.
func startFleet(t testing.TB, timeout, rule string) *fleet {
	t.Helper()
	f := &fleet{t: t, redis: newRedis(t), up: startCounted(t)}
	f.redis.start()
	for i := range f.both {
		f.both[i] = startGateway(t, f.tables(timeout, rule))
	}
	return f
}

func (f *fleet) tables(timeout, rule string) string {
	return fmt.Sprintf("[redis]\nurl = \"redis://%s\"\ntimeout = %q\n", f.redis.address, timeout) +
		rated(f.up.URL, limit("shared", "scope = \"redis\"\n"+rule), "shared")
}

// flood has clients of both gateways ask until they have had so many answers in all, and counts those by status.
// Meanwhile, it does what else is wanted.
func (f *fleet) flood(clients, answers int, meanwhile func()) map[int]int {
	f.t.Helper()
	var mu sync.Mutex
	seen := map[int]int{}
	see := func(r *response) bool {
		mu.Lock()
		defer mu.Unlock()
		seen[r.status]++
		answers--
		return answers >= 2*clients
	}
	waits := []func(){}
	for _, g := range f.both {
		waits = append(waits, g.startCrowd(f.t, clients, plainGet, see))
	}
	meanwhile()
	for _, wait := range waits {
		wait()
	}
	return seen
}

// store is what /status tells of the limits' store.
type store struct {
	Up                                            bool
	Asked, Recalled, Failed, Late, Returned, Lost int
}

func (g *gateway) limitStore(t testing.TB) store {
	t.Helper()
	r, err := http.Get("http://" + g.admin + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var status struct {
		LimitStore store `json:"limit_store"`
	}
	if err := json.NewDecoder(r.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	return status.LimitStore
}

// Two gateways and 64 clients: exactly as many requests pass as one limit allows, whatever the algorithm, and while
// Redis forgets its scripts again and again. Most of the others do not cost Redis a question.
func TestRateRedisExact(t *testing.T) {
	t.Parallel()
	const clients, answers, allowed = 32, 64 * 15, 300
	for _, c := range []struct{ intent, rule string }{
		{"token bucket", "rate = \"1/d\"\nburst = 300"},
		{"token bucket with a cost", "rate = \"1/d\"\nburst = 2105\ncost = 7"},
		{"fixed window", "algorithm = \"fixed_window\"\nrate = \"300/8760h\""},
		{"sliding window", "algorithm = \"sliding_window\"\nrate = \"300/8760h\""},
		{"leaky bucket, nobody waits", "algorithm = \"leaky_bucket\"\nrate = \"1/d\"\nmax_wait = \"0s\""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			f := startFleet(t, "10s", c.rule)
			want := allowed
			if strings.Contains(c.rule, "leaky") {
				want = 1
			}
			seen := f.flood(clients, answers, func() {
				for range 20 {
					f.redis.do("SCRIPT", "FLUSH")
					time.Sleep(5 * time.Millisecond)
				}
			})
			if seen[200] != want || len(seen) != 2 || seen[429] == 0 {
				t.Errorf("statuses %v, want %d times 200 and else 429", seen, want)
			}
			if n := f.up.requests.Load(); n != int64(want) {
				t.Errorf("the upstream got %d requests, want %d", n, want)
			}
			for i, g := range f.both {
				if s := g.limitStore(t); !s.Up || s.Failed != 0 || s.Recalled == 0 {
					t.Errorf("gateway %d: %+v", i, s)
				}
			}
		})
	}
}

// A client is told the same by both gateways, and who waits for as long as it is told passes.
func TestRateRedisHeaders(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "10s", "rate = \"1/2s\"\nburst = 3")
	clients := []*client{f.both[0].dial(t), f.both[1].dial(t)}
	for i := range 3 {
		r := clients[i%2].do(plainGet)
		if r.status != 200 || r.fields.get("X-RateLimit-Limit") != "3" || r.fields.get("X-RateLimit-Remaining") != strconv.Itoa(2-i) {
			t.Errorf("request %d: %s %v", i, r.line, r.fields)
		}
		if policy := r.fields.get("RateLimit-Policy"); policy != `"shared";q=3;w=6` {
			t.Errorf("RateLimit-Policy: %q", policy)
		}
	}
	for _, c := range clients {
		r := c.do(plainGet)
		if wait, err := strconv.Atoi(r.fields.get("Retry-After")); r.status != 429 || err != nil || wait < 1 || wait > 4 {
			t.Errorf("%s, Retry-After: %q", r.line, r.fields.get("Retry-After"))
		}
	}
	refused := clients[0].do(plainGet)
	wait, _ := strconv.Atoi(refused.fields.get("Retry-After"))
	time.Sleep(time.Duration(wait) * time.Second)
	if r := clients[0].do(plainGet); r.status != 200 {
		t.Errorf("after the wait: %s", r.line)
	}
}

// Requests leave a shared leaky bucket evenly, by whichever gateway they came.
func TestRateRedisQueue(t *testing.T) {
	t.Parallel()
	const n, pace = 8, 125 * time.Millisecond
	up := startDepartures(t)
	redis := newRedis(t)
	redis.start()
	rule := limit("queue", "scope = \"redis\"\nalgorithm = \"leaky_bucket\"\nrate = \"8/s\"\nburst = 7\nmax_wait = \"10s\"")
	text := fmt.Sprintf("[redis]\nurl = \"redis://%s\"\ntimeout = \"10s\"\n", redis.address) + rated(up.URL, rule, "queue")
	both := []*gateway{startGateway(t, text), startGateway(t, text)}
	clients := []*client{}
	began := time.Now()
	for i := range n {
		c := both[i%2].dial(t)
		c.send(plainGet)
		clients = append(clients, c)
	}
	for i, c := range clients {
		if r := c.receive("GET"); r.status != 200 {
			t.Errorf("request %d: %s", i, r.line)
		}
	}
	_, times := up.seen()
	slices.SortFunc(times, time.Time.Compare)
	// A busy machine may hold up any of them, but none leaves before its turn.
	for i, left := range times {
		if took, least := left.Sub(began), time.Duration(i)*pace; took < least-pace/10 {
			t.Errorf("%d requests left within %v, want %v", i+1, took, least)
		}
	}
}

// While Redis is away, each limit does what it says: it is kept by each gateway, lifted, or nobody passes. When Redis is
// back, it decides again, and knows what was used before. Nobody waits for it meanwhile, and the log says it once.
func TestRateRedisAway(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy, reason string
		status         int
		most           int // that pass each gateway while Redis is away; -1: all
	}{
		{"local", "rate_limited", 429, 5},
		{"allow", "", 200, -1},
		{"deny", "limit_store_unavailable", 503, 0},
	} {
		for _, how := range []string{"killed", "paused"} {
			t.Run(c.policy+", "+how, func(t *testing.T) {
				t.Parallel()
				f := startFleet(t, "400ms", "rate = \"1/d\"\nburst = 5\non_store_error = \""+c.policy+"\"")
				client := f.both[0].dial(t)
				for range 2 {
					if r := client.do(plainGet); r.status != 200 {
						t.Fatalf("before: %s", r.line)
					}
				}
				f.leave(how)
				for i, g := range f.both {
					f.without(g, i, c.status, c.most, c.reason)
				}
				f.comeBack(how)
				for _, g := range f.both {
					c := g.dial(t)
					eventually(t, "Redis decides again", func() bool {
						c.do(plainGet)
						return g.limitStore(t).Up
					})
				}
				if how == "killed" {
					f.expectSpent()
				}
				for i, g := range f.both {
					if n := strings.Count(g.log.String(), "Redis does not decide on limits"); n < 1 || n > 3 {
						t.Errorf("gateway %d says %d times that Redis does not decide", i, n)
					}
				}
			})
		}
	}
}

func (f *fleet) leave(how string) {
	if how == "killed" {
		f.redis.kill()
	} else {
		_ = f.redis.command.Process.Signal(syscall.SIGSTOP)
	}
}

func (f *fleet) comeBack(how string) {
	if how == "killed" {
		f.redis.start()
	} else {
		_ = f.redis.command.Process.Signal(syscall.SIGCONT)
	}
}

// without asks a gateway whose Redis is away.
func (f *fleet) without(g *gateway, number, status, most int, reason string) {
	f.t.Helper()
	passed, slow := 0, 0
	c := g.dial(f.t)
	for range 100 {
		began := time.Now()
		r := c.do(plainGet)
		if time.Since(began) >= 400*time.Millisecond {
			slow++
		}
		switch {
		case r.status == 200:
			passed++
		case r.status != status:
			f.t.Fatalf("gateway %d: %s", number, r.line)
		default:
			if !strings.Contains(r.body, reason) {
				f.t.Fatalf("gateway %d: %s", number, r.body)
			}
			if wait, err := strconv.Atoi(r.fields.get("Retry-After")); err != nil || wait < 1 {
				f.t.Errorf("Retry-After: %q", r.fields.get("Retry-After"))
			}
		}
	}
	if most < 0 && passed != 100 || most >= 0 && passed > most {
		f.t.Errorf("gateway %d: %d of 100 passed, want %d", number, passed, most)
	}
	if slow > 20 {
		f.t.Errorf("gateway %d: %d of 100 requests waited for the timeout", number, slow)
	}
	if g.limitStore(f.t).Up {
		f.t.Errorf("gateway %d takes Redis for usable", number)
	}
}

// expectSpent says that nobody passes once what is left of five is used.
func (f *fleet) expectSpent() {
	f.t.Helper()
	var passed atomic.Int64
	for _, g := range f.both {
		c := g.dial(f.t)
		for range 20 {
			if c.do(plainGet).status == 200 {
				passed.Add(1)
			}
		}
	}
	if n := passed.Load(); n > 3 {
		f.t.Errorf("%d more passed: Redis has forgotten what was used", n)
	}
}

// Redis that dies and hangs under load costs nobody the answer, and lets no more pass than the gateways by themselves.
func TestRateRedisDiesUnderLoad(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "400ms", "rate = \"1/d\"\nburst = 200\non_store_error = \"local\"")
	seen := f.flood(16, 6000, func() {
		for range 3 {
			f.redis.kill()
			time.Sleep(30 * time.Millisecond)
			f.redis.start()
			_ = f.redis.command.Process.Signal(syscall.SIGSTOP)
			time.Sleep(30 * time.Millisecond)
			_ = f.redis.command.Process.Signal(syscall.SIGCONT)
		}
	})
	if len(seen) != 2 || seen[200] < 200 || seen[200] > 200+2*200 {
		t.Errorf("statuses %v: want 200 from Redis, at most as many from each gateway, and else 429", seen)
	}
}

// A client that leaves while Redis hangs ends the wait, however long that may be.
func TestRateRedisClientLeaves(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "30s", "rate = \"1/d\"\nburst = 5")
	c := f.both[0].dial(t)
	if r := c.do(plainGet); r.status != 200 {
		t.Fatal(r.line)
	}
	f.leave("paused")
	c.send(plainGet)
	time.Sleep(100 * time.Millisecond) // so that Redis has been asked
	c.Close()
	eventually(t, "the connection is gone", func() bool { return f.both[0].connections(t) == 0 })
	f.comeBack("paused")
}

// connections asks /status how many clients are connected.
func (g *gateway) connections(t testing.TB) int {
	t.Helper()
	r, err := http.Get("http://" + g.admin + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var status struct{ Connections int }
	if err := json.NewDecoder(r.Body).Decode(&status); err != nil {
		t.Fatal(err)
	}
	return status.Connections
}

// A gateway that starts while Redis is away serves, and asks it when it is there.
func TestRateRedisStartsWithout(t *testing.T) {
	t.Parallel()
	f := &fleet{t: t, redis: newRedis(t), up: startCounted(t)}
	g := startGateway(t, f.tables("400ms", "rate = \"1/d\"\nburst = 5\non_store_error = \"deny\""))
	c := g.dial(t)
	c.do(plainGet).expectProblem(t, 503, "limit_store_unavailable")
	f.redis.start()
	eventually(t, "Redis decides", func() bool { return c.do(plainGet).status == 200 })
}

// An operator of one gateway sees and fills the buckets that all share.
func TestRateRedisInspect(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "10s", "rate = \"3/h\"\nburst = 3")
	c := f.both[0].dial(t)
	for range 4 {
		c.do(plainGet)
	}
	if out := f.both[1].verb(t, "limits", "show", "shared"); !strings.Contains(out, "-     3/h   0          3   59m") || !strings.Contains(out, "redis; without it: local") {
		t.Errorf("the drained bucket:\n%s", out)
	}
	if out := f.both[1].verb(t, "limits", "show"); !strings.Contains(out, "Redis decides") {
		t.Errorf("all limits:\n%s", out)
	}
	if out := f.both[1].verb(t, "limits", "reset", "shared"); out != "reset 1 bucket\n" {
		t.Errorf("the reset:\n%s", out)
	}
	eventually(t, "the other gateway admits too", func() bool { return c.do(plainGet).status == 200 })
	f.redis.kill()
	eventually(t, "the operator is told that Redis is away", func() bool {
		r, err := http.Get("http://" + f.both[1].admin + "/limits/shared")
		if err != nil {
			return false
		}
		defer r.Body.Close()
		return r.StatusCode == 503
	})
}

// A reload turns a limit into a shared one and back, moves it to another Redis, and keeps what was used in each.
func TestRateRedisReload(t *testing.T) {
	t.Parallel()
	f := startFleet(t, "10s", "rate = \"1/d\"\nburst = 3")
	g := f.both[0]
	remaining := func() string { return g.dial(t).do(plainGet).fields.get("X-RateLimit-Remaining") }
	if left := remaining(); left != "2" {
		t.Fatalf("%s left, want 2", left)
	}
	g.becomes(t, rated(f.up.URL, limit("shared", "rate = \"1/d\"\nburst = 9"), "shared"))
	if left := remaining(); left != "8" {
		t.Errorf("%s left of the local limit, want 8", left)
	}
	g.becomes(t, f.tables("9s", "rate = \"1/d\"\nburst = 30"))
	if left := remaining(); left != "28" {
		t.Errorf("%s left of a raised limit, want 28", left)
	}
	other := newRedis(t)
	other.start()
	f.redis.kill()
	f.redis = other
	g.becomes(t, f.tables("9s", "rate = \"1/d\"\nburst = 30"))
	if left := remaining(); left != "29" {
		t.Errorf("%s left in another Redis, want 29", left)
	}
}
