package engine

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestSlowClient: who takes some of an answer within each body_idle_timeout gets all of it, in however many of those; who
// takes nothing is given up, and not before one is over. TLS, which cannot go on after a write that failed, is no
// different.
func TestSlowClient(t *testing.T) {
	const pause = 300 * time.Millisecond
	const size = 16 << 20 // more than both systems take in
	g := &gateway{path: t.TempDir() + "/gateway.toml", address: freeAddress(t)}
	cert, key := certificateFiles(t)
	secure := freeAddress(t)
	g.writeServer(t, fmt.Sprintf("body_idle_timeout = %q\n[server.tls]\nlisten = [%q]\ncertificates = [{ cert = %q, key = %q }]\n", pause, secure, cert, key),
		publicRoute(rawServer(t, fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))))
	g.launch(t, rand.Uint64)
	for _, address := range []string{g.address, secure} {
		client, r := beginSlowly(t, address, address == secure)
		var taken, n int64
		var err error
		var longest time.Duration
		last := time.Now()
		for i := 0; i < 16 && err == nil; i++ {
			<-time.After(pause / 4)
			n, err = io.CopyN(io.Discard, r.Body, 256<<10)
			taken += n
			longest, last = max(longest, time.Since(last)), time.Now()
		}
		if err == nil {
			n, err = io.Copy(io.Discard, r.Body)
			taken += n
		}
		if (err != nil || taken != size) && longest < pause {
			t.Errorf("%d of %d bytes, %v; the longest pause was %v", taken, size, err, longest)
		}
		_ = client.Close()
		eventually(t, func() bool { return g.conns.count() == 0 })

		client, _ = beginSlowly(t, address, address == secure)
		last = time.Now()
		eventually(t, func() bool { return g.conns.count() == 0 })
		if waited := time.Since(last); waited < pause {
			t.Errorf("given up after %v", waited)
		}
		_ = client.Close()
	}
}

// beginSlowly asks, and takes the head of the answer and little more.
func beginSlowly(t *testing.T, address string, secure bool) (*rawClient, *http.Response) {
	t.Helper()
	client := dial(t, address)
	_ = client.Conn.(*net.TCPConn).SetReadBuffer(32 << 10)
	if secure {
		over := tls.Client(client.Conn, &tls.Config{InsecureSkipVerify: true}) // #nosec G402 -- any certificate will do
		client = &rawClient{Conn: over, in: bufio.NewReader(over)}
	}
	if _, err := io.WriteString(client, usualRequest); err != nil {
		t.Fatal(err)
	}
	r, err := http.ReadResponse(client.in, nil)
	if err != nil {
		t.Fatal(err)
	}
	return client, r
}
