package engine

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A queue in which nobody moves up within any test: a turn every ten minutes.
const slowQueue = "algorithm = \"leaky_bucket\"\nrate = \"6/h\"\nkey = []\n"

// countingOrigin answers everything, and counts what it was asked.
func countingOrigin(t testing.TB) (address string, asked *atomic.Int64) {
	t.Helper()
	asked = &atomic.Int64{}
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://"), asked
}

// awaitWaiting waits until so many requests wait for their turn.
func (g *gateway) awaitWaiting(t testing.TB, n int64) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); g.turns.waiting.Load() != n; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d requests wait, want %d", g.turns.waiting.Load(), n)
		}
	}
}

// queue sends a request that will have to wait, and returns once it does.
func (g *gateway) queue(t testing.TB, fields string) *rawClient {
	t.Helper()
	before := g.turns.waiting.Load()
	c := dial(t, g.address)
	if _, err := c.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n" + fields + "\r\n")); err != nil {
		t.Fatal(err)
	}
	g.awaitWaiting(t, before+1)
	return c
}

// The line is as long as burst and max_wait allow, whichever is shorter, and who finds it longer is
// refused at once. Of a crowd, one goes at once and the line is filled.
func TestQueueLength(t *testing.T) {
	for _, c := range []struct {
		intent, rule string
		waiting      int64
	}{
		{"burst is the shorter", "burst = 3\nmax_wait = \"1h\"", 3},
		{"max_wait is the shorter", "burst = 1000\nmax_wait = \"25m\"", 2},
		{"max_wait is to the point", "burst = 1000\nmax_wait = \"20m\"", 2},
		{"nobody may wait", "burst = 1000\nmax_wait = \"599s\"", 0},
	} {
		t.Run(c.intent, func(t *testing.T) {
			target, asked := countingOrigin(t)
			g := startLimited(t, "drain = \"10ms\"", limitedRoutes(target, limitTable("queue", slowQueue+c.rule), "queue"))
			const clients = 24
			answers := make(chan *answer, clients)
			for range clients {
				client := dial(t, g.address)
				go func() {
					a, _ := client.try("GET /")
					answers <- a
				}()
			}
			for n := range clients - int(c.waiting) {
				a := <-answers
				switch {
				case a == nil:
					t.Fatal("a connection failed")
				case a.status == 429:
					if wait := retryAfter(t, a); wait < 1 || wait > 661 {
						t.Errorf("Retry-After %d: a turn is free every 600 seconds", wait)
					}
				case a.status != 200:
					t.Errorf("answer %d: %d", n, a.status)
				}
			}
			g.awaitWaiting(t, c.waiting)
			if n := asked.Load(); n != 1 {
				t.Errorf("%d requests went at once, want 1", n)
			}
		})
	}
}

// A client that leaves takes its request with it: the target never hears of it, and wherever in the line it
// was, those behind it move up, and a place becomes free.
func TestQueueLeave(t *testing.T) {
	target, asked := countingOrigin(t)
	g := startLimited(t, "", limitedRoutes(target, limitTable("queue", slowQueue+"burst = 5\nmax_wait = \"1h\""), "queue"))
	dial(t, g.address).ask(t, "GET /").expect(t, 200)
	left := func(want int64) {
		t.Helper()
		if got := g.bucket(t, "queue").Remaining; got != want {
			t.Errorf("%d places are left in the line, want %d", got, want)
		}
	}
	left(5)
	first, second, third := g.queue(t, ""), g.queue(t, ""), g.queue(t, "")
	left(2)
	third.Close()
	g.awaitWaiting(t, 2)
	left(3)
	first.Close()
	g.awaitWaiting(t, 1)
	left(4)
	fourth := g.queue(t, "")
	left(3)
	fourth.Close()
	g.awaitWaiting(t, 1)
	second.Close()
	g.awaitWaiting(t, 0)
	left(5)
	g.expectNoLines(t)
	if n := asked.Load(); n != 1 {
		t.Errorf("the target got %d requests, want 1", n)
	}
}

// What other limits and guards took of a request that did not stay is given back too.
func TestQueueLeaveGivesBackAll(t *testing.T) {
	rules := limitTable("queue", slowQueue+"burst = 5\nmax_wait = \"1h\"") + limitTable("bucket", "rate = \"1/d\"\nburst = 9\nkey = []") +
		limitTable("guard", "rate = \"1/d\"\nburst = 9\nkey = []\nbefore_auth = true")
	target, _ := countingOrigin(t)
	g := startLimited(t, "", limitedRoutes(target, rules, "bucket", "queue", "guard"))
	dial(t, g.address).ask(t, "GET /").expect(t, 200)
	c := g.queue(t, "")
	if b, d := g.bucket(t, "bucket").Remaining, g.bucket(t, "guard").Remaining; b != 7 || d != 7 {
		t.Errorf("while it waits, %d and %d are left, want 7", b, d)
	}
	c.Close()
	g.awaitWaiting(t, 0)
	if b, d := g.bucket(t, "bucket").Remaining, g.bucket(t, "guard").Remaining; b != 8 || d != 8 {
		t.Errorf("%d and %d are left, want 8", b, d)
	}
}

// When as many requests wait as may, one more is not kept, and has taken nothing.
func TestQueueFull(t *testing.T) {
	target, asked := countingOrigin(t)
	rules := limitTable("queue", slowQueue+"burst = 5\nmax_wait = \"1h\"") + limitTable("bucket", "rate = \"1/d\"\nburst = 9\nkey = []")
	g := startLimited(t, "drain = \"10ms\"", limitedRoutes(target, rules, "queue", "bucket"))
	g.turns.waiting.Add(maxWaiting - 1) // elsewhere
	client := dial(t, g.address)
	client.ask(t, "GET /").expect(t, 200)
	g.queue(t, "")
	for range 5 {
		a := client.ask(t, "GET /").expect(t, 503)
		p := problemOf(t, a)
		if p.Reason != "queue_full" || p.Limit != "" || retryAfter(t, a) < 1 {
			t.Errorf("refused with %v, %s", a.fields, a.body)
		}
		list := quotas(t, a, "RateLimit")
		if len(list) != 2 || list[0].parameters["r"] != 4 || list[1].parameters["r"] != 7 {
			t.Errorf("RateLimit %v, want as if it had not been", list)
		}
	}
	if q, b := g.bucket(t, "queue").Remaining, g.bucket(t, "bucket").Remaining; q != 4 || b != 7 {
		t.Errorf("%d and %d are left, want 4 and 7", q, b)
	}
	if n := g.turns.waiting.Load(); n != maxWaiting || asked.Load() != 1 {
		t.Errorf("%d wait, %d were forwarded", n, asked.Load())
	}
	g.turns.waiting.Add(1 - maxWaiting)
}

// A drain waits for those in the line, within its time; those who would need longer are cut, and their
// requests are not sent after all.
func TestQueueDrain(t *testing.T) {
	for _, c := range []struct {
		intent, drain, rate string
		finish              bool
	}{{"long enough", "10s", "20/s", true}, {"too short", "150ms", "6/h", false}} {
		t.Run(c.intent, func(t *testing.T) {
			target, asked := countingOrigin(t)
			rule := "algorithm = \"leaky_bucket\"\nrate = \"" + c.rate + "\"\nkey = []\nburst = 100\nmax_wait = \"1h\""
			g := startLimited(t, "drain = \""+c.drain+"\"", limitedRoutes(target, limitTable("queue", rule), "queue"))
			const clients = 6
			answers := make(chan *answer, clients)
			for range clients {
				client := dial(t, g.address)
				go func() {
					a, _ := client.try("GET /")
					answers <- a
				}()
			}
			if first := <-answers; first == nil || first.status != 200 {
				t.Fatalf("the first one got %v", first)
			}
			for g.turns.waiting.Load()+asked.Load() < clients { // a drain loses who has not been accepted yet
				time.Sleep(time.Millisecond)
			}
			began := time.Now()
			cut := g.Drain(context.Background())
			if took := time.Since(began); took > 8*time.Second {
				t.Errorf("the drain took %v", took)
			}
			finished := 1
			for range clients - 1 {
				if a := <-answers; a != nil && a.status == 200 {
					finished++
				}
			}
			want := clients
			if !c.finish {
				want = 1
			}
			if finished != want || asked.Load() != int64(want) || (cut > 0) == c.finish {
				t.Errorf("%d finished, %d forwarded, %d cut; want %d", finished, asked.Load(), cut, want)
			}
			g.awaitWaiting(t, 0)
		})
	}
}

// Nobody leaves before his turn, whatever he waits for beside; and the answer tells of the line.
func TestQueueTurn(t *testing.T) {
	target, _ := countingOrigin(t)
	rule := "algorithm = \"leaky_bucket\"\nrate = \"20/s\"\nkey = []\nburst = 10\nmax_wait = \"10s\""
	g := startLimited(t, "", limitedRoutes(target, limitTable("queue", rule), "queue"))
	client := dial(t, g.address) // each waits for the turn after the one before
	began := time.Now()
	for i := range 6 {
		a := client.ask(t, "GET /").expect(t, 200)
		if took, least := time.Since(began), time.Duration(i)*50*time.Millisecond; took < least {
			t.Errorf("request %d left after %v, want at least %v", i, took, least)
		}
		if n, err := strconv.Atoi(a.fields.Get("X-RateLimit-Remaining")); err != nil || n > 10 || n < 9 {
			t.Errorf("X-RateLimit-Remaining %q", a.fields.Get("X-RateLimit-Remaining"))
		}
	}
}

// The line is a line: who came first leaves first.
func TestQueueOrder(t *testing.T) {
	var mu sync.Mutex
	var order []string
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		order = append(order, r.Header.Get("X-Place"))
	}))
	t.Cleanup(s.Close)
	rule := "algorithm = \"leaky_bucket\"\nrate = \"5/2s\"\nkey = []\nburst = 10\nmax_wait = \"10s\""
	g := startLimited(t, "", limitedRoutes(strings.TrimPrefix(s.URL, "http://"), limitTable("queue", rule), "queue"))
	dial(t, g.address).ask(t, "GET /", "X-Place: 0").expect(t, 200)
	var line []*rawClient
	for _, place := range []string{"1", "2", "3", "4"} {
		line = append(line, g.queue(t, "X-Place: "+place+"\r\n"))
	}
	for _, c := range line {
		a, err := readAnswer(c.in, "GET")
		if err != nil {
			t.Fatal(err)
		}
		a.expect(t, 200)
	}
	if got := strings.Join(order, " "); got != "0 1 2 3 4" {
		t.Errorf("left in the order %s", got)
	}
}

// A request that waited for one turn does not wait for that time again at the next: two queues of the same
// rate are as quick as one.
func TestQueueTwice(t *testing.T) {
	target, _ := countingOrigin(t)
	rule := "algorithm = \"leaky_bucket\"\nrate = \"1/s\"\nkey = []\nburst = 10\nmax_wait = \"10s\"\n"
	g := startLimited(t, "", limitedRoutes(target, limitTable("guard", rule+"before_auth = true")+limitTable("queue", rule), "guard", "queue"))
	began := time.Now()
	g.crowd(t, 3, 1, func(_ int, a *answer) {
		if a.status != 200 {
			t.Errorf("status %d", a.status)
		}
	})
	// The last has its turn after two seconds in either queue; one who waits in both needs four.
	if took := time.Since(began); took < 2*time.Second || took > 3900*time.Millisecond {
		t.Errorf("took %v, want two seconds", took)
	}
}

// Clients that queue up and leave do not make those wait who come after them: neither in the line that they
// waited in, nor in another that they had turns of.
func TestQueueLeftInBulk(t *testing.T) {
	rule := "algorithm = \"leaky_bucket\"\nkey = []\nburst = 1000\nmax_wait = \"1h\"\n"
	for _, c := range []struct {
		intent, tables string
		names          []string
	}{
		{"one rule", limitTable("one", rule+"rate = \"10/s\""), []string{"one"}},
		{"two rules", limitTable("one", rule+"rate = \"10/s\"") + limitTable("two", rule+"rate = \"11/s\""), []string{"one", "two"}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			target, asked := countingOrigin(t)
			g := startLimited(t, "drain = \"10ms\"", limitedRoutes(target, c.tables, c.names...))
			dial(t, g.address).ask(t, "GET /").expect(t, 200)
			var line []*rawClient
			for range 200 {
				w := dial(t, g.address)
				if _, err := w.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
					t.Fatal(err)
				}
				line = append(line, w)
			}
			for deadline := time.Now().Add(5 * time.Second); int64(len(line))+1 > g.turns.waiting.Load()+asked.Load() && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond)
			}
			for _, w := range line {
				w.Close()
			}
			g.awaitWaiting(t, 0)
			began := time.Now()
			dial(t, g.address).ask(t, "GET /").expect(t, 200)
			if took := time.Since(began); took > 5*time.Second { // the line was 20 s long
				t.Errorf("the newcomer waited for %v", took)
			}
		})
	}
}

// Who moves up in one line does not go before the turn that he has in another.
func TestQueueMovesUpBetweenTurns(t *testing.T) {
	target, _ := countingOrigin(t)
	rule := "algorithm = \"leaky_bucket\"\nburst = 1000\nmax_wait = \"1h\"\n"
	tables := limitTable("long", rule+"key = []\nrate = \"5/s\"") + limitTable("slow", rule+"key = [\"header:X-T\"]\nrate = \"1/s\"")
	g := startLimited(t, "drain = \"10ms\"", limitedRoutes(target, tables, "long", "slow"))
	began := time.Now()
	dial(t, g.address).ask(t, "GET /", "X-T: a").expect(t, 200)
	var line []*rawClient
	for i := range 100 {
		c := dial(t, g.address)
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: h\r\nX-T: %d\r\n\r\n", i); err != nil {
			t.Fatal(err)
		}
		line = append(line, c)
	}
	for g.turns.waiting.Load() < 80 {
		time.Sleep(time.Millisecond)
	}
	last := g.queue(t, "X-T: a\r\n")
	for _, c := range line {
		c.Close()
	}
	a, err := readAnswer(last.in, "GET")
	if err != nil {
		t.Fatal(err)
	}
	a.expect(t, 200)
	if took := time.Since(began); took < time.Second || took > 10*time.Second { // it began with a turn after twenty
		t.Errorf("took %v, want a second", took)
	}
}

// BenchmarkLine is what it costs to get in a line of ten thousand and to leave it from the middle.
func BenchmarkLine(b *testing.B) {
	q := newQueueBench(b, tenPerSecond)
	all := q.line(b, 10000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c := all[i*7919%len(all)]
		_, _ = c.leave() // unless it is one of the few whose turn has come
		n := q.take(b, 0)
		c.id, c.turn = n.id, n.turn
		q.enter(c)
	}
}
