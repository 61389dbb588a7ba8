package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/engine"
)

// pipes is a listener whose connections never leave the process, so that their deadlines keep to virtual time.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { close(p.closed); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }

type pipeConn struct{ net.Conn }

func (pipeConn) LocalAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// watchers is an admin side in a bubble of virtual time. end shuts it down.
func watchers(t *testing.T, g Gateway) (p *pipes, end func()) {
	t.Helper()
	p = &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	s := New(g, zerolog.Nop())
	done := make(chan error, 1)
	go func() { done <- s.Serve(p) }()
	return p, func() {
		if err := s.Shutdown(context.Background()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	}
}

// watcher reads a stream.
type watcher struct {
	net.Conn
	t        *testing.T
	response *http.Response
	in       *bufio.Reader
}

func (p *pipes) watch(t *testing.T) *watcher {
	t.Helper()
	near, far := net.Pipe()
	p.conns <- pipeConn{far}
	if _, err := io.WriteString(near, "GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(near), nil)
	if err != nil {
		t.Fatal(err)
	}
	return &watcher{near, t, response, bufio.NewReader(response.Body)}
}

// next reads an event; false: the stream has ended.
func (w *watcher) next() bool {
	w.t.Helper()
	var lines []string
	for {
		line, err := w.in.ReadString('\n')
		if err != nil {
			if len(lines) > 0 || line != "" {
				w.t.Errorf("the stream ends in an event: %q", append(lines, line))
			}
			return false
		}
		if line == "\n" {
			break
		}
		lines = append(lines, line)
	}
	if len(lines) != 2 || lines[0] != "event: status\n" || !strings.HasPrefix(lines[1], "data: ") {
		w.t.Fatalf("no event: %q", lines)
	}
	var s engine.Status
	if err := json.Unmarshal([]byte(lines[1][len("data: "):]), &s); err != nil || s.Version != "v1" {
		w.t.Fatalf("the event tells %q (%v)", lines[1], err)
	}
	return true
}

// count reads events for a time, and to the end of the last that has begun.
func (w *watcher) count(d time.Duration) (n int) {
	w.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); n++ {
		if !w.next() {
			w.t.Fatalf("the stream ended after %d events", n)
		}
	}
	return n
}

func TestEventsOutliveTheTimesOfRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := watchers(t, &fakeGateway{state: "serving"})
		w := p.watch(t)
		if got := w.response.Header.Get("Content-Type"); got != "text/event-stream" {
			t.Errorf("Content-Type %q", got)
		}
		if n := w.count(10 * answerTimeout); n < 295 || n > 305 {
			t.Errorf("%d events in %v, want one a second", n, 10*answerTimeout)
		}
		w.Close()
		end()
	})
}

func TestEventsAreMadeOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{state: "serving"}
		p, end := watchers(t, g)
		time.Sleep(time.Minute)
		if n := g.statuses.Load(); n != 0 {
			t.Errorf("%d pictures for nobody", n)
		}
		done := make(chan int)
		for i := range maxWatchers {
			go func() {
				time.Sleep(time.Duration(i) * 37 * time.Millisecond) // they come at any time
				w := p.watch(t)
				defer w.Close()
				done <- w.count(time.Minute)
			}()
		}
		for range maxWatchers {
			if n := <-done; n < 59 || n > 63 {
				t.Errorf("a watcher got %d pictures in a minute", n)
			}
		}
		if n := g.statuses.Load(); n < 60 || n > 63 {
			t.Errorf("%d pictures were made in a minute for %d watchers", n, maxWatchers)
		}
		end()
	})
}

func TestEventsTakeLittleOfTheTime(t *testing.T) {
	for _, c := range []struct {
		cost   time.Duration
		least  int // pictures in five minutes
		most   int
		intent string
	}{
		{10 * time.Millisecond, 295, 301, "what is made quickly comes each second"},
		{200 * time.Millisecond, 73, 76, "one part in twenty of the time"},
		{5 * time.Second, 29, 31, "so large a gateway is looked at all the same, before watchers give up"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := &fakeGateway{state: "serving", statusTime: c.cost}
				p, end := watchers(t, g)
				w := p.watch(t)
				w.count(5 * time.Minute)
				if n := int(g.statuses.Load()); n < c.least || n > c.most {
					t.Errorf("%d pictures in five minutes, want %d to %d", n, c.least, c.most)
				}
				w.Close()
				end()
			})
		})
	}
}

func TestEventsHaveSoManyPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := watchers(t, &fakeGateway{state: "serving"})
		var all []*watcher
		for range maxWatchers {
			w := p.watch(t)
			if w.response.StatusCode != 200 {
				t.Fatalf("watcher %d: status %d", len(all), w.response.StatusCode)
			}
			go io.Copy(io.Discard, w.in)
			all = append(all, w)
		}
		late := p.watch(t)
		var told problem
		if err := json.NewDecoder(late.in).Decode(&told); err != nil || late.response.StatusCode != 503 || told.Reason != "too_many_watchers" {
			t.Errorf("one watcher too many: status %d, %+v, %v", late.response.StatusCode, told, err)
		}
		late.Close()
		all[3].Close()
		time.Sleep(2 * eventPause)
		w := p.watch(t)
		if w.response.StatusCode != 200 {
			t.Errorf("after one has left: status %d", w.response.StatusCode)
		}
		go io.Copy(io.Discard, w.in)
		for _, w := range append(all, w) {
			w.Close()
		}
		end()
	})
}

func TestEventsCutWhoDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := watchers(t, &fakeGateway{state: "serving"})
		for range 3 * maxWatchers { // who are not cut keep their places
			w := p.watch(t)
			if w.response.StatusCode != 200 {
				t.Fatalf("status %d", w.response.StatusCode)
			}
			time.Sleep(eventTimeout) // a pipe holds nothing
			defer w.Close()
		}
		time.Sleep(eventTimeout)
		end()
	})
}

func TestEventsEndWithTheServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, end := watchers(t, &fakeGateway{state: "serving"})
		w := p.watch(t)
		w.count(3 * time.Second)
		ended := make(chan struct{})
		go func() {
			for w.next() {
			}
			close(ended)
		}()
		end() // waits for the streams
		<-ended
		w.Close()
	})
}

// A handover leaves the old process with its streams: they have to end for watchers to find the new one.
func TestEventsEndOnceWhenNotReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := &fakeGateway{state: "serving"}
		p, end := watchers(t, g)
		w := p.watch(t)
		w.count(3 * time.Second)
		g.unready.Store(true)
		for n := 0; w.next(); n++ {
			if n > 2 {
				t.Fatal("the stream goes on")
			}
		}
		again := p.watch(t)
		again.count(time.Minute) // it stays: there is no other process
		again.Close()
		w.Close()
		end()
	})
}
