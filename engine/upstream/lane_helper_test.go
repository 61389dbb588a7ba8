package upstream

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// errRaced goes with the error of a request whose connection may have been closed before the target saw it.
var errRaced = errors.New("on a connection that was used before")

// pipes is a target of lanes over pipes: each connection is served by a script. It is a lender.
type pipes struct {
	serve    func(c *pipeEnd)
	refuse   bool
	dialling time.Duration
	mu       sync.Mutex
	opened   int
	released []*Conn
	served   sync.WaitGroup
	most     int // requests that a connection had in flight
}

// pipeEnd is the target's end of a connection.
type pipeEnd struct {
	net.Conn
	requests chan pipeRequest // those that have come; closed when the gateway closes the connection
}

type pipeRequest struct{ method, nonce string }

func (p *pipes) Acquire(time.Time) (*Conn, error) {
	time.Sleep(p.dialling)
	if p.refuse {
		return nil, &Error{Phase: PhaseConnect, Err: io.ErrClosedPipe}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := len(p.released); n > 0 {
		c := p.released[n-1]
		p.released = p.released[:n-1]
		return c, nil
	}
	p.opened++
	near, far := net.Pipe()
	end := &pipeEnd{Conn: far, requests: make(chan pipeRequest, 1000)}
	p.served.Go(func() { p.listen(end) })
	p.served.Go(func() {
		defer far.Close()
		p.serve(end)
	})
	return newConn(near, nil, &readers{}), nil
}

// listen takes requests in as fast as they come.
func (p *pipes) listen(c *pipeEnd) {
	defer close(c.requests)
	in := bufio.NewReader(c)
	for {
		r, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		c.requests <- pipeRequest{r.Method, r.Header.Get("X-Nonce")}
		p.mu.Lock()
		p.most = max(p.most, len(c.requests))
		p.mu.Unlock()
	}
}

func (p *pipes) Release(l Lease) {
	c := l.(*Conn)
	c.reset()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.released = append(p.released, c)
}

func (p *pipes) Discard(l Lease) { _ = l.(*Conn).Conn.Close() }

func (p *pipes) close() {
	for _, c := range p.released {
		_ = c.Conn.Close()
	}
	p.served.Wait()
}

// laneTest is lanes to a target over pipes, in a bubble of synctest.
type laneTest struct {
	*lanes
	*pipes
	work sync.WaitGroup
}

func newLaneTest(depth int, serve func(c *pipeEnd)) *laneTest {
	l := &laneTest{pipes: &pipes{serve: serve}}
	c := &Config{Pipeline: depth, MaxIdle: 1, Epoch: time.Now(), Timeouts: Timeouts{Connect: time.Second, Response: 5 * time.Second}}
	l.lanes = newLanes(l.pipes, c, &l.work, nil)
	l.lanes.groups = l.lanes.groups[:1]
	return l
}

// end retires the lanes and waits for all that they have begun.
func (l *laneTest) end() {
	l.retire()
	l.work.Wait()
	l.pipes.close()
}

func (l *laneTest) open() int {
	g := &l.lanes.groups[0]
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}

func request(method, nonce string) []byte {
	return []byte(method + " / HTTP/1.1\r\nHost: h\r\nX-Nonce: " + nonce + "\r\n\r\n")
}

// ask asks by a place, as the engine does, and gives the status and the body.
func (l *laneTest) ask(method, nonce string, deadline time.Time) (status int, body string, err error) {
	p := l.place(0)
	if p == nil {
		return 0, "", ErrMoved
	}
	return l.askBy(p, method, nonce, deadline)
}

func (l *laneTest) askBy(p *Place, method, nonce string, deadline time.Time) (status int, body string, err error) {
	defer func() { p.end(nil, p.Reusable()) }()
	r, err := p.Ask(request(method, nonce), method == "HEAD", deadline)
	var e *Error
	if errors.As(err, &e) && !e.Answered && p.Reused() {
		err = errors.Join(e, errRaced)
	}
	if err != nil {
		return 0, "", err
	}
	if err := p.Stream(time.Second, time.Time{}); err != nil {
		return r.Status.Code, "", err
	}
	all, err := io.ReadAll(&r.Body)
	if errors.Is(err, io.ErrClosedPipe) { // as a pipe says that its other end is closed
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return r.Status.Code, string(all), err
	}
	for _, f := range r.Fields {
		if string(f.Name) == "X-Nonce" && string(f.Value) != nonce {
			return r.Status.Code, string(all), fmt.Errorf("the answer to %s is that to %s", nonce, f.Value)
		}
	}
	if strings.Trim(string(all), nonce+" ") != "" {
		return r.Status.Code, string(all), fmt.Errorf("the answer to %s has the body of another one: %.100q", nonce, all)
	}
	return r.Status.Code, string(all), nil
}

// answerTo is a good answer with so many times the nonce in its body.
func answerTo(r pipeRequest, times int) []byte {
	var b bytes.Buffer
	body := strings.Repeat(r.nonce+" ", times)
	fmt.Fprintf(&b, "HTTP/1.1 200 OK\r\nX-Nonce: %s\r\nContent-Length: %d\r\n\r\n", r.nonce, len(body))
	if r.method != "HEAD" {
		b.WriteString(body)
	}
	return b.Bytes()
}

func chunkedTo(r pipeRequest) []byte {
	if r.method == "HEAD" {
		return []byte("HTTP/1.1 200 OK\r\nX-Nonce: " + r.nonce + "\r\nTransfer-Encoding: chunked\r\n\r\n")
	}
	return fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nX-Nonce: %s\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", r.nonce, len(r.nonce), r.nonce)
}

// well answers all requests at once.
func well(c *pipeEnd) {
	for r := range c.requests {
		if _, err := c.Write(answerTo(r, 1)); err != nil {
			return
		}
	}
}

// slowly answers each request after a time.
func slowly(pause time.Duration) func(c *pipeEnd) {
	return func(c *pipeEnd) {
		for r := range c.requests {
			time.Sleep(pause)
			if _, err := c.Write(answerTo(r, 1)); err != nil {
				return
			}
		}
	}
}

// whimsical answers as it likes, from one request to the next.
func whimsical(seed uint64) func(c *pipeEnd) {
	var connections atomic.Uint64
	return func(c *pipeEnd) {
		dice := rand.New(rand.NewPCG(seed, connections.Add(1)))
		for r := range c.requests {
			if !whim(c, r, dice.IntN(40), dice.IntN(50)) {
				return
			}
		}
	}
}

func whim(c *pipeEnd, r pipeRequest, kind, n int) bool {
	answer, last := answerTo(r, 1+n), false
	switch kind {
	case 0:
		time.Sleep(time.Duration(n) * time.Millisecond)
	case 1:
		answer = chunkedTo(r)
	case 2:
		answer = answerTo(r, 30_000)
	case 3: // in dribs
		for i := range answer {
			if _, err := c.Write(answer[i : i+1]); err != nil {
				return false
			}
			time.Sleep(time.Duration(n) * 10 * time.Microsecond)
		}
		return true
	case 4:
		answer = append([]byte("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"), answer...)
	case 5:
		return false
	case 6:
		answer, last = bytes.Replace(answer, []byte("\r\n"), []byte("\r\nConnection: close\r\n"), 1), true
	case 7:
		answer, last = answer[:n%len(answer)], true
	case 8:
		answer = []byte("SSH-2.0-x\r\n\r\n")
	case 9:
		answer = []byte("HTTP/1.1 204 No\r\nX-Nonce: " + r.nonce + "\r\n\r\n")
	case 10:
		answer, last = []byte("HTTP/1.1 200 OK\r\nX-Nonce: "+r.nonce+"\r\n\r\n"+r.nonce), true
	case 11:
		answer = []byte("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n")
	case 12: // the body stops in the middle for a while
		if _, err := c.Write(answer[:len(answer)-1]); err != nil {
			return false
		}
		time.Sleep(time.Duration(n) * time.Millisecond)
		answer = answer[len(answer)-1:]
	}
	_, err := c.Write(answer)
	return err == nil && !last
}
