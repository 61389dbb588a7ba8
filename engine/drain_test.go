package engine

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"
)

// hooked is a connection of which something happens right after bytes were read.
type hooked struct {
	net.Conn
	after func()
}

func (h hooked) Read(p []byte) (int, error) {
	n, err := h.Conn.Read(p)
	h.after()
	return n, err
}

// TestDismissed: a drain that closes a silent connection while its next request is being read leaves no request that
// is served, and cannot be answered.
func TestDismissed(t *testing.T) {
	g := startGateway(t, publicRoute(rawServer(t, smallAnswer)))
	near, far := net.Pipe()
	served := make(chan struct{})
	go func() {
		defer close(served)
		client := hooked{Conn: far, after: func() { g.conns.closeIdle(time.Now().Add(time.Hour), time.Second) }}
		_ = g.drive(lent{newConn(g.Engine, client, nil)})
	}()
	_ = near.SetDeadline(time.Now().Add(10 * time.Second))
	_, _ = io.WriteString(near, usualRequest)
	if answer, _ := io.ReadAll(near); len(answer) > 0 {
		t.Errorf("the answer is %q, after the connection was closed", answer)
	}
	<-served
	if n := g.Status(time.Now()).Upstreams[0].Targets[0].Requests; n != 0 {
		t.Errorf("%d requests were served that nobody waits for", n)
	}
}

// lateListener holds back what it has accepted.
type lateListener struct {
	net.Listener
	accepted, release chan struct{}
}

func (l lateListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		close(l.accepted)
		<-l.release
	}
	return c, err
}

// TestDrainAndAccept: a client that is being accepted when a drain begins is drained as well. It has nothing to say,
// and would be waited for as long as it has for that.
func TestDrainAndAccept(t *testing.T) {
	g := &gateway{path: t.TempDir() + "/gateway.toml", address: freeAddress(t)}
	g.writeServer(t, "drain = \"200ms\"\nheader_timeout = \"1h\"\n", publicRoute(rawServer(t, smallAnswer)))
	g.launch(t, rand.Uint64)
	socket, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := lateListener{Listener: socket, accepted: make(chan struct{}), release: make(chan struct{})}
	g.reloading.Lock()
	g.accept([]*acceptor{{Listener: l, engine: g.Engine, address: address{name: "late"}}})
	g.reloading.Unlock()
	client := dial(t, socket.Addr().String())
	<-l.accepted
	_ = socket.Close()

	drained := make(chan struct{})
	go func() {
		defer close(drained)
		g.Drain(context.Background())
	}()
	eventually(t, g.draining)
	time.Sleep(2 * drainPoll) // a drain that looks only once has looked
	close(l.release)
	client.expectEnd(t)
	select {
	case <-drained:
	case <-time.After(10 * time.Second):
		t.Error("the drain waits for a client that came late")
		client.Close()
		<-drained
	}
}

// TestDrainAndLinger: a client that was answered early, and still sends, is read from as long as it would be without a
// drain: a reset could overtake its answer.
func TestDrainAndLinger(t *testing.T) {
	g := startGateway(t, publicRoute(rawServer(t, smallAnswer)))
	client := dial(t, g.address)
	_, _ = io.WriteString(client, "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000000\r\n\r\n")
	if line, err := client.in.ReadString('\n'); !strings.Contains(line, " 413 ") {
		t.Fatalf("%q, %v", line, err)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		g.Drain(context.Background())
	}()
	eventually(t, g.draining)
	select {
	case <-drained:
		t.Error("the drain ended while a client was sending")
	case <-time.After(4 * drainPoll):
	}
	client.Close()
	select {
	case <-drained:
	case <-time.After(10 * time.Second):
		t.Error("the drain waits for a client that has left")
	}
}
