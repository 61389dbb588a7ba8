package upstream

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

const (
	goodAnswer  = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	strayAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
)

// TestLaneStrayInHand: bytes that come before anything was asked answer no request that is sent after them, wherever they
// are by then: in the hands of the receiver, or of TLS, which took them along with the last answer.
func TestLaneStrayInHand(t *testing.T) {
	for _, row := range []struct {
		intent string
		gate   gated
		used   bool // the connection, before it was a lane
		before func(s *strayTest)
		lost   bool // who asks then must not be answered
	}{
		{"they have been taken, and not been noted", gated{after: 2}, false, func(s *strayTest) {
			s.exchange(goodAnswer)
			s.send(strayAnswer)
		}, true},
		{"TLS has them", gated{piece: len(goodAnswer), before: 2}, false, func(s *strayTest) {
			s.exchange(goodAnswer + strayAnswer)
		}, true},
		{"they have been taken before the first request", gated{after: 1}, true, func(s *strayTest) {
			s.begin()
			s.send(strayAnswer)
		}, true},
		{"none have come", gated{before: 2}, false, func(s *strayTest) { s.exchange(goodAnswer) }, false},
		{"none have come on a new connection", gated{before: 1}, false, func(s *strayTest) { s.begin() }, false},
	} {
		t.Run(row.intent, func(t *testing.T) {
			s := newStrayTest(t, &row.gate, row.used)
			row.before(s)
			<-row.gate.stands
			replies := s.ask()
			s.takeRequest()
			if !row.lost {
				s.send(goodAnswer)
			}
			close(row.gate.goOn)
			r := <-replies
			var failed *Error
			switch {
			case !row.lost && (r.body != "ok" || r.err != nil):
				t.Errorf("%q, %v", r.body, r.err)
			case row.lost && (!errors.As(r.err, &failed) || failed.Answered):
				t.Errorf("%q, %v, want that it was not answered", r.body, r.err)
			}
		})
	}
}

// gated is a stream of which one read stops where a test wants it to. Like TLS it may take more than it gives.
type gated struct {
	net.Conn
	piece         int // most bytes that one read gives; 0: all
	before, after int // which read stops before it looks, or with what it has; from 1; 0: none
	reads         int // that gave something
	rest          []byte
	stands        chan struct{} // gets one when the read has stopped
	goOn          chan struct{}
}

func (g *gated) Read(p []byte) (int, error) {
	g.stop(&g.before)
	if len(g.rest) == 0 {
		taken := make([]byte, len(p))
		n, err := g.Conn.Read(taken)
		if err != nil {
			return 0, err
		}
		g.rest = taken[:n]
	}
	g.stop(&g.after)
	g.reads++
	n := len(g.rest)
	if g.piece > 0 {
		n = min(n, g.piece)
	}
	n = copy(p, g.rest[:n])
	g.rest = g.rest[n:]
	return n, nil
}

func (g *gated) stop(at *int) {
	if g.reads+1 == *at {
		*at = 0
		g.stands <- struct{}{}
		<-g.goOn
	}
}

// strayTest is a lane on a socket, the other end of which is the test's.
type strayTest struct {
	testing.TB
	lanes *lanes
	far   net.Conn
	in    *bufio.Reader
}

func newStrayTest(t testing.TB, gate *gated, used bool) *strayTest {
	t.Helper()
	below, far := polledPair(t)
	gate.Conn, gate.stands, gate.goOn = below, make(chan struct{}), make(chan struct{})
	conn := newConn(gate, below, &readers{})
	if used {
		conn.reset()
	}
	var work sync.WaitGroup
	s := &strayTest{TB: t, far: far, in: bufio.NewReader(far)}
	c := Config{Pipeline: 8, MaxIdle: 1, Epoch: time.Now(), Timeouts: Timeouts{Connect: time.Second, Response: 10 * time.Second}}
	s.lanes = newLanes(&single{conn: conn}, &c, &work, nil)
	t.Cleanup(func() {
		_ = far.Close()
		s.lanes.retire()
		work.Wait()
	})
	return s
}

// single lends one connection, once.
type single struct{ conn *Conn }

func (s *single) Acquire(time.Time) (*Conn, error) {
	c := s.conn
	if s.conn = nil; c == nil {
		return nil, &Error{Phase: PhaseConnect, Err: io.ErrClosedPipe}
	}
	return c, nil
}

func (s *single) Release(l Lease) { s.Discard(l) }

func (s *single) Discard(l Lease) { _ = l.(*Conn).Conn.Close() }

// begin opens the lane for nobody.
func (s *strayTest) begin() {
	g := &s.lanes.groups[0]
	g.mu.Lock()
	defer g.mu.Unlock()
	g.begin()
}

// reply is what became of a request.
type reply struct {
	body string
	err  error
}

// ask makes a request.
func (s *strayTest) ask() <-chan reply {
	p, replies := s.lanes.place(0), make(chan reply, 1)
	go func() {
		defer func() { p.end(nil, false) }()
		r, err := p.Ask(request("GET", "n"), false, time.Time{})
		if err != nil {
			replies <- reply{err: err}
			return
		}
		body, err := io.ReadAll(&r.Body)
		replies <- reply{string(body), err}
	}()
	return replies
}

// exchange is a request that is answered.
func (s *strayTest) exchange(answer string) {
	s.Helper()
	replies := s.ask()
	s.takeRequest()
	s.send(answer)
	if r := <-replies; r.body != "ok" || r.err != nil {
		s.Fatal(r.body, r.err)
	}
}

func (s *strayTest) takeRequest() {
	s.Helper()
	if _, err := http.ReadRequest(s.in); err != nil {
		s.Fatal(err)
	}
}

func (s *strayTest) send(answer string) {
	s.Helper()
	if _, err := io.WriteString(s.far, answer); err != nil {
		s.Fatal(err)
	}
}
