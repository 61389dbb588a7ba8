package upstream

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
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
			lends := httptest.NewTLSServer(nil) // its certificate
			defer lends.Close()
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go answerCorked(l, lends.TLS.Certificates, plainAnswer, c.extra)
			roots := x509.NewCertPool()
			roots.AddCert(lends.Certificate())
			p, err := New(Config{Name: "u", MaxIdle: 4, Poller: startPoller(t), Timeouts: Timeouts{Connect: 5 * time.Second, Response: 5 * time.Second},
				Targets: []TargetConfig{{Address: l.Addr().String(), TLS: true, Weight: 1}}, TLS: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12, ServerName: "example.com"}})
			if err != nil {
				t.Fatal(err)
			}
			defer p.CloseIdle()
			target := p.Targets()[0]
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
