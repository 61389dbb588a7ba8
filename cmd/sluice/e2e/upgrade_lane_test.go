package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const (
	noncers     = 48
	noncerPulse = 25 * time.Millisecond // all ask at once: so they share lanes
	noncerRest  = 500 * time.Millisecond
	// slumber is how long a connection is silent until it sleeps, and some more.
	slumber = 5200 * time.Millisecond
)

// laneConfig has three upstreams: of two the connections are shared by so many requests each.
func laneConfig(pipeline, idle int, held *moody, own *moody, shared ...*moody) string {
	var urls []string
	for _, m := range shared {
		urls = append(urls, strconv.Quote(m.url))
	}
	text := "[server]\nlisten = [\"$LISTEN\"]\ndrain = \"15s\"\n[defaults]\nauth = [\"none\"]\n"
	for _, u := range []struct {
		name     string
		pipeline int
		targets  string
	}{{"shared", pipeline, strings.Join(urls, ", ")}, {"held", pipeline, strconv.Quote(held.url)}, {"own", 0, strconv.Quote(own.url)}} {
		text += fmt.Sprintf("[upstream.%s]\npipeline = %d\nmax_idle_connections = %d\ntargets = [%s]\n", u.name, u.pipeline, idle, u.targets)
		text += fmt.Sprintf("[upstream.%s.retry]\nattempts = 1\n", u.name) // they would hide what is lost
		text += fmt.Sprintf("[[route]]\nname = %q\npath = \"/%[1]s/*\"\nto = %[1]q\n", u.name)
	}
	return text
}

// noncerLoad is clients that keep their connections, and check that each answer is that to their request.
type noncerLoad struct {
	address      string
	total        *tally
	served       atomic.Int64
	ending, stop atomic.Bool // the gateway; the load
	running      sync.WaitGroup

	mu     sync.Mutex
	failed []error
}

// startNoncers has so many clients ask once in a while, all at once, half of them what is shared.
func startNoncers(t testing.TB, address string) *noncerLoad {
	t.Helper()
	l := &noncerLoad{address: address, total: newTally()}
	t.Cleanup(l.finish)
	for i := range noncers {
		l.running.Go(func() { l.work(i) })
	}
	l.more(t, 2*noncers)
	return l
}

func (l *noncerLoad) finish() {
	l.stop.Store(true)
	l.running.Wait()
}

// work is one client. One in eight rests for as long as a drain may take for silence.
func (l *noncerLoad) work(number int) {
	c := &hasty{address: l.address, total: l.total}
	defer c.close()
	for i := number; !l.stop.Load() && !l.failing(); i++ {
		now := time.Now()
		time.Sleep(now.Truncate(noncerPulse).Add(noncerPulse).Sub(now))
		if number%8 == 0 {
			time.Sleep(rand.N(3 * noncerRest))
		}
		if l.ending.Load() && c.conn == nil {
			return
		}
		path := []string{"/shared/x", "/own/x"}[number/2%2]
		if number%8 == 1 {
			path = []string{"/shared/x", "/own/x"}[i%2]
		}
		silent := time.Since(now)
		fresh := c.conn == nil
		end, err := c.ask(path, i)
		switch {
		case err == errUnanswered && (silent >= noncerRest && !fresh || fresh && l.ending.Load()):
			end = "closed"
		case err != nil || end != "200":
			l.fail(fmt.Errorf("request %d of client %d, to %s, after %v of silence, on a new connection: %v: %s, %v", i, number, path, silent, fresh, end, err))
		default:
			l.served.Add(1)
		}
		l.total.count(l.total.ended, end)
	}
}

var errUnanswered = errors.New("the connection ended between answers")

// ask sends a request with a nonce and checks that it gets the answer to it.
func (c *hasty) ask(path string, i int) (end string, err error) {
	if c.conn == nil {
		if c.conn, err = net.DialTimeout("tcp", c.address, patience); err != nil {
			c.conn = nil
			if errors.Is(err, syscall.ECONNREFUSED) {
				return "refused", errUnanswered
			}
			return "not connected", err
		}
		c.in = bufio.NewReader(c.conn)
	}
	_ = c.conn.SetDeadline(time.Now().Add(patience))
	nonce := append(strconv.AppendInt([]byte{'n'}, nonces.Add(1), 10), "-1"...)
	c.out = bytes.Replace(appendNonced(nil, i, nonce), []byte("/x"), []byte(path), 1)
	_, sent := c.conn.Write(c.out)
	if _, err := c.in.Peek(1); err != nil {
		c.close()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return "silent", err
		}
		return "unanswered", errUnanswered
	}
	if end, err = c.receive(nonce); err != nil {
		return end, err
	}
	return end, sent
}

func (l *noncerLoad) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

func (l *noncerLoad) failing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed) > 0
}

func (l *noncerLoad) more(t testing.TB, n int64) {
	t.Helper()
	want := l.served.Load() + n
	eventually(t, "the load goes on", func() bool { return l.served.Load() >= want || l.failing() })
}

// expectLossless ends the load, and checks that not one request has failed.
func (l *noncerLoad) expectLossless(t testing.TB) {
	t.Helper()
	l.finish()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) > 0 {
		t.Errorf("%d of %d requests failed:\n%v", len(l.failed), l.served.Load(), errors.Join(l.failed[:min(5, len(l.failed))]...))
	}
	t.Logf("%v", l.total)
}

// pace has targets take a little time for each answer, so that there are always some in lanes.
func pace(all ...*moody) {
	for _, m := range all {
		m.whim = func() string {
			time.Sleep(noncerPulse / 20)
			return wellMood
		}
		m.set(whimMood)
	}
}

// heldRequests is requests that wait for their answers in lanes, behind one another.
type heldRequests struct {
	all    []*hasty
	nonces [][]byte
}

// holdInLanes sends requests to a target that answers none until it is released, and waits until it has some.
func (g *gateway) holdInLanes(t testing.TB, m *moody) *heldRequests {
	t.Helper()
	h := &heldRequests{}
	for range 4 * runtime.GOMAXPROCS(0) { // more than there are lanes
		c := &hasty{address: g.address, total: newTally()}
		t.Cleanup(c.close)
		conn, err := net.DialTimeout("tcp", g.address, patience)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(2 * patience))
		c.conn, c.in = conn, bufio.NewReader(conn)
		nonce := append(strconv.AppendInt([]byte{'n'}, nonces.Add(1), 10), "-1"...)
		_, _ = conn.Write(bytes.Replace(appendNonced(nil, 0, nonce), []byte("/x"), []byte("/held/x"), 1))
		h.all, h.nonces = append(h.all, c), append(h.nonces, nonce)
	}
	eventually(t, m.name+" has all that is held", func() bool { return m.active.Load() >= int64(len(h.all)) })
	if g.targetOf(t, m.address()).Moved == 0 {
		t.Error("no request had to leave a lane for another one's: none was shared")
	}
	return h
}

// expect checks that all that was held is answered.
func (h *heldRequests) expect(t testing.TB) {
	t.Helper()
	for i, c := range h.all {
		if end, err := c.receive(h.nonces[i]); end != "200" || err != nil {
			t.Errorf("a request that was held: %s: %v", end, err)
		}
	}
}

// latest is the process that serves.
func (g *gateway) latest(t testing.TB) int {
	t.Helper()
	g.expectLogged(t, `"message":"serving"`) // some moments after it is ready
	pids := g.serving()
	return pids[len(pids)-1]
}

// renew makes a configuration live in the process that serves.
func (g *gateway) renew(t testing.TB, text string) {
	t.Helper()
	before := g.status(t).Config.Hash
	g.configure(text)
	_ = syscall.Kill(g.latest(t), syscall.SIGHUP)
	eventually(t, "the configuration is live", func() bool { return g.status(t).Config.Hash != before })
}

// succeed replaces the process that serves, and waits until the one before has ended. Meanwhile something may be done.
func (g *gateway) succeed(t testing.TB, meanwhile func()) {
	t.Helper()
	n := len(g.serving())
	_ = syscall.Kill(g.latest(t), syscall.SIGUSR2)
	eventually(t, "the old process drains", func() bool { return strings.Count(g.log.String(), `"message":"draining"`) == n })
	meanwhile()
	eventually(t, "the old process has ended", func() bool { return strings.Count(g.log.String(), `"message":"ended"`) == n })
	if len(g.serving()) != n+1 {
		t.Fatalf("the processes are %v", g.serving())
	}
}

// descriptors counts those that a process has.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	all, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// stacksEnd is what the runtime tells behind all goroutines.
var stacksEnd = regexp.MustCompile(`(?m)^(rip|pc) +0x`)

// goroutines ends the process that serves, and counts those it had, but for workers that wait for a client: fasthttp
// keeps them for a while.
func (g *gateway) goroutines(t testing.TB) (n int) {
	t.Helper()
	_ = syscall.Kill(g.latest(t), syscall.SIGQUIT)
	var stacks string
	eventually(t, "the process tells of its goroutines", func() bool {
		_, stacks, _ = strings.Cut(g.log.String(), "SIGQUIT")
		return stacksEnd.MatchString(stacks)
	})
	for stack := range strings.SplitSeq(stacks, "\n\n") {
		waits := strings.Contains(stack, "(*workerPool).workerFunc") && !strings.Contains(stack, "/engine.")
		if strings.HasPrefix(stack, "goroutine ") && !waits {
			n++
		}
	}
	return n
}

// Requests that share connections to targets are lost no more than others are, whatever happens to the process and its
// configuration: reloads that add and remove targets, and share connections or not, and processes that follow one
// another; nor are those of connections that slept. Nothing is left behind.
func TestLaneUpgrade(t *testing.T) {
	t.Parallel()
	m, _ := startMoodies(t, 5)
	a, b, c, removed, drained := m[0], m[1], m[2], m[3], m[4]
	pace(a, b, c)
	removed.set(holdMood)
	drained.set(holdMood)
	configs := []string{
		laneConfig(32, 64, drained, b, a), laneConfig(0, 64, drained, b, a), laneConfig(32, 64, drained, c, b, c),
		laneConfig(32, 64, drained, b, a, b, c), laneConfig(0, 64, drained, b, b, c), laneConfig(32, 64, drained, c, c, b, a),
	}
	g := newGateway(t, laneConfig(32, 64, removed, a, a, b))
	g.launch(t, g.run())
	var sleepers []*hasty
	for range 12 {
		s := &hasty{address: g.address, total: newTally()}
		t.Cleanup(s.close)
		if end, err := s.ask("/shared/x", 0); end != "200" || err != nil {
			t.Fatalf("the first request: %s: %v", end, err)
		}
		sleepers = append(sleepers, s)
	}
	since := time.Now()
	l := startNoncers(t, g.address)
	h := g.holdInLanes(t, removed)
	for i := 0; i <= 2*len(configs) || i%len(configs) != 1 || time.Since(since) < slumber; i++ { // the first one comes last
		g.renew(t, configs[i%len(configs)])
		l.more(t, 3*noncers)
		if i == 2 {
			close(removed.release)
			h.expect(t)
		}
	}
	for _, s := range sleepers[:len(sleepers)/2] {
		if end, err := s.ask("/shared/x", 0); end != "200" || err != nil {
			t.Errorf("after a sleep: %s: %v", end, err)
		}
	}
	h = g.holdInLanes(t, drained)
	g.succeed(t, func() {
		for _, s := range sleepers {
			if n, err := s.in.WriteTo(&bytes.Buffer{}); n > 0 || err != nil {
				t.Errorf("a connection that slept ends with %d bytes, %v", n, err)
			}
		}
		close(drained.release)
		h.expect(t)
	})
	g.renew(t, configs[1])
	g.succeed(t, func() { l.more(t, noncers) })
	l.expectLossless(t)
	if strings.Contains(g.log.String(), "outlasted") {
		t.Error("a drain did not end by itself")
	}
	g.expectNothingLeft(t, laneConfig(32, 1, a, a, a))
}

// expectNothingLeft compares the process that serves with one that has seen nothing yet, once both have the same
// configuration, new to both. It ends them.
func (g *gateway) expectNothingLeft(t testing.TB, text string) {
	t.Helper()
	g.renew(t, text)
	fresh := newGateway(t, text)
	fresh.launch(t, fresh.run())
	want := descriptors(t, fresh.latest(t))
	got := 0
	eventually(t, "the descriptors of the last process are those of a new one", func() bool {
		got = descriptors(t, g.latest(t))
		return got <= want+2 // what asked for its status
	})
	if n, limit := g.goroutines(t), fresh.goroutines(t); n > limit+4 {
		t.Errorf("%d goroutines are left, a new process has %d", n, limit)
	} else {
		t.Logf("%d descriptors, %d in a new process; %d goroutines, %d in a new process", got, want, n, limit)
	}
}

// The end of a process loses nothing of what is shared, and does not wait for connections on which nothing goes on.
func TestLaneTerminate(t *testing.T) {
	t.Parallel()
	m, _ := startMoodies(t, 3)
	pace(m[0], m[1])
	m[2].set(holdMood)
	g := startGateway(t, laneConfig(32, 64, m[2], m[0], m[0], m[1]))
	l := startNoncers(t, g.address)
	h := g.holdInLanes(t, m[2])
	l.more(t, 3*noncers)
	l.ending.Store(true)
	g.signal(syscall.SIGTERM)
	g.expectLogged(t, `"message":"draining"`)
	l.running.Wait() // all are told to leave
	close(m[2].release)
	h.expect(t)
	if code := g.wait(); code != 0 || strings.Contains(g.log.String(), "outlasted") {
		t.Errorf("the process ended with %d", code)
	}
	l.expectLossless(t)
}
