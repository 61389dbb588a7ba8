package engine

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counted is one end of a connection that counts what is written to it.
type counted struct {
	net.Conn
	writes atomic.Int32
}

func (c *counted) Write(p []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(p)
}

// TestWritesOfAnAnswer: what is here goes out at once, for each write is a system call, and a packet.
func TestWritesOfAnAnswer(t *testing.T) {
	for _, c := range []struct {
		intent, answer string
		writes         int32
	}{
		{"head and body of a small answer go together", smallAnswer, 1},
		{"so do small chunks, up to the last", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, world\r\n0\r\n\r\n", 1},
		{"and the last chunk, if there is nothing else", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 1},
		{"a part of a body goes with the head", "HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n" + strings.Repeat("x", 20000), 4}, // the target's answer may come in as many
	} {
		t.Run(c.intent, func(t *testing.T) {
			g := startGateway(t, publicRoute(rawServer(t, c.answer)))
			for _, request := range []string{"GET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / HTTP/1.0\r\n\r\n"} {
				near, far := net.Pipe()
				client := &counted{Conn: far}
				served := make(chan struct{})
				go func() {
					defer close(served)
					_ = g.drive(lent{newConn(g.Engine, client, nil)})
				}()
				if _, err := io.WriteString(near, request); err != nil {
					t.Fatal(err)
				}
				response, err := http.ReadResponse(bufio.NewReader(near), nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.ReadAll(response.Body); err != nil {
					t.Fatal(err)
				}
				if n := client.writes.Load(); n > c.writes {
					t.Errorf("%q: %d writes, want %d", request, n, c.writes)
				}
				near.Close()
				<-served
			}
		})
	}
}

// TestHeadGoesAhead: a head does not wait for a body that is yet to come.
func TestHeadGoesAhead(t *testing.T) {
	for intent, head := range map[string]string{
		"of known length": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
		"in chunks":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a chunk's size":  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
		"until the close": "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n",
	} {
		t.Run(intent, func(t *testing.T) {
			g := startGateway(t, publicRoute(rawServer(t, head)))
			client := dial(t, g.address)
			if _, err := io.WriteString(client, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			if response, err := http.ReadResponse(client.in, nil); err != nil || response.StatusCode != 200 {
				t.Errorf("%v, %v", response, err)
			}
		})
	}
}

// deadlines is a connection that notes the deadlines of its reads.
type deadlines struct {
	net.Conn
	set []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error {
	d.set = append(d.set, t)
	return nil
}

// TestIdleBy: the deadline is never later than wanted, and not moved by each of many exchanges.
func TestIdleBy(t *testing.T) {
	d := &deadlines{}
	c := &conn{Conn: d}
	now := time.Unix(1_800_000_000, 0)
	for range 10_000 {
		now = now.Add(10 * time.Millisecond)
		limit := now.Add(time.Minute)
		if err := c.idleBy(now, limit); err != nil {
			t.Fatal(err)
		}
		if c.readBy.After(limit) || !c.readBy.After(now) {
			t.Fatalf("the deadline is %v from now", c.readBy.Sub(now))
		}
	}
	if n := len(d.set); n < 2 || n > 4 {
		t.Errorf("set %d times in 100 s, with an idle timeout of a minute", n)
	}
	if err := c.idleBy(now, now.Add(time.Second)); err != nil || !c.readBy.Equal(now.Add(time.Second)) {
		t.Errorf("a shorter timeout: %v from now, %v", c.readBy.Sub(now), err)
	}
}

// TestHaltIsNoDeadline: a body that is halted at its very end leaves a connection that is used again, and waits.
func TestHaltIsNoDeadline(t *testing.T) {
	d := &deadlines{}
	c := &conn{Conn: d}
	now := time.Now()
	if err := c.readUntil(now.Add(3 * time.Second)); err != nil { // as the body's last read
		t.Fatal(err)
	}
	x := &exchange{conn: c, pump: &pump{done: make(chan struct{})}}
	go func(p *pump) {
		for !x.halted.Load() {
			runtime.Gosched()
		}
		close(p.done)
	}(x.pump)
	x.stopPump()
	if err := c.idleBy(now, now.Add(5*time.Second)); err != nil {
		t.Fatal(err)
	}
	if last := d.set[len(d.set)-1]; !last.After(now) {
		t.Error("the connection's reads have given up before they begin")
	}
}
