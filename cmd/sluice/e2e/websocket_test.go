package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// startSockets is an upstream of WebSockets: /echo answers each message with itself, /bye closes at once,
// /closed tells on the channel how the client closed, /refuse is no WebSocket.
func startSockets(t testing.TB) (up *service, closed chan websocket.CloseError) {
	t.Helper()
	closed = make(chan websocket.CloseError, 1)
	up = startService(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/refuse" {
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "not you")
			return
		}
		w.Header().Set("X-Seen", r.Header.Get("X-Custom")+" "+r.Header.Get("Origin"))
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{
			Subprotocols: []string{"chat.v2", "chat.v1"}, InsecureSkipVerify: true,
		})
		if err != nil {
			return
		}
		defer c.CloseNow()
		c.SetReadLimit(2 << 20)
		if r.URL.Path == "/bye" {
			_ = c.Close(websocket.StatusGoingAway, "moving on")
			return
		}
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil {
				var e websocket.CloseError
				if errors.As(err, &e) {
					closed <- e
				}
				return
			}
			if c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
	return up, closed
}

func TestWebSocket(t *testing.T) {
	up, closed := startSockets(t)
	g := startGateway(t, toService(up.URL, "", ""))
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	open := func(t *testing.T, path string, options *websocket.DialOptions) (*websocket.Conn, *http.Response) {
		t.Helper()
		c, r, err := websocket.Dial(ctx, "ws://"+g.address+path, options)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.CloseNow() })
		c.SetReadLimit(2 << 20)
		return c, r
	}

	t.Run("messages", func(t *testing.T) {
		c, _ := open(t, "/echo", nil)
		large, err := io.ReadAll(newPattern(1 << 20))
		if err != nil {
			t.Fatal(err)
		}
		for i, m := range []struct {
			kind websocket.MessageType
			data []byte
		}{
			{websocket.MessageText, []byte("héllo")},
			{websocket.MessageText, nil},
			{websocket.MessageBinary, []byte{0, 1, 255}},
			{websocket.MessageBinary, large},
			{websocket.MessageBinary, large[:65536]},
		} {
			if err := c.Write(ctx, m.kind, m.data); err != nil {
				t.Fatal(err)
			}
			kind, data, err := c.Read(ctx)
			if err != nil || kind != m.kind || !bytes.Equal(data, m.data) {
				t.Errorf("message %d came back as %v of %d bytes, %v", i, kind, len(data), err)
			}
		}
		reading := c.CloseRead(ctx)
		if err := c.Ping(ctx); err != nil {
			t.Errorf("ping: %v", err)
		}
		_ = c.Close(4321, "that was all")
		if e := within(t, "the upstream hears the close", closed); e.Code != 4321 || e.Reason != "that was all" {
			t.Errorf("the upstream heard %v", e)
		}
		<-reading.Done()
	})
	t.Run("the close is answered", func(t *testing.T) {
		c, _ := open(t, "/echo", nil)
		if err := c.Close(websocket.StatusNormalClosure, ""); err != nil {
			t.Errorf("the close handshake: %v", err)
		}
		within(t, "the upstream hears the close", closed)
	})
	t.Run("closed by the upstream", func(t *testing.T) {
		c, _ := open(t, "/bye", nil)
		_, _, err := c.Read(ctx)
		var e websocket.CloseError
		if !errors.As(err, &e) || e.Code != websocket.StatusGoingAway || e.Reason != "moving on" {
			t.Errorf("got %v", err)
		}
	})
	t.Run("headers and subprotocols", func(t *testing.T) {
		c, r := open(t, "/echo", &websocket.DialOptions{
			Subprotocols: []string{"chat.v1", "other"},
			HTTPHeader:   http.Header{"X-Custom": {"mine"}, "Origin": {"http://example.com"}},
		})
		if c.Subprotocol() != "chat.v1" || r.Header.Get("X-Seen") != "mine http://example.com" {
			t.Errorf("subprotocol %q, headers %v", c.Subprotocol(), r.Header)
		}
	})
	t.Run("refused", func(t *testing.T) {
		c := g.dial(t)
		for range 2 {
			r := c.do("GET /refuse HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n" +
				"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
			if r.status != 403 || r.body != "not you" || r.fields.has("Upgrade") {
				t.Errorf("%s %v %q", r.line, r.fields, r.body)
			}
		}
		c.expectOpen()
	})
	if strings.Contains(g.log.String(), `"level":"warn"`) {
		t.Errorf("the log complains:\n%s", g.log.String())
	}
}

const askEcho = "HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

const answerEcho = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"

// TestUpgradedHalves ends one way of an upgraded connection and goes on using the other, for longer than the
// gateway takes to notice a client that left.
func TestUpgradedHalves(t *testing.T) {
	const pieces = 10
	heard := make(chan string, 1)
	up := startRaw(t, func(c *rawConn, _ <-chan struct{}) {
		head := c.head()
		c.write(answerEcho)
		drip := func() {
			for range pieces {
				c.write("piece\n")
				time.Sleep(50 * time.Millisecond)
			}
			_ = c.CloseWrite()
		}
		hear := func() {
			all, err := io.ReadAll(c.in)
			heard <- fmt.Sprint(string(all), err)
		}
		if strings.HasPrefix(head, "GET /client-first ") {
			hear()
			drip()
			return
		}
		drip()
		hear()
	})
	g := startGateway(t, toService(up, "", ""))
	all := strings.Repeat("piece\n", pieces)

	t.Run("the client first", func(t *testing.T) {
		c := g.dial(t)
		c.send("GET /client-first " + askEcho)
		c.receive("GET")
		c.send("request")
		_ = c.CloseWrite()
		if got := within(t, "the upstream hears the end", heard); got != "request<nil>" {
			t.Errorf("the upstream heard %q", got)
		}
		if got, err := io.ReadAll(c.in); string(got) != all || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
	t.Run("the upstream first", func(t *testing.T) {
		c := g.dial(t)
		c.send("GET /upstream-first " + askEcho)
		c.receive("GET")
		if got, err := io.ReadAll(c.in); string(got) != all || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
		for range pieces {
			c.send("piece\n")
			time.Sleep(50 * time.Millisecond)
		}
		_ = c.CloseWrite()
		if got := within(t, "the upstream hears the end", heard); got != all+"<nil>" {
			t.Errorf("the upstream heard %q", got)
		}
	})
}

// TestUpgradedLeave cuts one end of an upgraded connection: the other one is told, and nobody is blamed.
func TestUpgradedLeave(t *testing.T) {
	ended := make(chan error, 1)
	up := startRaw(t, func(c *rawConn, _ <-chan struct{}) {
		head := c.head()
		c.write(answerEcho)
		if strings.HasPrefix(head, "GET /reset ") {
			_ = c.SetLinger(0)
			return
		}
		_, err := io.Copy(io.Discard, c.in)
		ended <- err
	})
	g := startGateway(t, toService(up, "", ""))
	for _, reset := range []bool{false, true} {
		c := g.dial(t)
		c.send("GET / " + askEcho)
		c.receive("GET")
		if reset {
			_ = c.SetLinger(0)
		}
		_ = c.Close()
		within(t, "the upstream's connection ends", ended)
	}
	c := g.dial(t)
	c.send("GET /reset " + askEcho)
	c.receive("GET")
	c.expectClosed()
	eventually(t, "no connection is left", func() bool { return g.status(t).Connections == 0 })
}

// TestUpgradedIdle lets upgraded connections rest: they end when both ways have been silent for the idle
// timeout, and not while one of them is in use.
func TestUpgradedIdle(t *testing.T) {
	const idle = 400 * time.Millisecond
	up := startRaw(t, func(c *rawConn, done <-chan struct{}) {
		head := c.head()
		c.write(answerEcho)
		if strings.HasPrefix(head, "GET /one-way ") {
			for range 15 {
				c.write(".")
				select {
				case <-time.After(idle / 5):
				case <-done:
				}
			}
		}
		_, _ = io.Copy(io.Discard, c.in)
	})
	g := startGateway(t, toService(up, "timeouts = { idle = \"400ms\" }", ""))
	for path, least := range map[string]time.Duration{"/silent ": idle, "/one-way ": 3 * idle} {
		c := g.dial(t)
		c.send("GET " + path + askEcho)
		c.receive("GET")
		began := time.Now()
		_, err := io.ReadAll(c.in)
		if took := time.Since(began); errors.Is(err, os.ErrDeadlineExceeded) || took < least-idle/4 {
			t.Errorf("%s ended after %v with %v", path, took, err)
		}
	}
}

// TestUpgradedEarlyBytes sends bytes right behind the heads, in the same packet.
func TestUpgradedEarlyBytes(t *testing.T) {
	up := startRaw(t, func(c *rawConn, _ <-chan struct{}) {
		c.head()
		c.write(answerEcho + "early from the upstream;")
		_, _ = io.Copy(c.TCPConn, c.in)
	})
	g := startGateway(t, toService(up, "", ""))
	c := g.dial(t)
	c.send("GET / " + askEcho + "early from the client;")
	if r := c.receive("GET"); r.status != 101 {
		t.Fatal(r.line)
	}
	c.expectBytes("early from the upstream;early from the client;")
	c.expectEcho("later")
}

// TestUpgradeRefused has upstreams switch when they were not asked to, or to something else, and clients ask
// in ways that are no upgrade.
func TestUpgradeRefused(t *testing.T) {
	heads := make(chan string, 10)
	up := startRaw(t, func(c *rawConn, _ <-chan struct{}) {
		for head := c.head(); head != ""; head = c.head() {
			heads <- head
			switch {
			case strings.HasPrefix(head, "GET /switches "):
				c.write(answerEcho)
				return
			case strings.HasPrefix(head, "GET /other "):
				c.write(strings.Replace(answerEcho, "echo", "other", 1))
				return
			}
			if strings.Contains(head, "Content-Length: 4") {
				_, _ = io.CopyN(io.Discard, c.in, 4)
			}
			c.write(answerOK)
		}
	})
	g := startGateway(t, toService(up, "", ""))
	c := g.dial(t)
	for _, raw := range []string{
		"GET /switches HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /switches HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\n\r\n", // without Connection
		"GET /other " + askEcho,
	} {
		c.do(raw).expectProblem(t, 502, "upstream_upgrade")
		within(t, "the upstream is asked", heads)
	}
	for _, raw := range []string{
		"POST /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 4\r\n\r\nbody",
		"GET /x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
		"GET /x HTTP/1.0\r\nHost: h\r\nConnection: Upgrade, keep-alive\r\nUpgrade: echo\r\n\r\n",
	} {
		if r := c.do(raw); r.status != 200 {
			t.Errorf("%q: %s", raw, r.line)
		}
		if head := within(t, "the upstream is asked", heads); strings.Contains(head, "Upgrade") {
			t.Errorf("the upstream was asked to switch: %q", head)
		}
	}
	c.expectOpen()
}
