package engine

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth/revocation"
)

// deafServer takes what it is sent and never answers.
func deafServer(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(io.Discard, c)
			}()
		}
	}()
	return l.Addr().String()
}

// An upload is a stream like any other: it ends when its credential is revoked, however long its route's timeout.
func TestRevocationEndsUploads(t *testing.T) {
	t.Parallel()
	tables, key, _ := credentials(t, deafServer(t))
	g := startGateway(t, tables)
	revoked, other := dial(t, g.address), dial(t, g.address)
	for client, head := range map[*rawClient]string{revoked: "/key/1 HTTP/1.1\r\nX-API-Key: " + key, other: "/users/1 HTTP/1.1\r\nX-Nothing: 1"} {
		if _, err := client.Write([]byte("POST " + head + "\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	for begun := time.Now(); g.uploading() < 1; time.Sleep(time.Millisecond) {
		if time.Since(begun) > 5*time.Second {
			t.Fatal("nobody is known to upload")
		}
	}
	if _, err := g.Revoke(context.Background(), revocation.Entry{Kind: revocation.Client, ID: "mobile"}); err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, revoked); err != nil && n == 0 && isTimeout(err) {
		t.Errorf("the upload goes on: %v", err)
	}
	if _, err := other.Write([]byte("2\r\nhi\r\n")); err != nil {
		t.Errorf("an upload of nobody's has ended too: %v", err)
	}
	if err := other.SetReadDeadline(time.Now().Add(3 * watchInterval)); err != nil {
		t.Fatal(err)
	}
	if _, err := other.Read(make([]byte, 1)); !isTimeout(err) {
		t.Errorf("an upload of nobody's has ended too: %v", err)
	}
}

// uploading is how many connections carry something that belongs to somebody.
func (g *gateway) uploading() (n int) {
	g.conns.mu.Lock()
	defer g.conns.mu.Unlock()
	for c := range g.conns.open {
		if c.holder.Load() != nil {
			n++
		}
	}
	return n
}
