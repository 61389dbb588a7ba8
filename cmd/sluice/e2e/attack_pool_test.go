package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// stray is what an upstream sends unasked, in the hope that it becomes the answer to somebody else.
const stray = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

// Bytes behind a response never answer the next request: the connection they came on is closed.
func TestStrayResponseBytes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		intent, request, answer string
		late                    string // sent once the client has its answer
		body                    string // what the client must get
	}{
		{"two responses at once", "GET", answerOK + stray, "", "ok"},
		{"more than Content-Length", "GET", answerOK + "more", "", "ok"},
		{"bytes behind the last chunk", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + stray, "", "ok"},
		{"a CRLF too many", "GET", answerOK + "\r\n", "", "ok"},
		{"a second response, late", "GET", answerOK, stray, "ok"},
		{"half a response, late", "GET", answerOK, "HTTP/1.1 200 OK\r\nX-Own: ", "ok"},
		{"HEAD with a body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n" + stray, "", ""},
		{"HEAD with a body, late", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n", stray, ""},
		{"HEAD with chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n", "", ""},
		{"204 with a body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 6\r\n\r\npoison", "", ""},
		{"204 with chunks", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n6\r\npoison\r\n0\r\n\r\n", "", ""},
		{"204 with a body, late", "GET", "HTTP/1.1 204 No Content\r\n\r\n", stray, ""},
		{"304 with a body", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison", "", ""},
		{"304 with a body, late", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\n", "poison", ""},
		{"an interim response, late", "GET", answerOK, "HTTP/1.1 100 Continue\r\n\r\n", "ok"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			now, sent := make(chan struct{}), make(chan struct{})
			up := startRecorder(t, func(conn *recorderConn) {
				for r := conn.next(); r != nil; r = conn.next() {
					if r.path != "/x" {
						conn.write(answerOK)
						continue
					}
					conn.write(c.answer)
					if c.late != "" {
						<-now
						conn.write(c.late)
						close(sent)
					}
				}
			})
			g := startGateway(t, public(up.url()))
			client, r := g.exchange(t, c.request+" /x HTTP/1.1\r\nHost: h\r\n\r\n")
			if r.body != c.body || r.cut != nil {
				t.Errorf("%d %q %v", r.status, r.body, r.cut)
			}
			if c.late != "" {
				close(now)
				<-sent
			}
			for range 3 {
				if r := client.do("GET /mine HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 || r.body != "ok" {
					t.Errorf("the next answer on the connection is %d %q", r.status, r.body)
				}
				_, r := g.exchange(t, "POST /other HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi")
				if r.status != 200 || r.body != "ok" {
					t.Errorf("the next client got %d %q", r.status, r.body)
				}
			}
			if got := up.take(); len(got) != 7 {
				t.Errorf("the upstream got %q", lines(got))
			}
			if conns := up.conns(); len(conns) != 2 || conns[0].served != 1 {
				t.Errorf("%d upstream connections; the first carried %d requests", len(conns), conns[0].served)
			}
		})
	}
}

// A clean connection is used again, whoever the client is, and whatever it says of its own connection.
func TestUpstreamConnectionsAreReused(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(r *request) string {
		switch r.path {
		case "/chunked":
			return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"
		case "/204":
			return "HTTP/1.1 204 No Content\r\n\r\n"
		case "/500":
			return "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
		case "/1.0":
			return "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok"
		case "/large":
			return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n%s", strings.Repeat("a", 300_000))
		}
		return answerOK
	})
	g := startGateway(t, public(up.url()))
	requests := 0
	for _, path := range []string{"/x", "/chunked", "/204", "/500", "/1.0", "/large", "/x"} {
		for _, raw := range []string{
			"GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n",
			"GET " + path + " HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
			"GET " + path + " HTTP/1.0\r\n\r\n",
			"POST " + path + " HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi",
			"POST " + path + " HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
		} {
			client, r := g.exchange(t, raw)
			if r.cut != nil {
				t.Errorf("%q: %v", raw, r.cut)
			}
			client.Close()
			requests++
			// An exchange ends a moment after its client has the last byte.
			eventually(t, fmt.Sprintf("the connection is idle after %q", raw), func() bool { return g.idle(t) == 1 })
		}
	}
	if got := up.take(); len(got) != requests {
		t.Errorf("the upstream got %d requests, want %d", len(got), requests)
	}
	if n := len(up.conns()); n != 1 {
		t.Errorf("%d upstream connections, want 1", n)
	}
}

// An upstream that closes idle connections, as all do in time, costs no client an error: the next
// request, of whatever method, finds out before it is sent.
func TestUpstreamClosesIdleConnections(t *testing.T) {
	t.Parallel()
	up := startRecorder(t, func(conn *recorderConn) {
		if conn.next() != nil {
			conn.write(answerOK)
		}
	})
	g := startGateway(t, public(up.url()))
	client := g.dial(t)
	const n = 20
	for i := range n {
		method := []string{"GET", "POST", "PATCH", "DELETE"}[i%4]
		if r := client.do(method + " /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"); r.status != 200 {
			t.Fatalf("%s: %d %s", method, r.status, r.body)
		}
		// The race itself, a request that is sent while the close is on its way, is for a retry.
		eventually(t, "the upstream closed", func() bool {
			conns := up.conns()
			return conns[len(conns)-1].isClosed()
		})
	}
	if got := up.take(); len(got) != n {
		t.Errorf("the upstream got %d requests, want %d", len(got), n)
	}
}

// Connections that an upstream says it closes, or that end with their response, are not kept.
func TestUpstreamConnectionsThatAreNotKept(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ intent, answer string }{
		{"Connection: close", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"close in a list", "HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 2\r\n\r\nok"},
		{"close with keep-alive", "HTTP/1.1 200 OK\r\nConnection: keep-alive\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"},
		{"HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"},
		{"close with chunks", "HTTP/1.1 200 OK\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			up := startAnswering(t, func(*request) string { return c.answer }) // and keeps the connection open
			g := startGateway(t, public(up.url()))
			client := g.dial(t)
			for range 3 {
				r := client.do("GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
				if r.status != 200 || r.body != "ok" || r.cut != nil || r.fields.has("Connection") {
					t.Errorf("%d %v %q %v", r.status, r.fields, r.body, r.cut)
				}
			}
			conns := up.conns()
			if len(conns) != 3 {
				t.Errorf("%d upstream connections, want 3", len(conns))
			}
			for _, conn := range conns {
				eventually(t, "the gateway closed", conn.isClosed)
			}
		})
	}
}

// A failed attempt is repeated only where that can do no harm: nothing was sent, or the method is
// idempotent, the whole request is at hand, and no answer came that another target could not better.
func TestRetries(t *testing.T) {
	t.Parallel()
	good := startAnswering(t, ok)
	dead := freeAddress(t)
	drops := startRecorder(t, func(conn *recorderConn) { conn.next() })
	starts := startTarget(t, "H")
	slow := startRecorder(t, func(conn *recorderConn) {
		conn.next()
		conn.waitEnd()
	})
	garbage := startAnswering(t, func(*request) string { return "garbage\r\n\r\n" })
	refuses := startAnswering(t, func(*request) string { return "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy" })
	const more = "balance = \"round_robin\"\n[upstream.a.timeouts]\nresponse = \"300ms\"\n"

	post := func(method string) string {
		return method + " /x HTTP/1.1\r\nHost: h\r\nContent-Length: 2\r\n\r\nhi"
	}
	get := func(method string) string { return method + " /x HTTP/1.1\r\nHost: h\r\n\r\n" }
	chunked := func(method string) string {
		return method + " /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n"
	}
	for _, c := range []struct {
		intent string
		bad    string
		up     *recorder // that is bad; nil: nothing listens there
		raw    string
		repeat bool
		reason string // of the answer, when it is not repeated
	}{
		{"nothing was sent: GET", dead, nil, get("GET"), true, ""},
		{"nothing was sent: POST", dead, nil, post("POST"), true, ""},
		{"nothing was sent: chunked", dead, nil, chunked("POST"), true, ""},
		{"no answer: GET", drops.address, drops, get("GET"), true, ""},
		{"no answer: HEAD", drops.address, drops, get("HEAD"), true, ""},
		{"no answer: OPTIONS", drops.address, drops, get("OPTIONS"), true, ""},
		{"no answer: a small PUT", drops.address, drops, post("PUT"), true, ""},
		{"no answer: a streamed PUT is gone", drops.address, drops, chunked("PUT"), false, "upstream_reset"},
		{"no answer: POST may have been done", drops.address, drops, post("POST"), false, "upstream_reset"},
		{"no answer: PATCH", drops.address, drops, post("PATCH"), false, "upstream_reset"},
		{"no answer: who knows this method?", drops.address, drops, get("PURGE"), false, "upstream_reset"},
		{"no answer: method names have a case", drops.address, drops, get("get"), false, "upstream_reset"},
		{"one byte of an answer is none", starts.address, starts, get("GET"), true, ""},
		{"one byte of an answer: POST may have been done", starts.address, starts, post("POST"), false, "upstream_reset"},
		{"no answer in time, and to ask again does no harm", slow.address, slow, get("GET"), true, ""},
		{"no answer in time: it may be at work", slow.address, slow, post("POST"), false, "upstream_timeout"},
		{"a malformed answer is none", garbage.address, garbage, get("GET"), true, ""},
		{"a malformed answer: POST may have been done", garbage.address, garbage, post("POST"), false, "upstream_malformed"},
		{"a refusal may not be another one's", refuses.address, refuses, get("GET"), true, ""},
		{"a refusal of what had a body is an answer", refuses.address, refuses, post("PUT"), false, ""},
		{"a refusal of POST is an answer", refuses.address, refuses, post("POST"), false, ""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			g := startGateway(t, fmt.Sprintf("[upstream.a]\ntargets = [\"http://%s\", %q]\n", c.bad, good.url())+more+routeToA)
			good.take()
			if c.up != nil {
				c.up.take()
			}
			// Two requests: one of them meets the bad target first.
			for range 2 {
				client := g.dial(t)
				r := client.do(c.raw)
				switch {
				case c.repeat && r.status != 200:
					t.Errorf("%d %s", r.status, r.body)
				case !c.repeat && r.status != 200 && c.reason != "":
					r.expectProblem(t, map[string]int{"upstream_timeout": 504}[c.reason]|map[bool]int{true: 502}[c.reason != "upstream_timeout"], c.reason)
				case !c.repeat && r.status != 200 && r.body != "busy":
					t.Errorf("%d %s", r.status, r.body)
				}
				client.expectStillUsable(r)
			}
			want := 1
			if c.repeat {
				want = 2
			}
			if got := good.take(); len(got) != want {
				t.Errorf("the good target got %q, want %d", lines(got), want)
			}
			if c.up != nil {
				if got := c.up.take(); len(got) != 1 {
					t.Errorf("the bad target got %q, want 1", lines(got))
				}
			}
		})
	}
}

const routeToA = `
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to   = "a"
`

// expectStillUsable checks that an upstream's failure did not cost the client its connection, unless the
// response says so.
func (c *client) expectStillUsable(last *response) {
	c.t.Helper()
	if last.fields.has("Connection") {
		c.t.Errorf("Connection: %q", last.fields.get("Connection"))
	}
}
