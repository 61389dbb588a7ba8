package admin

import (
	"io"
	"net"
	"strings"
	"testing"

	"github.com/rs/zerolog"
)

// remote is a listener whose connections say that they came in on an address of the network.
type remote struct{ net.Listener }

func (l remote) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return remoteConn{c}, err
}

type remoteConn struct{ net.Conn }

func (remoteConn) LocalAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 9901} }

func TestTokenTakenAwayByReload(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	g := &fakeGateway{state: "serving"}
	serve(t, g, remote{l})
	if response, _ := ask(t, l, request{method: "POST", path: "/drain"}); response.StatusCode != 403 {
		t.Errorf("an address of the network without a token answers %d, want 403", response.StatusCode)
	}
	if g.drains.Load() > 0 {
		t.Error("drained")
	}
}

func TestConnectionsEndOnceNotReady(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, &fakeGateway{state: "draining"}, l)
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	all, err := io.ReadAll(conn) // ends only if the server closes
	if err != nil || !strings.Contains(string(all), "Connection: close") {
		t.Errorf("got %q, %v", all, err)
	}
}

func TestServeEndsWithItsListener(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	done := make(chan error, 1)
	s := New(&fakeGateway{state: "serving"}, zerolog.Nop())
	go func() { done <- s.Serve(l) }()
	if response, _ := ask(t, l, request{method: "GET", path: "/livez"}); response.StatusCode != 200 {
		t.Fatalf("status %d", response.StatusCode)
	}
	l.Close()
	if err := <-done; err != nil {
		t.Errorf("Serve after a handover closed its listener: %v", err)
	}
}
