package upstream

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/socket"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// origin is a target under the test's control: the connections it accepted, in order.
type origin struct {
	net.Listener
	accepted chan net.Conn
}

func startOrigin(t *testing.T) *origin {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	o := &origin{Listener: l, accepted: make(chan net.Conn, 16)}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { c.Close() })
			o.accepted <- c
		}
	}()
	return o
}

func (o *origin) target(t *testing.T, maxIdle int) *Target {
	t.Helper()
	p, err := New(Config{
		Name: "test", MaxIdle: maxIdle, Targets: []TargetConfig{{Address: o.Addr().String(), Weight: 1}},
		Timeouts: Timeouts{Connect: time.Second}, Poller: startPoller(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseIdle)
	return p.Targets()[0]
}

// startPoller starts a poller, which ends with the test.
func startPoller(t testing.TB) *socket.Poller {
	t.Helper()
	p, err := socket.NewPoller()
	if err != nil {
		t.Fatal(err)
	}
	p.Start()
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// polledPair is a connection: an end that a poller watches, and the other one.
func polledPair(t testing.TB) (near *socket.Conn, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	if near, err = startPoller(t).Adopt(c); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func acquire(t *testing.T, target *Target) *Conn {
	t.Helper()
	c, err := target.Acquire(time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// answered makes one exchange in which the origin answers with the bytes given.
func (o *origin) answered(t *testing.T, c *Conn, far net.Conn, method, answer string) (*Response, error) {
	t.Helper()
	if err := c.Send([]byte(method+" / HTTP/1.1\r\nHost: h\r\n\r\n"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(far, answer); err != nil {
		t.Fatal(err)
	}
	return c.Receive([]byte(method), time.Now().Add(time.Second))
}

const plainAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// TestReuse: what may come back from the pool, and what may not.
func TestReuse(t *testing.T) {
	for _, c := range []struct {
		intent, method, answer string
		late                   string // comes while the connection is idle; "FIN" closes it
		reusable, reused       bool
	}{
		{"a clean exchange", "GET", plainAnswer, "", true, true},
		{"a chunked one", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "", true, true},
		{"the target closes it", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", "", false, false},
		{"HTTP/1.0 closes", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", "", false, false},
		{"HTTP/1.0 that says it stays", "GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", "", true, true},
		{"two answers at once", "GET", plainAnswer + plainAnswer, "", false, false},
		{"a body where none may be", "HEAD", plainAnswer, "", false, false},
		{"an answer that nobody asked for, later", "GET", plainAnswer, plainAnswer, true, false},
		{"a single stray byte, later", "GET", plainAnswer, "\n", true, false},
		{"closed while idle", "GET", plainAnswer, "FIN", true, false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			o := startOrigin(t)
			target := o.target(t, 4)
			conn := acquire(t, target)
			far := <-o.accepted
			response, err := o.answered(t, conn, far, c.method, c.answer)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(&response.Body); err != nil {
				t.Fatal(err)
			}
			if got := conn.Reusable(); got != c.reusable {
				t.Fatalf("reusable: %v", got)
			}
			if !c.reusable {
				target.Discard(conn)
				return
			}
			target.Release(conn)
			if c.late == "FIN" {
				far.Close()
			} else if _, err := io.WriteString(far, c.late); err != nil {
				t.Fatal(err)
			}
			if c.late != "" {
				waitFor(t, func() bool { return !conn.clean() })
			}
			next := acquire(t, target)
			defer target.Discard(next)
			if next.Reused() != c.reused {
				t.Errorf("reused: %v", next.Reused())
			}
		})
	}
}

// waitFor polls for what the kernel does in its own time.
func waitFor(t *testing.T, holds func() bool) {
	t.Helper()
	deadline := time.Now().Add(5 * time.Second)
	for !holds() {
		if time.Now().After(deadline) {
			t.Fatal("it never came to pass")
		}
		time.Sleep(time.Millisecond)
	}
}

func TestIdleConnectionsAreBounded(t *testing.T) {
	o := startOrigin(t)
	target := o.target(t, 1)
	one, two := acquire(t, target), acquire(t, target)
	target.Release(one)
	target.Release(two)
	if open, idle := target.Connections(); open != 1 || idle != 1 {
		t.Errorf("%d open, %d idle, want one", open, idle)
	}
}

func TestRetiredPoolKeepsNothing(t *testing.T) {
	o := startOrigin(t)
	target := o.target(t, 4)
	idle, leased := acquire(t, target), acquire(t, target)
	target.Release(idle)
	target.retire()
	target.Release(leased)
	if open, _ := target.Connections(); open != 0 {
		t.Errorf("%d connections are open", open)
	}
}

// TestErrors: the phase and the nature of an error decide what the engine does with it.
func TestErrors(t *testing.T) {
	for _, c := range []struct {
		intent, answer      string
		answered, malformed bool
	}{
		{"closed without an answer", "", false, false},
		{"closed in the middle of the head", "HTTP/1.1 200 OK\r\nA: ", true, false},
		{"no HTTP", "SSH-2.0-x\r\n\r\n", true, true},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", true, true},
		{"interim answers without end", manyInterim(), true, true},
	} {
		t.Run(c.intent, func(t *testing.T) {
			o := startOrigin(t)
			target := o.target(t, 4)
			conn := acquire(t, target)
			defer target.Discard(conn)
			far := <-o.accepted
			go func() {
				_, _ = io.WriteString(far, c.answer)
				_ = far.(*net.TCPConn).CloseWrite()
			}()
			_, err := conn.Receive([]byte("GET"), time.Now().Add(5*time.Second))
			var e *Error
			if !errors.As(err, &e) || e.Phase != PhaseHead || e.Answered != c.answered || e.Malformed() != c.malformed {
				t.Errorf("got %#v", err)
			}
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		o := startOrigin(t)
		target := o.target(t, 4)
		o.Close()
		_, err := target.Acquire(time.Time{})
		var e *Error
		if !errors.As(err, &e) || e.Phase != PhaseConnect || e.Timeout() {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nobody answers", func(t *testing.T) {
		o := startOrigin(t)
		target := o.target(t, 4)
		conn := acquire(t, target)
		defer target.Discard(conn)
		_, err := conn.Receive([]byte("GET"), time.Now().Add(10*time.Millisecond))
		var e *Error
		if !errors.As(err, &e) || !e.Timeout() || e.Answered {
			t.Errorf("got %v", err)
		}
	})
}

func manyInterim() string {
	answer := ""
	for range maxInterim + 1 {
		answer += "HTTP/1.1 103 Early Hints\r\n\r\n"
	}
	return answer
}

func TestInterimAnswersArePassedOver(t *testing.T) {
	o := startOrigin(t)
	target := o.target(t, 4)
	conn := acquire(t, target)
	defer target.Discard(conn)
	response, err := o.answered(t, conn, <-o.accepted, "GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"+plainAnswer)
	if err != nil || response.Status.Code != 200 || response.Framing.Kind != wire.Length {
		t.Errorf("got %+v, %v", response, err)
	}
}

// TestHeadByIsTooLateForTheBody: the sender's deadline moves the wait for the head, never the body's.
func TestHeadByIsTooLateForTheBody(t *testing.T) {
	o := startOrigin(t)
	target := o.target(t, 4)
	conn := acquire(t, target)
	defer target.Discard(conn)
	far := <-o.accepted
	response, err := o.answered(t, conn, far, "GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no")
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Stream(5*time.Second, time.Time{}); err != nil {
		t.Fatal(err)
	}
	conn.HeadBy(time.Unix(1, 0))
	go func() { _, _ = io.WriteString(far, "k") }()
	if body, err := io.ReadAll(&response.Body); err != nil || string(body) != "ok" {
		t.Errorf("got %q, %v", body, err)
	}
}

// settle waits until it is known that nothing has come on an idle connection. Others that are opened let the poller look.
func settle(t *testing.T, target *Target, c *Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for end := time.Now().Add(10 * time.Second); !c.settled(); {
		if time.Now().After(end) {
			t.Fatal("it never settles")
		}
		other, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		adopted, err := target.poller.Adopt(other)
		if err != nil {
			t.Fatal(err)
		}
		_ = adopted.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = adopted.Write([]byte("x"))
		_ = adopted.Close()
	}
}

// The connection that was given back last is leased first, once it is known to be silent: those that a lull does not need
// grow old, and are closed.
func TestReuseOfTheLast(t *testing.T) {
	o := startOrigin(t)
	target := o.target(t, 4)
	var leased []*Conn
	for range 3 {
		leased = append(leased, acquire(t, target))
	}
	sockets := []net.Conn{}
	for _, c := range leased {
		sockets = append(sockets, c.Conn)
		if response, err := o.answered(t, c, <-o.accepted, "GET", "HTTP/1.1 204 No\r\n\r\n"); err != nil || !response.Body.Done() {
			t.Fatal(err)
		}
		target.Release(c)
		settle(t, target, c)
	}
	for i := len(sockets) - 1; i >= 0; i-- {
		if c := acquire(t, target); c.Conn != sockets[i] {
			t.Errorf("the %d. lease is not of the last connection given back", len(sockets)-i)
		}
	}
}
