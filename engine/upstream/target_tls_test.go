package upstream

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"
)

// TestReuseTLS: what came along with an answer, in a record of its own, does not answer the next request.
func TestReuseTLS(t *testing.T) {
	for _, c := range []struct {
		intent string
		extra  string
		reused bool
	}{
		{"a clean exchange", "", true},
		{"an answer that nobody asked for, in a record of its own", plainAnswer, false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			target, l, certificates := secureTarget(t, 0)
			go answerCorked(l, certificates, plainAnswer, c.extra)
			conn := acquire(t, target)
			get(t, conn)
			if !conn.Reusable() {
				t.Fatal("not reusable")
			}
			target.Release(conn)
			_ = l.Close() // so that there is no other connection
			next, err := target.Acquire(time.Now().Add(time.Second))
			if got := err == nil && next.Reused(); got != c.reused {
				t.Errorf("reused: %v", got)
			}
			if err == nil {
				if c.reused {
					get(t, next)
				}
				target.Discard(next)
			}
		})
	}
}

// secureTarget is a target that is to be served on a listener, with these certificates.
func secureTarget(t *testing.T, pipeline int) (*Target, net.Listener, []tls.Certificate) {
	t.Helper()
	lends := httptest.NewTLSServer(nil) // its certificate
	t.Cleanup(lends.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	roots := x509.NewCertPool()
	roots.AddCert(lends.Certificate())
	p, err := New(Config{Name: "u", MaxIdle: 4, Pipeline: pipeline, Poller: startPoller(t), Epoch: time.Now(), Timeouts: Timeouts{Connect: 5 * time.Second, Response: 5 * time.Second},
		Targets: []TargetConfig{{Address: l.Addr().String(), TLS: true, Weight: 1}}, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "example.com"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.CloseIdle)
	return p.Targets()[0], l, lends.TLS.Certificates
}

// TestCutWaitsForNobody: who cuts a lease does not wait for a target over TLS that takes nothing in any more, as the
// farewell of TLS would, for five seconds.
func TestCutWaitsForNobody(t *testing.T) {
	for _, shared := range []bool{false, true} {
		t.Run(fmt.Sprint("shared ", shared), func(t *testing.T) {
			target, l, certificates := secureTarget(t, map[bool]int{true: 8}[shared])
			ended := make(chan struct{})
			defer close(ended)
			go beginAnswer(l, certificates, ended)
			var lease Lease
			var conn *Conn
			if shared {
				p := target.Place(0)
				if _, err := p.Ask(request("GET", "n"), false, time.Time{}); err != nil {
					t.Fatal(err)
				}
				lease, conn = p, p.conn
			} else {
				conn = acquire(t, target)
				if err := conn.Send(request("GET", "n"), time.Now().Add(5*time.Second)); err != nil {
					t.Fatal(err)
				}
				if _, err := conn.Receive([]byte("GET"), time.Now().Add(5*time.Second)); err != nil {
					t.Fatal(err)
				}
				lease = conn
			}
			for filler, n := make([]byte, 64<<10), 1; n > 0; { // until not a byte more is taken
				_ = conn.socket.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
				n, _ = conn.socket.Write(filler)
			}
			_ = conn.socket.SetWriteDeadline(time.Time{})
			began := time.Now()
			lease.Tether().Cut()
			if took := time.Since(began); took > 2500*time.Millisecond {
				t.Errorf("it took %v", took)
			}
			target.Discard(lease)
		})
	}
}

// beginAnswer sends the head of an answer, and neither sends nor reads anything after it.
func beginAnswer(l net.Listener, certificates []tls.Certificate, until <-chan struct{}) {
	raw, err := l.Accept()
	if err != nil {
		return
	}
	defer raw.Close()
	secure := tls.Server(raw, &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS13})
	if _, err := secure.Read(make([]byte, 1024)); err != nil {
		return
	}
	_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
	<-until
}

// get makes an exchange.
func get(t *testing.T, conn *Conn) {
	t.Helper()
	if err := conn.Send(request("GET", "n"), time.Now().Add(5*time.Second)); err != nil {
		t.Fatal(err)
	}
	response, err := conn.Receive([]byte("GET"), time.Now().Add(5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(&response.Body); err != nil || string(body) != "ok" {
		t.Fatalf("%q, %v", body, err)
	}
}

// answerCorked answers two requests on a connection, each with these records in one packet.
func answerCorked(l net.Listener, certificates []tls.Certificate, records ...string) {
	raw, err := l.Accept()
	if err != nil {
		return
	}
	defer raw.Close()
	below := &corked{Conn: raw, out: bufio.NewWriterSize(raw, 1<<16)}
	secure := tls.Server(below, &tls.Config{Certificates: certificates, MinVersion: tls.VersionTLS13, SessionTicketsDisabled: true})
	if secure.Handshake() != nil {
		return
	}
	below.held = true
	asked := make([]byte, 1024)
	for range 2 {
		if _, err := secure.Read(asked); err != nil {
			return
		}
		for _, record := range records {
			if record != "" {
				_, _ = io.WriteString(secure, record)
			}
		}
		_ = below.out.Flush()
	}
}

// corked is a connection that holds back what is written to it, until it is flushed.
type corked struct {
	net.Conn
	out  *bufio.Writer
	held bool
}

func (c *corked) Write(p []byte) (int, error) {
	if !c.held {
		return c.Conn.Write(p)
	}
	return c.out.Write(p)
}
