package e2e

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// moody is a target whose behaviour can be changed while it runs. It answers with its name and with the nonce of
// the request.
type moody struct {
	name, url string
	mood      atomic.Pointer[string]
	touched   atomic.Int64  // connections and requests, health checks not counted
	served    atomic.Int64  // requests, likewise
	active    atomic.Int64  // requests at work
	accepted  atomic.Int64  // connections, every one
	heard     byteCount     // all that came on them
	garbled   atomic.Int64  // requests whose body was not made of their nonce
	whim      func() string // the mood of each request, if the mood is whimMood
}

// byteCount counts what is written to it.
type byteCount struct{ atomic.Int64 }

func (n *byteCount) Write(p []byte) (int, error) {
	n.Add(int64(len(p)))
	return len(p), nil
}

// The moods.
const (
	wellMood    = "well"
	silentMood  = "never answers"
	closeMood   = "closes after accept"
	halfMood    = "closes in the head"
	resetMood   = "resets"
	garbageMood = "sends garbage"
	cutMood     = "closes in the body"
	chunkMood   = "closes in a chunk"
	errorMood   = "answers 500"
	flakyMood   = "answers 500 nine times of ten"
	dripMood    = "sends its head a byte at a time"
	trickleMood = "sends its body a byte at a time"
	raceMood    = "closes after each answer, unannounced"
	slowMood    = "takes its time"
	lateMood    = "answers when nobody waits any more"
	twiceMood   = "answers twice"
	hintMood    = "answers, after a hint"
	whimMood    = "has a mood for each request"
)

// dripEvery is how long it takes from byte to byte.
const dripEvery = 20 * time.Millisecond

// lateAfter is how long an answer takes that is late.
const lateAfter = 100 * time.Millisecond

func startMoody(t testing.TB, name string) *moody {
	m := &moody{name: name}
	m.set(wellMood)
	m.url = startRaw(t, m.serve)
	return m
}

// startMoodies starts targets a, b, c and so on.
func startMoodies(t testing.TB, n int) (all []*moody, urls string) {
	var quoted []string
	for i := range n {
		all = append(all, startMoody(t, string(rune('a'+i))))
		quoted = append(quoted, fmt.Sprintf("%q", all[i].url))
	}
	return all, strings.Join(quoted, ", ")
}

func (m *moody) set(mood string) { m.mood.Store(&mood) }
func (m *moody) address() string { return strings.TrimPrefix(m.url, "http://") }

func (m *moody) serve(c *rawConn, done <-chan struct{}) {
	m.accepted.Add(1)
	c.in = bufio.NewReader(io.TeeReader(c.TCPConn, &m.heard))
	if mood := *m.mood.Load(); mood == closeMood || mood == resetMood {
		m.touched.Add(1)
		m.end(c, mood)
		return
	}
	for {
		head := c.head()
		if head == "" {
			return
		}
		mood := *m.mood.Load()
		check := strings.HasPrefix(head, "GET /healthz ")
		if !check {
			m.touched.Add(1)
			m.served.Add(1)
		}
		if !m.body(c, head) {
			return
		}
		if mood == whimMood {
			mood = m.whim()
		}
		m.active.Add(1)
		keep := m.answer(c, head, mood, done)
		m.active.Add(-1)
		if !keep {
			return
		}
	}
}

// body reads a request's body, which is made of its nonce if it has one; false: it ended early.
func (m *moody) body(c *rawConn, head string) bool {
	length, err := strconv.Atoi(headValue(head, "Content-Length"))
	if err != nil {
		return true
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(c.in, body); err != nil {
		return false
	}
	if nonce := headValue(head, "X-Nonce"); nonce != "" && strings.ReplaceAll(string(body), nonce, "") != "" {
		m.garbled.Add(1)
	}
	return true
}

// answer does what the mood says; false ends the connection.
func (m *moody) answer(c *rawConn, head, mood string, done <-chan struct{}) bool {
	nonce := headValue(head, "X-Nonce")
	if mood == flakyMood && m.served.Load()%10 != 0 {
		mood = errorMood
	}
	switch mood {
	case silentMood:
		_, _ = io.Copy(io.Discard, c.in) // the gateway has to give up
		return false
	case lateMood:
		_ = c.SetReadDeadline(time.Now().Add(lateAfter))
		_, _ = io.Copy(io.Discard, c.in)
	case closeMood, resetMood:
		m.end(c, mood)
		return false
	case halfMood:
		c.write("HTTP/1.1 200 OK\r\nContent-Le")
		return false
	case garbageMood:
		c.write("\x16\x03\x01 what is this?\r\n\r\n")
		return false
	case cutMood:
		c.write("HTTP/1.1 200 OK\r\nX-Nonce: " + nonce + "\r\nContent-Length: 100000\r\n\r\n" + nonce + " ")
		return false
	case chunkMood:
		c.write("HTTP/1.1 200 OK\r\nX-Nonce: " + nonce + "\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n" + nonce + " ")
		return false
	case errorMood:
		c.write("HTTP/1.1 500 Oops\r\nX-Nonce: " + nonce + "\r\nContent-Length: 4\r\n\r\noops")
		return true
	case dripMood:
		c.drip("HTTP/1.1 200 OK\r\nX-Dripping: "+strings.Repeat(".", 10000), done)
		return false
	case trickleMood:
		c.write("HTTP/1.1 200 OK\r\nX-Nonce: " + nonce + "\r\nContent-Length: 100000\r\n\r\n")
		c.drip(strings.Repeat(nonce+" ", 10000), done)
		return false
	case slowMood:
		select {
		case <-done:
		case <-time.After(50 * time.Millisecond):
		}
	}
	times := 1
	if strings.HasSuffix(nonce, "7") {
		times = 4000 // more than comes with the head
	}
	body := strings.Repeat(nonce+" ", times)
	good := fmt.Sprintf("HTTP/1.1 200 OK\r\nX-Name: %s\r\nX-Nonce: %s\r\nContent-Length: %d\r\n\r\n%s", m.name, nonce, len(body), body)
	switch {
	case mood == hintMood:
		good = "HTTP/1.1 103 Early Hints\r\nX-Nonce: " + nonce + "\r\n\r\n" + good
	case mood == twiceMood && times == 1: // in one piece: what comes later may be taken for the next answer by anybody
		good += strings.ReplaceAll(good, nonce, "poison")
	}
	c.write(good)
	return mood != raceMood && mood != lateMood
}

func (m *moody) end(c *rawConn, mood string) {
	if mood == resetMood {
		_ = c.SetLinger(0)
	}
	_ = c.Close()
}

// drip writes text a byte at a time, until the other side has had enough.
func (c *rawConn) drip(text string, done <-chan struct{}) {
	ticker := time.NewTicker(dripEvery)
	defer ticker.Stop()
	for i := range len(text) {
		select {
		case <-done:
			return
		case <-ticker.C:
		}
		if _, err := io.WriteString(c.TCPConn, text[i:i+1]); err != nil {
			return
		}
	}
}

// headValue is a field of a head, "" if there is none.
func headValue(head, name string) string {
	for line := range strings.SplitSeq(head, "\r\n") {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

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
