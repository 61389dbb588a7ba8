package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// longLived is an upstream that echoes bodies and paths at once, and has what takes long: /slow, /events and
// what is upgraded end when release is closed.
type longLived struct {
	*service
	release chan struct{}
}

func startLongLived(t testing.TB) *longLived {
	t.Helper()
	u := &longLived{release: make(chan struct{})}
	u.service = startService(t, u.serve)
	return u
}

func (u *longLived) serve(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.Header.Get("Upgrade") == "echo":
		echoUpgraded(w)
	case strings.HasSuffix(r.URL.Path, "/slow"):
		select {
		case <-u.release:
		case <-r.Context().Done():
		}
		_, _ = io.WriteString(w, "at last")
	case strings.HasSuffix(r.URL.Path, "/events"):
		u.events(w, r)
	case r.Method == "POST":
		body, _ := io.ReadAll(r.Body)
		_, _ = w.Write(body)
	default:
		_, _ = io.WriteString(w, r.URL.Path)
	}
}

func echoUpgraded(w http.ResponseWriter) {
	socket, in, err := w.(http.Hijacker).Hijack()
	if err != nil {
		return
	}
	defer socket.Close()
	_, _ = io.WriteString(socket, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	_, _ = io.Copy(socket, in)
}

func (u *longLived) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for i := 0; ; i++ {
		fmt.Fprintf(w, "data: %d\n\n", i)
		w.(http.Flusher).Flush()
		select {
		case <-ticker.C:
		case <-u.release:
			_, _ = io.WriteString(w, "data: end\n\n")
			return
		case <-r.Context().Done():
			return
		}
	}
}

// holdOn opens what takes long below a path: a request, a stream of events and an upgraded connection. The
// function it returns is called once the upstream has been released: all three must end whole.
func (g *gateway) holdOn(t testing.TB, path string) (finish func()) {
	t.Helper()
	slow := g.dial(t)
	slow.send("GET " + path + "/slow HTTP/1.1\r\nHost: h\r\n\r\n")
	events := g.dial(t)
	events.send("GET " + path + "/events HTTP/1.1\r\nHost: h\r\n\r\n")
	stream := bufio.NewReader(events.head("GET").Body)
	if line, err := stream.ReadString('\n'); line != "data: 0\n" {
		t.Fatalf("the stream begins with %q, %v", line, err)
	}
	upgraded := g.upgrade(t, path)
	upgraded.expectEcho("before")
	return func() {
		t.Helper()
		for _, c := range []*client{slow, events, upgraded} {
			_ = c.SetDeadline(time.Now().Add(patience))
		}
		if r := slow.expect("GET", 200); r.body != "at last" {
			t.Errorf("the request in flight got %q", r.body)
		}
		rest, err := io.ReadAll(stream)
		got := strings.Fields(strings.ReplaceAll("data: 0\n"+string(rest), "data: ", ""))
		for i, event := range got[:len(got)-1] {
			if event != fmt.Sprint(i) {
				t.Errorf("event %d of the stream is %q", i, event)
				break
			}
		}
		if err != nil || got[len(got)-1] != "end" {
			t.Errorf("the stream ends with %q, %v", got[len(got)-1], err)
		}
		upgraded.expectEcho("after")
		_ = upgraded.CloseWrite()
		upgraded.expectClosed()
	}
}

// upgrade opens a connection that is upgraded to "echo".
func (g *gateway) upgrade(t testing.TB, path string) *client {
	t.Helper()
	c := g.dial(t)
	c.send("GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if r := c.receive("GET"); r.status != 101 || r.fields.get("Upgrade") != "echo" {
		t.Fatalf("not upgraded: %s %v\n%s", r.line, r.fields, r.body)
	}
	return c
}

func (c *client) expectEcho(text string) {
	c.t.Helper()
	c.send(text)
	c.expectBytes(text)
}

func (c *client) expectBytes(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(c.in, got); err != nil || string(got) != want {
		c.t.Fatalf("got %q, %v, want %q", got, err, want)
	}
}

const (
	loadWorkers = 4                    // of each kind
	loadPace    = 2 * time.Millisecond // of one worker, at most
)

// load is clients that never rest and never retry: half of them keep their connection for as long as the
// gateway lets them, the others open one for each request.
type load struct {
	t       testing.TB
	address string
	stop    chan struct{}
	workers sync.WaitGroup
	served  atomic.Int64

	mu     sync.Mutex
	failed []error
}

func startLoad(t testing.TB, address string) *load {
	t.Helper()
	l := &load{t: t, address: address, stop: make(chan struct{})}
	halt := sync.OnceFunc(func() { close(l.stop) })
	t.Cleanup(func() { halt(); l.workers.Wait() })
	for range loadWorkers {
		l.workers.Go(func() { l.work(true) })
		l.workers.Go(func() { l.work(false) })
	}
	l.more(100)
	return l
}

// more waits until so many more requests have been served.
func (l *load) more(n int64) {
	l.t.Helper()
	want := l.served.Load() + n
	eventually(l.t, "the load goes on", func() bool { return l.served.Load() >= want || l.failures() > 0 })
}

func (l *load) failures() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

// expectLossless checks that not one request has failed.
func (l *load) expectLossless() {
	l.t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) > 0 {
		l.t.Errorf("%d of %d requests failed:\n%v", len(l.failed), l.served.Load(), errors.Join(l.failed[:min(5, len(l.failed))]...))
	}
	l.t.Logf("%d requests", l.served.Load())
}

func (l *load) work(keep bool) {
	pace := time.NewTicker(loadPace)
	defer pace.Stop()
	var c net.Conn
	var in *bufio.Reader
	for n := 0; ; n++ {
		select {
		case <-pace.C:
		case <-l.stop:
			if c != nil {
				c.Close()
			}
			return
		}
		began := time.Now()
		var err error
		if c == nil {
			if c, err = net.DialTimeout("tcp", l.address, patience); err != nil {
				l.fail(fmt.Errorf("connecting: %w", err))
				continue
			}
			in = bufio.NewReader(c)
		}
		closes, err := l.request(c, in, n, keep)
		if err != nil {
			l.fail(fmt.Errorf("request %d of a client, keep: %v, after %v: %w", n, keep, time.Since(began), err))
		} else {
			l.served.Add(1)
		}
		if err != nil || closes || !keep {
			c.Close()
			c = nil
		}
	}
}

func (l *load) fail(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failed = append(l.failed, err)
}

// request sends one request and checks its answer. It reports whether the connection ends with it.
func (l *load) request(c net.Conn, in *bufio.Reader, n int, keep bool) (closes bool, err error) {
	path := fmt.Sprintf("/%s/%d", []string{"stay", "moving"}[n%2], n)
	connection := ""
	if !keep && n%3 == 0 {
		connection = "Connection: close\r\n"
	}
	method, body, want := "GET", "", path
	if n%4 >= 2 {
		size := 100
		if n%16 >= 14 {
			size = 40_000 // more than is sent along with the head
		}
		method, body = "POST", strings.Repeat(string('a'+rune(n%26)), size)
		connection, want = fmt.Sprintf("%sContent-Length: %d\r\n", connection, size), body
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	raw := method + " " + path + " HTTP/1.1\r\nHost: h\r\n" + connection + "\r\n" + body
	cut := len(raw)
	if n%3 == 1 {
		cut /= 2 // it arrives in two pieces
	}
	for _, piece := range []string{raw[:cut], raw[cut:]} {
		if _, err := io.WriteString(c, piece); err != nil {
			return true, err
		}
	}
	r, err := readResponse(in, method)
	switch {
	case err != nil:
		return true, err
	case r.cut != nil:
		return true, fmt.Errorf("the response was cut: %w", r.cut)
	case r.status != 200 || r.body != want:
		return true, fmt.Errorf("%s: %.200s", r.line, r.body)
	}
	return strings.EqualFold(r.fields.get("Connection"), "close"), nil
}

// twoUpstreams is a configuration for load: one upstream that stays and one that moves, and more routes.
func twoUpstreams(stay, moving, server, routes string) string {
	return fmt.Sprintf(`
[server]
listen = ["$LISTEN"]
%s
[upstream.stay]
targets = [%q]
[upstream.moving]
targets = [%q]
[defaults]
auth = ["none"]
%s
[[route]]
name = "moving"
path = "/moving/*"
to = "moving"
[[route]]
name = "rest"
path = "/*"
to = "stay"
`, server, stay, moving, routes)
}

// reload makes a configuration live by SIGHUP. It must be another one than before.
func (g *gateway) reload(t testing.TB, text string) {
	t.Helper()
	before := g.status(t).Config.Hash
	g.configure(text)
	g.signal(syscall.SIGHUP)
	eventually(t, "the configuration is live", func() bool { return g.status(t).Config.Hash != before })
}

// TestReloadLosesNothing has the routes and the targets change a hundred times under load.
func TestReloadLosesNothing(t *testing.T) {
	const reloads = 100
	stay, here, there := startLongLived(t), startLongLived(t), startLongLived(t)
	configs := []string{
		twoUpstreams(stay.URL, here.URL, "", "[[route]]\nname = \"old\"\npath = \"/old/*\"\nto = \"stay\"\n"),
		twoUpstreams(stay.URL, there.URL, "", "[[route]]\nname = \"new\"\npath = \"/stay/{n}\"\nto = \"stay\"\n"),
	}
	g := startGateway(t, configs[0])
	finishStaying, finishMoving := g.holdOn(t, "/stay"), g.holdOn(t, "/moving")
	l := startLoad(t, g.address)
	for i := range reloads {
		g.reload(t, configs[(i+1)%2])
	}
	l.more(100)
	l.expectLossless()
	if s := g.status(t).Config; s.Reloads < reloads || s.Failures != 0 {
		t.Errorf("%d reloads and %d failures, want %d and 0", s.Reloads, s.Failures, reloads)
	}
	// A connection is back with its upstream a moment after the client has its answer, so a client may be
	// on its second.
	if n := stay.connections.Load(); n > 2*(2*loadWorkers+3) {
		t.Errorf("%d connections to the upstream that did not change: they did not survive", n)
	}
	close(stay.release)
	close(here.release)
	finishStaying()
	finishMoving()
}

// TestReloadRefused has a faulty configuration change nothing, and be told of in full.
func TestReloadRefused(t *testing.T) {
	up := startLongLived(t)
	good := twoUpstreams(up.URL, up.URL, "", "")
	g := startGateway(t, good)
	before := g.status(t).Config
	g.configure(good + "[[route]]\nname = \"a\"\npath = \"nonsense\"\nto = \"stay\"\n[[route]]\nname = \"b\"\npath = \"/b\"\nto = \"nowhere\"\n")
	g.signal(syscall.SIGHUP)
	eventually(t, "the failure is counted", func() bool { return g.status(t).Config.Failures > 0 })
	s := g.status(t).Config
	if s.Hash != before.Hash || s.Reloads != 0 || s.LastFailure == nil {
		t.Errorf("the status is %+v", s)
	}
	for _, fault := range []string{"nonsense", "nowhere"} {
		g.says(t, fault)
		if !strings.Contains(s.LastError, fault) {
			t.Errorf("the status does not name the fault %q: %q", fault, s.LastError)
		}
	}
	if _, r := g.exchange(t, "GET /stay/1 HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 || !g.ready() {
		t.Errorf("after the refused reload: %s", r.line)
	}
	// The file alone, put in place by a rename, is enough.
	g.configure(twoUpstreams(up.URL, up.URL, `drain = "1s"`, ""))
	eventually(t, "the renamed file is live", func() bool { return g.status(t).Config.Hash != before.Hash })
}
