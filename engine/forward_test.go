package engine

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// actor is a target that answers as its script says, one request per call.
type actor struct {
	address string
	served  atomic.Int64
	script  atomic.Pointer[func(c net.Conn, r *http.Request)]
}

func startActor(t testing.TB, script func(c net.Conn, r *http.Request)) *actor {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &actor{address: l.Addr().String()}
	a.plays(script)
	var open sync.WaitGroup
	stop := make(chan struct{})
	t.Cleanup(func() {
		close(stop)
		l.Close()
		open.Wait()
	})
	open.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			open.Go(func() { a.serve(c, stop) })
		}
	})
	return a
}

func (a *actor) plays(script func(c net.Conn, r *http.Request)) { a.script.Store(&script) }

func (a *actor) serve(c net.Conn, stop <-chan struct{}) {
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		select {
		case <-stop:
		case <-ended:
		}
		c.Close()
	}()
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return
		}
		a.served.Add(1)
		(*a.script.Load())(c, r)
	}
}

// saying answers with a status and a body of its own.
func saying(status int, body string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\nX-Said: %s\r\nContent-Length: %d\r\n\r\n%s", status, body, len(body), body)
	}
}

// raw answers with these bytes and closes the connection.
func raw(answer string) func(net.Conn, *http.Request) {
	return func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, answer)
		_ = c.Close()
	}
}

// actorsUpstream is an upstream of actors, behind a route that takes everything.
func actorsUpstream(more string, actors ...*actor) string {
	var urls []string
	for _, a := range actors {
		urls = append(urls, fmt.Sprintf("%q", "http://"+a.address))
	}
	return fmt.Sprintf("[upstream.origin]\ntargets = [%s]\nbalance = \"round_robin\"\n%s\n"+
		"[[route]]\nname = \"all\"\npath = \"/*\"\nauth = [\"none\"]\nto = \"origin\"\n", strings.Join(urls, ", "), more)
}

func (g *gateway) ask(t testing.TB, request string) (*http.Response, string) {
	t.Helper()
	c := dial(t, g.address)
	defer c.Close()
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(c.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(r.Body)
	return r, string(body)
}

func (g *gateway) upstream() UpstreamStatus { return g.Status(time.Now()).Upstreams[0] }

const plainGet = "GET / HTTP/1.1\r\nHost: h\r\n\r\n"

// Which answers of a sick target are worth another one's.
func TestPassOver(t *testing.T) {
	t.Parallel()
	const post, put = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi", "PUT / HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
	const one = "[upstream.origin.retry]\nattempts = 1"
	for _, c := range []struct {
		intent, request, more string
		answer                func(net.Conn, *http.Request)
		over                  bool
	}{
		{"a bug, or a bad day", plainGet, "", saying(500, "sick"), true},
		{"a gateway's", plainGet, "", saying(502, "sick"), true},
		{"overloaded", plainGet, "", saying(503, "sick"), true},
		{"too late", plainGet, "", saying(504, "sick"), true},
		{"the body has not come, and never will", plainGet, "", raw("HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\nsi"), true},
		{"DELETE may be repeated", "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", "", saying(500, "sick"), true},
		{"garbage", plainGet, "", raw("SSH-2.0-x\r\n\r\n"), true},
		{"a head that breaks off", plainGet, "", raw("HTTP/1.1 200 OK\r\nContent-"), true},
		{"no answer at all", plainGet, "", raw(""), true},
		{"the last of them with a body that may be sent again", put, "", raw("HTTP/1.1 200 OK\r\nContent-"), true},
		{"the method is not known there", plainGet, "", saying(501, "sick"), false},
		{"nor the version", plainGet, "", saying(505, "sick"), false},
		{"a good answer", plainGet, "", saying(200, "sick"), false},
		{"the client's fault", plainGet, "", saying(404, "sick"), false},
		{"POST may not be repeated", post, "", saying(500, "sick"), false},
		{"a body was sent, and looked at", put, "", saying(500, "sick"), false},
		{"retries are off", plainGet, one, saying(500, "sick"), false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			sick, well := startActor(t, c.answer), startActor(t, saying(200, "well"))
			g := startGateway(t, actorsUpstream(c.more, sick, well))
			r, body := g.ask(t, c.request)
			want := "sick"
			if c.over {
				want = "well"
			}
			if body != want || r.Header.Get("X-Said") != want || sick.served.Load() != 1 {
				t.Errorf("answered %s %q after %d tries at the sick one, want %q", r.Status, body, sick.served.Load(), want)
			}
			u := g.upstream()
			if retries := map[bool]uint64{true: 1}[c.over]; u.Retries != retries || u.Targets[0].Requests != 1 || u.Targets[1].Requests != retries {
				t.Errorf("status %+v", u)
			}
			waitUntil(t, "nothing is in flight", func() bool {
				u := g.upstream()
				return u.Targets[0].InFlight+u.Targets[1].InFlight == 0
			})
		})
	}
}

// With no other target, or none that is well, an answer is relayed as it came, and nothing is sent twice.
func TestNothingToPassOverFor(t *testing.T) {
	t.Parallel()
	alone := startActor(t, saying(503, "alone"))
	g := startGateway(t, actorsUpstream("", alone))
	if r, body := g.ask(t, plainGet); r.StatusCode != 503 || body != "alone" || alone.served.Load() != 1 {
		t.Errorf("a single target: %s %q after %d tries", r.Status, body, alone.served.Load())
	}

	a, b := startActor(t, saying(500, "a")), startActor(t, saying(500, "b"))
	g = startGateway(t, actorsUpstream("[upstream.origin.breaker]\nmin_requests = 1\nopen_for = \"1h\"", a, b))
	if r, body := g.ask(t, plainGet); r.StatusCode != 500 || body != "b" {
		t.Errorf("both are sick: %s %q", r.Status, body)
	}
	if n := a.served.Load() + b.served.Load(); n != 2 {
		t.Errorf("%d tries at two sick targets", n)
	}
	waitUntil(t, "both breakers have opened", func() bool {
		u := g.upstream()
		return u.Targets[0].Opened == 1 && u.Targets[1].Opened == 1 && u.Targets[0].Failures == 1
	})
}

// A target takes as many requests as it may; others wait in a line that is short in length and time, and leave it
// when their clients do.
func TestMaxInFlight(t *testing.T) {
	t.Parallel()
	leave := make(chan struct{})
	slow := startActor(t, func(c net.Conn, r *http.Request) {
		<-leave
		saying(200, r.URL.Path)(c, r)
	})
	t.Cleanup(func() { close(leave) })
	g := startGateway(t, actorsUpstream("max_in_flight = 2\n[upstream.origin.timeouts]\nconnect = \"5s\"", slow))
	start := func(path string) *rawClient {
		c := dial(t, g.address)
		if _, err := io.WriteString(c, "GET "+path+" HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answer := func(c *rawClient, want string) {
		t.Helper()
		r, err := http.ReadResponse(c.in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, _ := io.ReadAll(r.Body); string(body) != want {
			t.Errorf("answered %s %s, want %s", r.Status, body, want)
		}
	}
	first, second := start("/1"), start("/2")
	waitUntil(t, "two are at the target", func() bool { return slow.served.Load() == 2 })
	third := start("/3")
	waitUntil(t, "the third waits", func() bool { return g.upstream().Waiting == 1 })
	gone := start("/gone")
	waitUntil(t, "so does the fourth", func() bool { return g.upstream().Waiting == 2 })
	r, body := g.ask(t, plainGet)
	if r.StatusCode != 503 || r.Header.Get("Retry-After") != "1" || !strings.Contains(body, `"reason":"upstream_busy"`) {
		t.Errorf("the fifth: %s %s", r.Status, body)
	}
	gone.Close()
	waitUntil(t, "the line lets go of one whose client left", func() bool { return g.upstream().Waiting == 1 })
	if u := g.upstream(); u.Targets[0].InFlight != 2 || u.Targets[0].Requests != 2 || u.Retries != 0 || u.Busy != 3 {
		t.Errorf("status %+v", u)
	}
	leave <- struct{}{}
	leave <- struct{}{}
	answer(first, "/1")
	answer(second, "/2")
	leave <- struct{}{}
	answer(third, "/3")
	waitUntil(t, "all have left", func() bool { u := g.upstream(); return u.Waiting == 0 && u.Targets[0].InFlight == 0 })
}

// Nobody waits longer than connecting may take.
func TestMaxInFlightTime(t *testing.T) {
	t.Parallel()
	stuck := startActor(t, func(net.Conn, *http.Request) {})
	g := startGateway(t, actorsUpstream("max_in_flight = 1\n[upstream.origin.timeouts]\nconnect = \"50ms\"", stuck))
	first := dial(t, g.address)
	if _, err := io.WriteString(first, plainGet); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, "one is at the target", func() bool { return stuck.served.Load() == 1 })
	if r, body := g.ask(t, plainGet); r.StatusCode != 503 || !strings.Contains(body, `"reason":"upstream_busy"`) {
		t.Errorf("%s %s", r.Status, body)
	}
	if n := stuck.served.Load(); n != 1 {
		t.Errorf("%d requests at a target that takes one", n)
	}
}

// A stream that begins well closes a breaker, though it has no end.
func TestStreamAsProbe(t *testing.T) {
	t.Parallel()
	a := startActor(t, saying(500, "sick"))
	g := startGateway(t, actorsUpstream("[upstream.origin.breaker]\nmin_requests = 1\nopen_for = \"50ms\"\nprobes = 1", a))
	g.ask(t, plainGet)
	a.plays(func(c net.Conn, _ *http.Request) {
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: 1\n\r\n")
	})
	var c *rawClient
	waitUntil(t, "the stream is let through", func() bool {
		c = dial(t, g.address)
		if _, err := io.WriteString(c, plainGet); err != nil {
			t.Fatal(err)
		}
		r, err := http.ReadResponse(c.in, nil)
		return err == nil && r.StatusCode == 200
	})
	if s := g.upstream().Targets[0]; s.Breaker != "closed" || s.InFlight != 1 {
		t.Errorf("while it streams: %+v", s)
	}
}

// A client that takes longer for a body than its route allows is no failure of the target; a target that does is.
func TestWhoTookTheTime(t *testing.T) {
	t.Parallel()
	const timeout, size = 300 * time.Millisecond, 64 << 20 // more than all sockets on the way hold
	slow := make(chan struct{})
	defer close(slow)
	a := startActor(t, func(c net.Conn, r *http.Request) {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		if r.URL.Path == "/slow" {
			<-slow
		}
		_, _ = io.CopyN(c, zeroes{}, size)
		_ = c.Close()
	})
	g := startGateway(t, actorsUpstream("[upstream.origin.breaker]\nmin_requests = 1", a)+"timeout = \"300ms\"\n")
	for _, c := range []struct {
		path    string
		breaker string
	}{{"/", "closed"}, {"/slow", "open"}} {
		began := time.Now()
		client := dial(t, g.address)
		if _, err := io.WriteString(client, "GET "+c.path+" HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		waitUntil(t, "the time is over", func() bool { return time.Since(began) > timeout+50*time.Millisecond })
		if n, _ := io.Copy(io.Discard, client.in); n >= size {
			t.Errorf("%s: the whole body came", c.path)
		}
		waitUntil(t, "the exchange ends", func() bool { return g.upstream().Targets[0].InFlight == 0 })
		if s := g.upstream().Targets[0]; s.Breaker != c.breaker {
			t.Errorf("%s: %+v", c.path, s)
		}
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) { return len(p), nil }

// waitUntil polls for what happens elsewhere in its own time.
func waitUntil(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("it never came to pass that %s", what)
		}
	}
}

// phonebook is a resolver that knows nobody, at first.
type phonebook struct{ address atomic.Pointer[string] }

func (p *phonebook) LookupNetIP(_ context.Context, _, _ string) ([]netip.Addr, error) {
	if a := p.address.Load(); a != nil {
		return []netip.Addr{netip.MustParseAddr(*a)}, nil
	}
	return nil, errors.New("the line is dead")
}

// A gateway starts although a name of its upstreams cannot be looked up, says so, and has it soon after. What it
// counts of a target survives a reload.
func TestNameIsUnknownAtFirst(t *testing.T) {
	t.Parallel()
	a := startActor(t, saying(200, "well"))
	_, port, _ := net.SplitHostPort(a.address)
	tables := publicRoute("users.internal:" + port)
	book := &phonebook{}
	g := &gateway{path: t.TempDir() + "/gateway.toml", address: freeAddress(t), resolver: book}
	g.write(t, tables)
	g.launch(t, func() uint64 { return 0 })
	if r, body := g.ask(t, plainGet); r.StatusCode != 503 || !strings.Contains(body, `"reason":"no_healthy_target"`) {
		t.Errorf("before it is known: %s %s", r.Status, body)
	}
	if u := g.upstream(); len(u.Targets) != 0 || len(u.Names) != 1 || u.Names[0].Error != "the line is dead" {
		t.Errorf("before it is known: %+v", u)
	}
	loopback := "127.0.0.1"
	book.address.Store(&loopback)
	waitUntil(t, "the name is known", func() bool { return len(g.upstream().Targets) == 1 })
	if r, body := g.ask(t, plainGet); r.StatusCode != 200 || body != "well" {
		t.Errorf("once it is known: %s %s", r.Status, body)
	}
	g.write(t, tables+"[upstream.other]\ntargets = [\"http://127.0.0.1:1\"]\n")
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	u := g.upstream()
	if len(u.Names) != 0 || u.Targets[0].Name != "users.internal:"+port || u.Targets[0].Address != a.address || u.Targets[0].Requests != 1 {
		t.Errorf("after a reload: %+v", u)
	}

	// One that is changed has its targets before it is in force: no request meets an upstream without any.
	g.write(t, strings.Replace(tables, "[[route]]", "resolve = \"1h\"\n[[route]]", 1))
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if u := g.upstream(); len(u.Targets) != 1 || u.Targets[0].Requests != 0 {
		t.Errorf("after a reload with another interval: %+v", u)
	}

	// Or the ones that were known before, if nobody answers then.
	book.address.Store(nil)
	g.write(t, strings.Replace(tables, "[[route]]", "resolve = \"2h\"\n[[route]]", 1))
	if err := g.Reload(); err != nil {
		t.Fatal(err)
	}
	if u := g.upstream(); len(u.Targets) != 1 || u.Targets[0].Address != a.address || len(u.Names) != 1 {
		t.Errorf("after a reload without a resolver: %+v", u)
	}
}
