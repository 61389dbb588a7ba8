package e2e

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// departures is an upstream that notes which paths it is asked for, and when.
type departures struct {
	*service
	mu    sync.Mutex
	paths []string
	times []time.Time
}

func startDepartures(t testing.TB) *departures {
	t.Helper()
	u := &departures{}
	u.service = startService(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		u.mu.Lock()
		defer u.mu.Unlock()
		u.paths, u.times = append(u.paths, r.URL.Path), append(u.times, time.Now())
		fmt.Fprintf(w, "%d", len(body))
	})
	return u
}

func (u *departures) seen() ([]string, []time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.paths...), append([]time.Time(nil), u.times...)
}

func queueOf(url, server, rule string) string {
	return "[server]\nlisten = [\"$LISTEN\"]\n" + server + "\n" + rated(url, limit("queue", "algorithm = \"leaky_bucket\"\n"+rule), "queue")
}

// line has n clients send /0, /1 ..., the first of which is served before the others come.
func (g *gateway) line(t testing.TB, n int) (clients []*client) {
	t.Helper()
	for i := range n {
		c := g.dial(t)
		get := fmt.Sprintf("GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", i)
		if i > 0 {
			c.send(get)
			clients = append(clients, c)
		} else if r := c.do(get); r.status != 200 {
			t.Fatalf("the first: %s", r.line)
		}
	}
	return clients
}

// Requests leave a leaky bucket evenly, at the rate; all who wait are served, and who finds the line too
// long is refused at once.
func TestRateQueue(t *testing.T) {
	t.Parallel()
	const n, pace = 8, 125 * time.Millisecond
	up := startDepartures(t)
	g := startGateway(t, queueOf(up.URL, "", "rate = \"8/s\"\nburst = 7\nmax_wait = \"10s\""))
	began := time.Now()
	clients := g.line(t, n)
	for i, c := range clients {
		if r := c.receive("GET"); r.status != 200 {
			t.Errorf("request %d: %s", i+1, r.line)
		}
	}
	paths, times := up.seen()
	for i := range times {
		if since, least := times[i].Sub(began), time.Duration(i)*pace; since < least {
			t.Errorf("request %d left after %v, want at least %v", i, since, least)
		}
	}
	slices.Sort(paths)
	if got := strings.Join(paths, " "); got != "/0 /1 /2 /3 /4 /5 /6 /7" {
		t.Errorf("the upstream got %s", got)
	}
	if took := times[len(times)-1].Sub(began); took > n*pace*4 {
		t.Errorf("the last one left after %v, want about %v", took, (n-1)*pace)
	}
}

// The requests of clients that leave are never sent, and the others keep their turns.
func TestRateQueueLeave(t *testing.T) {
	t.Parallel()
	up := startDepartures(t)
	g := startGateway(t, queueOf(up.URL, "", "rate = \"1/s\"\nburst = 10\nmax_wait = \"10s\""))
	clients := g.line(t, 2) // the second leaves after a second
	time.Sleep(100 * time.Millisecond)
	reset, closed := g.sent(t, "GET /reset HTTP/1.1\r\nHost: h\r\n\r\n"), g.sent(t, "GET /closed HTTP/1.1\r\nHost: h\r\n\r\n")
	time.Sleep(200 * time.Millisecond)
	_ = reset.SetLinger(0)
	reset.Close()
	closed.Close()
	if r := clients[0].receive("GET"); r.status != 200 {
		t.Errorf("the one before them: %s", r.line)
	}
	if _, r := g.exchange(t, "GET /last HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 {
		t.Errorf("the one behind them: %s", r.line)
	}
	if paths, _ := up.seen(); strings.Join(paths, " ") != "/0 /1 /last" {
		t.Errorf("the upstream got %v", paths)
	}
}

// A request's body and those that are pipelined behind it wait with it, and arrive whole.
func TestRateQueueBody(t *testing.T) {
	t.Parallel()
	const size = 300_000
	up := startDepartures(t)
	g := startGateway(t, queueOf(up.URL, "", "rate = \"4/s\"\nburst = 10\nmax_wait = \"10s\""))
	g.exchange(t, plainGet)
	began := time.Now()
	c := g.dial(t)
	go c.send(fmt.Sprintf("POST /body HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("a", size)) +
		"GET /pipelined HTTP/1.1\r\nHost: h\r\n\r\n")
	if r := c.receive("POST"); r.status != 200 || r.body != fmt.Sprint(size) {
		t.Errorf("%s: %q arrived, want %d bytes", r.line, r.body, size)
	}
	if r := c.receive("GET"); r.status != 200 {
		t.Errorf("the next on the connection: %s", r.line)
	}
	if paths, times := up.seen(); len(paths) != 3 || times[2].Sub(began) < 250*time.Millisecond {
		t.Errorf("the upstream got %v, the last after %v", paths, times[len(times)-1].Sub(began))
	}
}

// A drain lets those in the line have their turn, and tells them that the connection ends.
func TestRateQueueDrain(t *testing.T) {
	t.Parallel()
	up := startDepartures(t)
	g := startGateway(t, queueOf(up.URL, `drain = "10s"`, "rate = \"4/s\"\nburst = 10\nmax_wait = \"10s\""))
	clients := g.line(t, 5)
	time.Sleep(100 * time.Millisecond) // a drain closes connections that have sent nothing yet
	g.signal(syscall.SIGTERM)
	closing := 0
	for i, c := range clients {
		r := c.receive("GET")
		if r.status != 200 {
			t.Errorf("request %d: %s %v", i+1, r.line, r.fields)
		}
		if r.fields.get("Connection") == "close" {
			closing++
		}
	}
	if closing == 0 {
		t.Error("no client was told that its connection ends")
	}
	if code := g.wait(); code != 0 {
		t.Errorf("the process ended with %d", code)
	}
	if paths, _ := up.seen(); len(paths) != 5 {
		t.Errorf("the upstream got %v", paths)
	}
}

// Of a crowd as many wait as the line is long. Those who have no turn when the drain ends are cut: their
// requests are not sent after all, and the process ends in time.
func TestRateQueueCut(t *testing.T) {
	t.Parallel()
	const clients, line = 64, 5
	up := startDepartures(t)
	g := startGateway(t, queueOf(up.URL, `drain = "300ms"`, "rate = \"1/5s\"\nburst = 5\nmax_wait = \"29s\""))
	answers := make(chan int, clients)
	for range clients {
		c := g.dial(t)
		go func() {
			c.send(plainGet)
			r, err := readResponse(c.in, "GET")
			if err != nil {
				answers <- 0
				return
			}
			answers <- r.status
		}()
	}
	seen := map[int]int{}
	for range clients - line {
		seen[<-answers]++
	}
	if seen[200] != 1 || seen[429] != clients-line-1 {
		t.Errorf("answered at once: %v, want 1 times 200 and %d times 429", seen, clients-line-1)
	}
	began := time.Now()
	g.signal(syscall.SIGTERM)
	if code := g.wait(); code != 0 {
		t.Errorf("the process ended with %d", code)
	}
	if took := time.Since(began); took < 300*time.Millisecond || took > 5*time.Second {
		t.Errorf("the process ended after %v, want soon after the drain", took)
	}
	for range line {
		if status := <-answers; status != 0 {
			t.Errorf("one of those in the line got %d", status)
		}
	}
	if paths, _ := up.seen(); len(paths) != 1 {
		t.Errorf("the upstream got %d requests, want 1", len(paths))
	}
}
