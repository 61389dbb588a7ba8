package e2e

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// serveWebSocket echoes messages; a text that begins with "close" makes it close with 4001.
func serveWebSocket(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/refused" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: []string{"chat"}})
	if err != nil {
		return
	}
	defer c.CloseNow()
	c.SetReadLimit(4 << 20)
	for {
		kind, data, err := c.Read(r.Context())
		if err != nil {
			return
		}
		if string(data) == "close" {
			_ = c.Close(4001, "as asked")
			return
		}
		if c.Write(r.Context(), kind, data) != nil {
			return
		}
	}
}

func TestWebSocket(t *testing.T) {
	up := startService(t, serveWebSocket)
	g := startGateway(t, toService(up.URL, "", ""))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	open := func() *websocket.Conn {
		c, _, err := websocket.Dial(ctx, "ws://"+g.address+"/", &websocket.DialOptions{Subprotocols: []string{"chat"}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.CloseNow() })
		c.SetReadLimit(4 << 20)
		return c
	}
	c := open()
	if c.Subprotocol() != "chat" {
		t.Errorf("subprotocol %q", c.Subprotocol())
	}
	big, _ := io.ReadAll(newPattern(1 << 20))
	for _, message := range []struct {
		kind websocket.MessageType
		data string
	}{{websocket.MessageText, "text"}, {websocket.MessageBinary, "\x00\xff"}, {websocket.MessageBinary, string(big)}} {
		if err := c.Write(ctx, message.kind, []byte(message.data)); err != nil {
			t.Fatal(err)
		}
		kind, data, err := c.Read(ctx)
		if err != nil || kind != message.kind || string(data) != message.data {
			t.Errorf("%d bytes came back as %d, %v", len(message.data), len(data), err)
		}
	}
	_ = c.Write(ctx, websocket.MessageText, []byte("close"))
	if _, _, err := c.Read(ctx); websocket.CloseStatus(err) != 4001 {
		t.Errorf("the server's close came as %v", err)
	}
	c = open()
	reading := c.CloseRead(ctx)
	if err := c.Ping(ctx); err != nil || reading.Err() != nil {
		t.Errorf("ping: %v", err)
	}
	if err := open().Close(4002, "enough"); err != nil {
		t.Errorf("the client's close was not answered: %v", err)
	}
}

func TestUpgradeRefused(t *testing.T) {
	up := startService(t, serveWebSocket)
	g := startGateway(t, toService(up.URL, "", ""))
	c := g.dial(t)
	for range 2 {
		if r := c.do("GET /refused HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"); r.status != 403 || r.body != "no\n" {
			t.Errorf("got %s %q", r.line, r.body)
		}
	}
}

const switching = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// TestTunnelBytes has both sides send right behind their heads, and end one after the other.
func TestTunnelBytes(t *testing.T) {
	for _, first := range []string{"client", "upstream"} {
		t.Run(first+" ends first", func(t *testing.T) {
			url := startRaw(t, func(c *rawConn, _ <-chan struct{}) {
				c.head()
				c.write(switching + "behind")
				if first == "upstream" {
					_ = c.CloseWrite()
				}
				got, _ := io.ReadAll(c.in)
				if first == "client" {
					c.write(strings.ToUpper(string(got)))
				}
			})
			g := startGateway(t, toService(url, "", ""))
			c := g.dial(t)
			c.send("GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly ")
			if r := c.receive("GET"); r.status != 101 {
				t.Fatalf("got %s", r.line)
			}
			c.expectBytes("behind")
			c.send("late")
			if first == "client" {
				_ = c.CloseWrite()
				c.expectBytes("EARLY LATE")
			}
			if first == "upstream" {
				_, _ = c.in.Peek(1)
				_ = c.CloseWrite()
			}
			c.expectClosed()
		})
	}
}

func TestTunnelIdle(t *testing.T) {
	up := startLongLived(t)
	g := startGateway(t, toService(up.URL, "timeouts = { idle = \"300ms\" }", ""))
	c := g.upgrade(t, "/")
	c.expectEcho("x")
	began := time.Now()
	c.expectClosed()
	if passed := time.Since(began); passed < 250*time.Millisecond {
		t.Errorf("closed after %v", passed)
	}
}

func TestNoUpgrade(t *testing.T) {
	tests := []struct{ intent, request string }{
		{"unasked", "GET / HTTP/1.1\r\nHost: h\r\n\r\n"},
		{"a request with a body cannot be upgraded", "POST / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 2\r\n\r\nhi"},
		{"h2c would go around the gateway", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n"},
		{"another protocol than asked for", "GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n"},
	}
	up := startAnswering(t, func(*request) string { return switching })
	g := startGateway(t, toService(up.url(), "", ""))
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			_, r := g.exchange(t, test.request)
			r.expectProblem(t, 502, "upstream_upgrade")
			for _, got := range up.take() {
				if !strings.Contains(test.request, "other") && (got.fields.has("Upgrade") || got.fields.has("HTTP2-Settings")) {
					t.Errorf("the upstream got %v", got.fields)
				}
			}
		})
	}
}
