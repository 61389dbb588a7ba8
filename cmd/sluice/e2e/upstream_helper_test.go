package e2e

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// targetOf is what /status tells of a target.
func (g *gateway) targetOf(t testing.TB, address string) engine.TargetStatus {
	t.Helper()
	for _, u := range g.status(t).Upstreams {
		for _, one := range u.Targets {
			if one.Address == address {
				return one
			}
		}
	}
	t.Fatalf("/status knows no target %s", address)
	panic("unreachable")
}

// until waits for a state of a target, while requests go on.
func (g *gateway) until(t testing.TB, what string, m *moody, is func(s engine.TargetStatus) bool) {
	t.Helper()
	eventually(t, m.name+": "+what, func() bool {
		_ = g.load(t, 1, 5)
		return is(g.targetOf(t, m.address()))
	})
}

func isOpen(s engine.TargetStatus) bool   { return s.Breaker == "open" }
func isClosed(s engine.TargetStatus) bool { return s.Breaker == "closed" && s.Present }

// tally is how requests ended, by reason or status, or by the name of the target that served them.
type tally struct {
	mu    sync.Mutex
	ended map[string]int
	names map[string]int
}

func newTally() *tally { return &tally{ended: map[string]int{}, names: map[string]int{}} }

func (a *tally) count(m map[string]int, key string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	m[key]++
}

// failed is how many requests were not answered 200.
func (a *tally) failed() (n int) {
	for _, k := range slices.Collect(maps.Keys(a.ended)) {
		if k != "200" {
			n += a.ended[k]
		}
	}
	return n
}

func (a *tally) String() string { return fmt.Sprint(a.ended, " served by ", a.names) }

// load sends n GETs in all, from as many workers, each on a connection that it keeps. Every answer must be that
// of its own request.
func (g *gateway) load(t testing.TB, workers, n int) *tally {
	t.Helper()
	return g.loadWith(t, workers, n, func(i int) string { return "GET /x HTTP/1.1\r\nHost: h\r\n" })
}

var nonces atomic.Int64

// loadWith is load with heads of the caller's, without the empty line.
func (g *gateway) loadWith(t testing.TB, workers, n int, head func(i int) string) *tally {
	t.Helper()
	total := newTally()
	var running sync.WaitGroup
	var next atomic.Int64
	for range workers {
		running.Go(func() {
			c := caller{address: g.address, total: total}
			defer c.close()
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				c.call(t, head(int(i)))
			}
		})
	}
	running.Wait()
	return total
}

// caller is a client that keeps its connection from request to request.
type caller struct {
	address string
	total   *tally
	conn    net.Conn // nil: yet to be dialled
	in      *bufio.Reader
}

func (c *caller) close() {
	if c.conn != nil {
		c.conn.Close()
		c.conn = nil
	}
}

// call sends a request, without the empty line, and judges the answer. It gives how the request ended.
func (c *caller) call(t testing.TB, head string) (end string) {
	if c.conn == nil {
		conn, err := net.DialTimeout("tcp", c.address, patience)
		if err != nil {
			t.Error(err)
			return "not connected"
		}
		c.conn, c.in = conn, bufio.NewReader(conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	nonce := fmt.Sprintf("n%d", nonces.Add(1))
	raw := head + "X-Nonce: " + nonce + "\r\n\r\n"
	if strings.HasPrefix(raw, "POST") {
		raw = fmt.Sprintf("%sContent-Length: %d\r\n\r\n%s", strings.TrimSuffix(raw, "\r\n"), len(nonce), nonce)
	}
	_, _ = io.WriteString(c.conn, raw)
	r, err := readResponse(c.in, "GET")
	if err != nil {
		end = "broken: " + err.Error()
		c.total.count(c.total.ended, end)
		c.close()
		return end
	}
	if r.cut != nil || r.fields.has("Connection") {
		c.close()
	}
	return c.total.judge(t, r, nonce)
}

// judge counts an answer, which must be one to the request with this nonce, and gives how it ended: by its
// reason or status.
func (a *tally) judge(t testing.TB, r *response, nonce string) (end string) {
	end = fmt.Sprint(r.status)
	if _, reason, ok := strings.Cut(r.body, `"reason":"`); ok {
		end, _, _ = strings.Cut(reason, `"`)
	}
	if r.cut != nil {
		end = "cut"
	}
	a.count(a.ended, end)
	if r.status != 200 {
		return end
	}
	if r.cut == nil {
		a.count(a.names, r.fields.get("X-Name"))
	}
	if got := r.fields.get("X-Nonce"); got != nonce {
		t.Errorf("the answer to %s is that to %q", nonce, got)
	}
	if r.cut == nil && strings.ReplaceAll(r.body, nonce+" ", "") != "" {
		t.Errorf("the answer to %s has a body of another one", nonce)
	}
	return end
}

// moodyUpstream is an upstream with a route for everything.
func moodyUpstream(urls, tables string) string {
	return "[upstream.a]\ntargets = [" + urls + "]\n" + tables + routeToA
}
