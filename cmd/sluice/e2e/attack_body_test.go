package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A client that cuts its upload short, at whatever byte, leaves the upstream with a request that is
// plainly not whole: no last chunk, fewer bytes than announced.
func TestClientCutsItsRequest(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))
	head := "POST /x HTTP/1.1\r\nHost: h\r\n"
	lengthy := head + "Content-Length: 10\r\n\r\n0123456789"
	chunky := head + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5;x=y\r\nworld\r\n0\r\nX-Sum: 1\r\n\r\n"

	type cut struct {
		raw  string
		half bool // the client only ends its sending side, and waits for an answer
	}
	var cuts []cut
	for _, raw := range []string{lengthy, chunky} {
		for end := strings.Index(raw, "\r\n\r\n") + 1; end < len(raw); end++ {
			cuts = append(cuts, cut{raw[:end], false}, cut{raw[:end], true})
		}
	}
	for _, c := range cuts {
		client := g.dial(t)
		client.send(c.raw)
		if c.half {
			_ = client.CloseWrite()
			client.expectNoSuccess()
		}
		client.Close()
	}
	eventually(t, "all upstream connections of cut requests are closed", func() bool {
		for _, conn := range up.conns() {
			if !conn.isClosed() {
				return false
			}
		}
		return true
	})
	for _, r := range up.take() {
		t.Errorf("the upstream took a cut request for a whole one: %q", r.raw)
	}
	for _, conn := range up.conns() {
		if got := conn.received(); strings.Contains(got, "\r\n0\r\n") {
			t.Errorf("the upstream got a last chunk: %q", got)
		}
	}
	if log := g.log.String(); strings.Contains(log, "forwarding failed") {
		t.Error("the upstream was blamed")
	}
	g.dial(t).expectOpen()
}

// expectNoSuccess reads to the end; the gateway must not say that the request was fine.
func (c *client) expectNoSuccess() {
	c.t.Helper()
	if r, err := readResponse(c.in, "POST"); err == nil && r.status < 400 {
		c.t.Errorf("a cut request was answered with %d", r.status)
	}
}

// An upstream that cuts its response short must not look to the client as if it had finished, and
// neither connection is used again.
func TestUpstreamCutsItsResponse(t *testing.T) {
	t.Parallel()
	const h = "HTTP/1.1 200 OK\r\n"
	chunked := h + "Transfer-Encoding: chunked\r\n\r\n"
	big := strings.Repeat("a", 100_000)
	for _, c := range []struct {
		intent, answer string
		visible        bool // the head had been passed on when it was cut; else 502
	}{
		{"nothing of a Content-Length", h + "Content-Length: 10\r\n\r\n", true},
		{"half of a Content-Length", h + "Content-Length: 10\r\n\r\nhello", true},
		{"all but one byte of much", h + "Content-Length: 100001\r\n\r\n" + big, true},
		{"Connection: close does not make a length optional", h + "Connection: close\r\nContent-Length: 10\r\n\r\nhello", true},
		{"an HTTP/1.0 length", "HTTP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nhello", true},
		{"no chunk", chunked, true},
		{"in a size", chunked + "5", true},
		{"behind a size", chunked + "5\r\n", true},
		{"in a chunk", chunked + "5\r\nhel", true},
		{"at a chunk's end", chunked + "5\r\nhello", true},
		{"between chunks, where fasthttp sees a clean end", chunked + "5\r\nhello\r\n", true},
		{"in the last chunk", chunked + "5\r\nhello\r\n0", true},
		{"behind the last chunk", chunked + "5\r\nhello\r\n0\r\n", true},
		{"in a trailer", chunked + "5\r\nhello\r\n0\r\nX: y", true},
		{"behind a trailer", chunked + "5\r\nhello\r\n0\r\nX: y\r\n", true},
		{"a chunk that is malformed", chunked + "5\r\nhello\r\nzz\r\n\r\n", true},
		{"a chunk with a bare LF", chunked + "5\nhello\r\n0\r\n\r\n", true},
		{"a trailer that is malformed", chunked + "5\r\nhello\r\n0\r\nX Y: z\r\n\r\n", true},
		{"a head", "HTTP/1.1 200 OK\r\nContent-Le", false},
		{"behind a status line", "HTTP/1.1 200 OK\r\n", false},
		{"in a status line", "HTTP/1.", false},
		{"before a byte", "", false},
		{"behind an interim response", "HTTP/1.1 103 Early Hints\r\n\r\n", false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			up := startTarget(t, c.answer)
			g := startGateway(t, public(up.url()))
			for _, version := range []string{"1.1", "1.0"} {
				// POST is not tried again, so what the client gets is of this one answer.
				client := g.dial(t)
				client.send("POST /x HTTP/" + version + "\r\nHost: h\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n")
				r, err := readResponse(client.in, "POST")
				switch {
				case !c.visible && err != nil:
					t.Errorf("HTTP/%s: %v", version, err)
				case !c.visible:
					r.expectProblem(t, 502, "upstream_reset")
				case err == nil && r.cut == nil && r.status < 500:
					t.Errorf("HTTP/%s: the client got a whole response: %d %v %q", version, r.status, r.fields, r.body)
				}
				if c.visible {
					client.expectGone()
				}
				if got := up.take(); len(got) != 1 {
					t.Errorf("HTTP/%s: the upstream got %d requests", version, len(got))
				}
			}
		})
	}
}

// startTarget starts a recorder that answers each connection's first request and then closes.
func startTarget(t testing.TB, answer string) *recorder {
	t.Helper()
	return startRecorder(t, func(c *recorderConn) {
		if c.next() != nil {
			c.write(answer)
		}
	})
}

// expectGone checks that the connection ended, in whatever way.
func (c *client) expectGone() {
	c.t.Helper()
	one := make([]byte, 1)
	for {
		if _, err := c.Read(one); err != nil {
			if t, ok := err.(interface{ Timeout() bool }); ok && t.Timeout() {
				c.t.Error("the connection is still open")
			}
			return
		}
	}
}

// Answers that are not HTTP, or have two readings, become 502; nothing of them reaches the client, and
// the upstream's connection is not used again.
func TestMalformedResponses(t *testing.T) {
	t.Parallel()
	const h = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct{ intent, answer, reason string }{
		{"no HTTP at all", "hello\r\n\r\n", ""},
		{"HTTP/0.9", "<html>hello</html>\n", ""},
		{"HTTP/2.0", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"lower-case", "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"HTTP/1.2", "HTTP/1.2 200 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"two spaces", "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"two digits", "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"four digits", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"a sign", "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"status 0", "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"status 600", "HTTP/1.1 600 OK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"control in the reason", "HTTP/1.1 200 O\x01K\r\nContent-Length: 2\r\n\r\nok", ""},
		{"bare CR in the reason", "HTTP/1.1 200 O\rK\r\nContent-Length: 2\r\n\r\nok", ""},
		{"name with a space", h + "X Y: z\r\nContent-Length: 2\r\n\r\nok", ""},
		{"space before the colon", h + "Content-Length : 2\r\n\r\nok", ""},
		{"no colon", h + "Whatever\r\nContent-Length: 2\r\n\r\nok", ""},
		{"folded", h + "X: a\r\n b\r\nContent-Length: 2\r\n\r\nok", ""},
		{"NUL in a value", h + "X: a\x00\r\nContent-Length: 2\r\n\r\nok", ""},
		{"bare CR in a value", h + "X: a\rSet-Cookie: evil\r\nContent-Length: 2\r\n\r\nok", ""},
		{"bare LF behind the status line", "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok", ""},
		{"bare LF behind a field", h + "Content-Length: 2\n\r\nok", ""},
		{"bare LFs", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", ""},
		{"two CLs that differ", h + "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!", ""},
		{"two CLs that agree", h + "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok", ""},
		{"CL as a list", h + "Content-Length: 2, 2\r\n\r\nok", ""},
		{"negative CL", h + "Content-Length: -2\r\n\r\nok", ""},
		{"CL beyond 63 bits", h + "Content-Length: 9223372036854775808\r\n\r\nok", ""},
		{"CL and TE", h + "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ""},
		{"TE gzip", h + "Transfer-Encoding: gzip\r\n\r\nok", ""},
		{"TE gzip, chunked", h + "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ""},
		{"TE in HTTP/1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", ""},
		{"a head without end", h + strings.Repeat("X: "+strings.Repeat("a", 1000)+"\r\n", 100), ""},
		{"a status line without end", "HTTP/1.1 200 " + strings.Repeat("a", 100_000), ""},
		{"interim responses without end", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 1000), ""},
		{"a body behind an interim head", "HTTP/1.1 102 Processing\r\n\r\nhello\r\n\r\n", ""},
		{"an upgrade nobody asked for", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello", "upstream_upgrade"},
		{"101 with nothing", "HTTP/1.1 101 x\r\n\r\n", "upstream_upgrade"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			up := startRecorder(t, func(conn *recorderConn) {
				if r := conn.next(); r != nil {
					text := c.answer
					if r.path == "/canary" {
						text = answerOK
					}
					conn.write(text)
					conn.waitEnd()
				}
			})
			g := startGateway(t, public(up.url()))
			client, r := g.exchange(t, "POST /x HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
			if c.reason == "" {
				c.reason = "upstream_malformed"
			}
			r.expectProblem(t, 502, c.reason)
			eventually(t, "the upstream's connection is closed", up.conns()[0].isClosed)
			client.expectOpen() // it is not the client's fault: its connection stays
			if n := len(up.conns()); n != 2 {
				t.Errorf("%d upstream connections, want 2", n)
			}
		})
	}
}

// Interim responses are passed over; the final one is the answer.
func TestInterimResponses(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(*request) string {
		return "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + answerOK
	})
	g := startGateway(t, public(up.url()))
	c, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
	if r.status != 200 || r.body != "ok" || r.fields.has("Link") {
		t.Errorf("%d %v %q", r.status, r.fields, r.body)
	}
	c.expectOpen()
}

// Responses whose end is the connection's end are chunked for those who understand it.
func TestResponseUntilClose(t *testing.T) {
	t.Parallel()
	up := startTarget(t, "HTTP/1.1 200 OK\r\n\r\nhello")
	g := startGateway(t, public(up.url()))
	c, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
	if r.status != 200 || r.body != "hello" || r.cut != nil || !r.fields.has("Transfer-Encoding") {
		t.Errorf("%d %v %q %v", r.status, r.fields, r.body, r.cut)
	}
	c.expectOpen()
	c, r = g.exchange(t, "GET /x HTTP/1.0\r\n\r\n")
	if r.status != 200 || r.body != "hello" || r.cut != nil || r.fields.has("Transfer-Encoding") {
		t.Errorf("%d %v %q %v", r.status, r.fields, r.body, r.cut)
	}
	c.expectClosed()
	if n := len(up.conns()); n != 3 {
		t.Errorf("%d upstream connections, want 3: %s", n, fmt.Sprint(lines(up.take())))
	}
}
