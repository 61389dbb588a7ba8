package engine

import (
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// sharing is an upstream whose connections are shared.
func sharing(more string, actors ...*actor) string {
	return actorsUpstream("pipeline = 32\n"+more, actors...)
}

// listening counts the connections on which an actor plays.
type listening struct {
	mu    sync.Mutex
	conns map[net.Conn]int
}

func (l *listening) note(c net.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conns == nil {
		l.conns = map[net.Conn]int{}
	}
	l.conns[c]++
}

func (l *listening) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

// TestLaneRequests: which requests share a connection. While one is being answered, another one that shares waits on
// the same connection, and one that does not gets its own.
func TestLaneRequests(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		intent, request string
		shares          bool
	}{
		{"GET", "GET / HTTP/1.1\r\nHost: h\r\n\r\n", true},
		{"HEAD", "HEAD / HTTP/1.1\r\nHost: h\r\n\r\n", true},
		{"OPTIONS", "OPTIONS / HTTP/1.1\r\nHost: h\r\n\r\n", true},
		{"PUT without a body: what is asked twice may differ", "PUT / HTTP/1.1\r\nHost: h\r\n\r\n", false},
		{"DELETE", "DELETE / HTTP/1.1\r\nHost: h\r\n\r\n", false},
		{"POST", "POST / HTTP/1.1\r\nHost: h\r\n\r\n", false},
		{"GET with a body", "GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nx", false},
		{"GET with chunks", "GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", false},
		{"an upgrade", "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n", false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			var on listening
			a := startActor(t, func(conn net.Conn, r *http.Request) {
				on.note(conn)
				_, _ = fmt.Fprint(conn, "HTTP/1.1 204 No\r\n\r\n")
			})
			g := startGateway(t, sharing("", a))
			first := dial(t, g.address)
			for _, request := range []string{plainGet, c.request} {
				if _, err := first.Write([]byte(request)); err != nil {
					t.Fatal(err)
				}
				r, err := http.ReadResponse(first.in, &http.Request{Method: "HEAD"})
				if err != nil || r.StatusCode != 204 {
					t.Fatal(r, err)
				}
			}
			if got := on.count() == 1; got != c.shares {
				t.Errorf("shares: %v", got)
			}
		})
	}
}

// TestLaneMoves: who waits behind a slow answer is asked once more on a connection of its own: that is no try of its
// own, and nothing against the target.
func TestLaneMoves(t *testing.T) {
	t.Parallel()
	slow, enough := make(chan struct{}), make(chan struct{})
	a := startActor(t, func(c net.Conn, r *http.Request) {
		if r.URL.Path == "/slow" {
			close(slow)
			<-enough
		}
		saying(200, r.URL.Path)(c, r)
	})
	g := startGateway(t, sharing("[upstream.origin.retry]\nattempts = 1\n", a))
	ask := func(path string) {
		if r, body := g.ask(t, strings.Replace(plainGet, "GET /", "GET "+path, 1)); r.StatusCode != 200 || !strings.HasPrefix(body, path) {
			t.Errorf("%s: %s %q", path, r.Status, body)
		}
	}
	var first, others sync.WaitGroup
	first.Go(func() { ask("/slow") })
	<-slow
	quick := 2 * runtime.GOMAXPROCS(0) // some of them share with the first
	for i := range quick {
		others.Go(func() { ask(fmt.Sprint("/quick", i)) })
	}
	others.Wait()
	close(enough)
	first.Wait()
	u := g.upstream()
	if target := u.Targets[0]; target.Requests != uint64(1+quick) || target.Failures != 0 || u.Retries != 0 || target.Moved == 0 {
		t.Errorf("%+v", u)
	}
}

// TestLaneClientLeaves: a client that leaves while others wait behind it takes nobody's connection away.
func TestLaneClientLeaves(t *testing.T) {
	t.Parallel()
	var on listening
	a := startActor(t, func(c net.Conn, r *http.Request) {
		on.note(c)
		saying(200, r.URL.Path)(c, r)
	})
	g := startGateway(t, sharing("", a))
	for i := range 20 {
		leaves := dial(t, g.address)
		if _, err := leaves.Write([]byte(plainGet)); err != nil {
			t.Fatal(err)
		}
		leaves.Close()
		path := fmt.Sprint("/stays", i)
		if r, body := g.ask(t, strings.Replace(plainGet, "GET /", "GET "+path, 1)); r.StatusCode != 200 || !strings.HasPrefix(body, path) {
			t.Errorf("%s %q", r.Status, body)
		}
	}
	eventually(t, func() bool { return g.upstream().Targets[0].InFlight == 0 })
	if n := on.count(); n > 3+runtime.GOMAXPROCS(0) { // as clients of different processors share nothing
		t.Errorf("%d connections", n)
	}
}

// TestLaneTimeouts: who waits in a lane is bound by the upstream's time for a response and by the route's, and fails as
// with a connection of its own.
func TestLaneTimeouts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ intent, upstream, route, reason string }{
		{"the response's", "[upstream.origin.timeouts]\nresponse = \"100ms\"\n", "", "upstream_timeout"},
		{"the route's", "", "timeout = \"100ms\"\n", "longer than its route allows"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			a := startActor(t, func(net.Conn, *http.Request) {})
			g := startGateway(t, sharing("[upstream.origin.retry]\nattempts = 1\n"+c.upstream, a)+c.route)
			began := time.Now()
			r, body := g.ask(t, plainGet)
			if took := time.Since(began); r.StatusCode != 504 || !strings.Contains(body, c.reason) || took < 90*time.Millisecond {
				t.Errorf("%s %s after %v", r.Status, body, took)
			}
			eventually(t, func() bool { u := g.upstream().Targets[0]; return u.InFlight == 0 && u.Connections == u.Idle })
		})
	}
}
