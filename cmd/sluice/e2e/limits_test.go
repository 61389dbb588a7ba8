package e2e

import (
	"io"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limited is the configuration of one public route, with what [server] says beside its address.
func limited(server, url string) string {
	return "[server]\nlisten = [\"$LISTEN\"]\n" + server + "\n" + public(url)
}

// drip sends text byte by byte with pauses, until stop is closed.
func (c *client) drip(text string, pause time.Duration, stop <-chan struct{}) {
	ticker := time.NewTicker(pause)
	defer ticker.Stop()
	for i := range len(text) {
		select {
		case <-ticker.C:
			c.send(text[i : i+1])
		case <-stop:
			return
		}
	}
}

// A head has header_timeout to be complete, however it is spread over that time, and the upstream hears
// nothing of one that is not.
func TestSlowHeads(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, limited("header_timeout = \"300ms\"\nidle_timeout = \"500ms\"", up.url()))
	const whole = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, c := range []struct{ intent, first, raw string }{
		{"a new connection that stays silent", "", ""},
		{"an empty line and no more", "", "\r\n"},
		{"part of a request line", "", "GET /x HT"},
		{"a request line", "", "GET /x HTTP/1.1\r\n"},
		{"part of a field", "", "GET /x HTTP/1.1\r\nHost: "},
		{"all but the last byte", "", whole[:len(whole)-1]},
		{"behind a whole request", whole, "GET /x HT"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			client := g.dial(t)
			if c.first != "" {
				if r := client.do(c.first); r.status != 200 {
					t.Errorf("status %d", r.status)
				}
			}
			client.send(c.raw)
			r := client.receive("GET")
			r.expectProblem(t, 408, "request_timeout")
			if r.fields.get("Connection") != "close" {
				t.Errorf("Connection: %q", r.fields.get("Connection"))
			}
			client.expectClosed()
		})
	}
	t.Run("byte by byte", func(t *testing.T) {
		t.Parallel()
		client, stop := g.dial(t), make(chan struct{})
		defer close(stop)
		go client.drip("GET /x HTTP/1.1\r\nHost: h\r\nX-Long: "+strings.Repeat("a", 10_000), 20*time.Millisecond, stop)
		client.receive("GET").expectProblem(t, 408, "request_timeout")
	})
	t.Run("a connection that has been served just ends", func(t *testing.T) {
		t.Parallel()
		client := g.dial(t)
		client.do(whole)
		client.expectClosed()
	})
	t.Cleanup(func() {
		for _, r := range up.take() {
			if r.raw != "" && !strings.HasPrefix(r.raw, "GET /x HTTP/1.1\r\nHost: h\r\n") {
				t.Errorf("the upstream got %q", r.raw)
			}
		}
	})
}

// A connection that has been silent for seconds is served like any other, and has all of idle_timeout and no more.
func TestLongSilence(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, limited("idle_timeout = \"7s\"", up.url()))
	const whole = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"
	for _, c := range []struct {
		intent string
		pauses []time.Duration
	}{
		{"silent to the end", nil},
		{"a request after six seconds", []time.Duration{6 * time.Second}},
		{"two of them, a moment apart", []time.Duration{6 * time.Second, 100 * time.Millisecond}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			client := g.dial(t)
			_ = client.SetDeadline(time.Now().Add(patience + 15*time.Second))
			if r := client.do(whole); r.status != 200 {
				t.Errorf("status %d", r.status)
			}
			for _, pause := range c.pauses {
				<-time.After(pause)
				if r := client.do(whole); r.status != 200 {
					t.Errorf("status %d after %v", r.status, pause)
				}
			}
			since := time.Now()
			client.expectClosed()
			if took := time.Since(since); took < 6900*time.Millisecond {
				t.Errorf("closed after %v", took)
			}
		})
	}
}

// A body may take any time, if no pause is longer than body_idle_timeout; after one the client is told,
// and the upstream never sees the request's end.
func TestSlowBodies(t *testing.T) {
	t.Parallel()
	const post = "POST /x HTTP/1.1\r\nHost: h\r\n"
	for _, c := range []struct{ intent, raw string }{
		{"none of it", post + "Content-Length: 10\r\n\r\n"},
		{"a part of it", post + "Content-Length: 10\r\n\r\nhello"},
		{"a large one, but for a byte", post + "Content-Length: 200001\r\n\r\n" + strings.Repeat("a", 200_000)},
		{"no chunk", post + "Transfer-Encoding: chunked\r\n\r\n"},
		{"part of a chunk", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhe"},
		{"a chunk and no end", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
		{"no end of the trailers", post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"},
		{"told to go on", post + "Expect: 100-continue\r\nContent-Length: 10\r\n\r\n"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			up := startAnswering(t, ok)
			g := startGateway(t, limited(`body_idle_timeout = "300ms"`, up.url()))
			client, r := g.exchange(t, c.raw)
			r.expectProblem(t, 408, "request_timeout")
			client.expectClosed()
			for _, conn := range up.conns() {
				eventually(t, "the upstream's connection ends", conn.isClosed)
				if got := conn.received(); strings.Contains(got, "\r\n0\r\n") {
					t.Errorf("the upstream got a last chunk: %q", got)
				}
			}
			if got := up.take(); len(got) > 0 {
				t.Errorf("the upstream got %q", lines(got))
			}
			if strings.Contains(g.log.String(), "forwarding failed") {
				t.Error("the upstream was blamed")
			}
		})
	}
	t.Run("short pauses", func(t *testing.T) {
		t.Parallel()
		up := startAnswering(t, ok)
		g := startGateway(t, limited("header_timeout = \"400ms\"\nbody_idle_timeout = \"400ms\"", up.url()))
		client := g.dial(t)
		client.send(post + "Content-Length: 10\r\n\r\n")
		client.drip("0123456789", 80*time.Millisecond, nil)
		if r := client.receive("POST"); r.status != 200 || up.one(t).body != "0123456789" {
			t.Errorf("status %d", r.status)
		}
	})
}

// A request's line and fields together have max_header_bytes.
func TestLargeHeads(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	byDefault := startGateway(t, public(up.url()))
	small := startGateway(t, limited(`max_header_bytes = "1KiB"`, up.url()))
	const get = "GET /x HTTP/1.1\r\nHost: h\r\n"
	fill := func(size int) string { // a head of this size
		return get + "X-Long: " + strings.Repeat("a", size-len(get+"X-Long: \r\n\r\n")) + "\r\n\r\n"
	}
	for _, c := range []struct {
		intent string
		to     *gateway
		raw    string
		status int
		reason string
	}{
		{"a long path", byDefault, "GET /" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri_too_long"},
		{"a long query", byDefault, "GET /x?" + strings.Repeat("a", 17<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri_too_long"},
		{"a target without end", byDefault, "GET /" + strings.Repeat("a", 1<<20), 414, "uri_too_long"},
		{"a long field", byDefault, get + "X-Long: " + strings.Repeat("a", 17<<10) + "\r\n\r\n", 431, "header_too_large"},
		{"a field without end", byDefault, get + "X-Long: " + strings.Repeat("a", 1<<20), 431, "header_too_large"},
		{"a field name without end", byDefault, get + strings.Repeat("a", 1<<20), 431, "header_too_large"},
		{"many fields", byDefault, get + strings.Repeat("X-Many: 1\r\n", 2_000) + "\r\n", 431, "header_too_large"},
		{"fields without end", byDefault, get + strings.Repeat("A: b\r\n", 200_000), 431, "header_too_large"},
		{"as large as it may be", byDefault, fill(16 << 10), 200, ""},
		{"one byte larger", byDefault, fill(16<<10 + 1), 431, "header_too_large"},
		{"as large as is configured", small, fill(1 << 10), 200, ""},
		{"one byte larger than is configured", small, fill(1<<10 + 1), 431, "header_too_large"},
		{"a target longer than is configured", small, "GET /" + strings.Repeat("a", 1<<10) + " HTTP/1.1\r\nHost: h\r\n\r\n", 414, "uri_too_long"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			mark := up.size()
			client, r := c.to.exchange(t, c.raw)
			if c.status == 200 {
				if r.status != 200 {
					t.Errorf("status %d: %s", r.status, r.body)
				}
				return
			}
			r.expectProblem(t, c.status, c.reason)
			client.expectClosed()
			up.expectNothing(t, mark)
		})
	}
}

// Beyond max_connections a client is told so, at once, and the next one finds the place of one that left.
func TestMaxConnections(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, limited("max_connections = 2", up.url()))
	first, second := g.dial(t), g.dial(t)
	first.expectOpen()
	second.expectOpen()
	for intent, raw := range map[string]string{"asking": "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", "silent": ""} {
		t.Run(intent, func(t *testing.T) {
			client, r := g.exchange(t, raw)
			r.expectProblem(t, 503, "too_many_connections")
			if r.fields.get("Retry-After") == "" || r.fields.get("Connection") != "close" || r.cut != nil {
				t.Errorf("fields %v, cut: %v", r.fields, r.cut)
			}
			client.expectGone()
		})
	}
	first.expectOpen()
	second.Close()
	eventually(t, "a place is free", func() bool {
		r, err := readResponse(g.sent(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n").in, "GET")
		return err == nil && r.status == 200
	})
}

// sent is a new connection on which raw has been sent.
func (g *gateway) sent(t testing.TB, raw string) *client {
	t.Helper()
	c := g.dial(t)
	c.send(raw)
	return c
}

// What goes wrong behind the gateway is told with its own status and reason, in time, and costs the
// client nothing but the answer.
func TestUpstreamTimeouts(t *testing.T) {
	t.Parallel()
	silent := startRecorder(t, func(c *recorderConn) { c.waitEnd() })
	half := startRecorder(t, func(c *recorderConn) {
		c.head()
		c.write("HTTP/1.1 200 OK\r\nContent-Le")
		c.waitEnd()
	})
	const get, post = "GET /x HTTP/1.1\r\nHost: h\r\n\r\n", "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
	const response, route = "[upstream.up.timeouts]\nresponse = \"300ms\"", `timeout = "300ms"`
	for _, c := range []struct {
		intent, url, upstream, route, raw string
		status                            int
		reason                            string
	}{
		{"nobody listens", "http://" + freeAddress(t), "", "", get, 502, "upstream_connect"},
		{"nobody listens to a body", "http://" + freeAddress(t), "", "", post, 502, "upstream_connect"},
		{"nobody accepts", "http://" + fullListener(t), "[upstream.up.timeouts]\nconnect = \"200ms\"", "", get, 504, "upstream_connect_timeout"},
		{"nobody accepts in the route's timeout", "http://" + fullListener(t), "[upstream.up.timeouts]\nconnect = \"60s\"", route, get, 504, "upstream_timeout"},
		{"no answer in timeouts.response", silent.url(), response, "", get, 504, "upstream_timeout"},
		{"no answer to a body in timeouts.response", silent.url(), response, "", post, 504, "upstream_timeout"},
		{"half a head in timeouts.response", half.url(), response, "", get, 504, "upstream_timeout"},
		{"no answer in the route's timeout", silent.url(), "", route, get, 504, "upstream_timeout"},
		{"no answer to a body in the route's timeout", silent.url(), "", route, post, 504, "upstream_timeout"},
		{"half a head in the route's timeout", half.url(), "", route, get, 504, "upstream_timeout"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, toService(c.url, c.upstream, c.route))
			client := g.dial(t)
			for range 2 {
				start := time.Now()
				r := client.do(c.raw)
				r.expectProblem(t, c.status, c.reason)
				if whole := strings.Contains(r.body, "than its route allows"); whole != (c.route != "") {
					t.Errorf("the phase is not told: %s", r.body)
				}
				if took := time.Since(start); took > patience/4 {
					t.Errorf("took %v", took)
				}
			}
		})
	}
	t.Cleanup(func() {
		for _, c := range append(silent.conns(), half.conns()...) {
			if n := strings.Count(c.received(), " /x HTTP/1.1\r\n"); n > 1 {
				t.Errorf("a connection that failed got %d requests", n)
			}
		}
	})
}

// fullListener is an address where connections are not accepted, as its queue is full.
func fullListener(t testing.TB) string {
	t.Helper()
	l := listenAnywhere(t).(*net.TCPListener)
	t.Cleanup(func() { l.Close() })
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	// Listening again makes the queue shorter.
	if err := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), 0) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return l.Addr().String()
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the queue is never full")
	return ""
}

// A response that stops for longer than timeouts.idle ends in a way that cannot be taken for its end.
func TestUpstreamStopsInMidResponse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ intent, answer string }{
		{"with a length", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello"},
		{"in chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"},
		{"until the end", "HTTP/1.1 200 OK\r\n\r\nhello"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			up := startRecorder(t, func(conn *recorderConn) {
				conn.next()
				conn.write(c.answer)
				conn.waitEnd()
			})
			g := startGateway(t, toService(up.url(), "[upstream.up.timeouts]\nidle = \"300ms\"", ""))
			client, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
			if r.status != 200 || r.body != "hello" || r.cut == nil {
				t.Errorf("status %d, body %q, cut: %v", r.status, r.body, r.cut)
			}
			if _, err := io.ReadAll(client.in); err != nil && strings.Contains(err.Error(), "timeout") {
				t.Error("the connection is still open")
			}
			eventually(t, "the upstream's connection ends", up.conns()[0].isClosed)
		})
	}
}
