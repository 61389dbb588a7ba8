package e2e

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// A request that is answered before its body has been read leaves the connection in one of two states:
// the body has been passed over, or nothing more is read. What is in the body is never a request.
func TestBodiesOfRefusedRequests(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, fmt.Sprintf(`
[server]
listen = ["$LISTEN"]
max_body_bytes = "1KiB"
[upstream.a]
targets = [%q]
[[route]]
name = "gets"
path = "/x"
methods = ["GET"]
auth = ["none"]
to   = "a"
[[route]]
name = "smuggled"
path = "/smuggled"
auth = ["none"]
to   = "a"
[[route]]
name = "canary"
path = "/canary"
auth = ["none"]
to   = "a"
`, up.url()))
	body := strings.Repeat(smuggled, 3)
	large := strings.Repeat(smuggled, 10_000)
	head := func(method, path, framing string) string {
		return method + " " + path + " HTTP/1.1\r\nHost: h\r\n" + framing + "\r\n\r\n"
	}
	chunks := func(data string) string { return fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(data), data) }
	for _, c := range []struct {
		intent, head, body string
		status             int
		reason             string
	}{
		{"no route, by length", head("POST", "/none", fmt.Sprintf("Content-Length: %d", len(body))), body, 404, "no_route"},
		{"no route, in chunks", head("POST", "/none", "Transfer-Encoding: chunked"), chunks(body), 404, "no_route"},
		{"no route, much", head("POST", "/none", fmt.Sprintf("Content-Length: %d", len(large))), large, 404, "no_route"},
		{"no route, and told to wait", head("POST", "/none", fmt.Sprintf("Expect: 100-continue\r\nContent-Length: %d", len(body))), body, 404, "no_route"},
		{"not this method, by length", head("POST", "/x", fmt.Sprintf("Content-Length: %d", len(body))), body, 405, "method_not_allowed"},
		{"not this method, in chunks", head("POST", "/x", "Transfer-Encoding: chunked"), chunks(body), 405, "method_not_allowed"},
		{"a bad path", head("POST", "/%zz", fmt.Sprintf("Content-Length: %d", len(body))), body, 400, "bad_path"},
		{"too large", head("POST", "/smuggled", fmt.Sprintf("Content-Length: %d", len(large))), large, 413, "body_too_large"},
		{"TRACE with a body", head("TRACE", "/smuggled", fmt.Sprintf("Content-Length: %d", len(body))), body, 405, "method_not_allowed"},
	} {
		for _, whole := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, at once: %v", c.intent, whole), func(t *testing.T) {
				mark := up.size()
				client := g.dial(t)
				var r *response
				if whole {
					client.send(c.head + c.body)
					r = client.receive("POST")
				} else {
					client.send(c.head)
					r = client.receive("POST")
					client.send(c.body)
				}
				r.expectProblem(t, c.status, c.reason)
				if len(r.interim) > 0 {
					t.Errorf("told to go on: %v", r.interim)
				}
				if strings.EqualFold(r.fields.get("Connection"), "close") {
					client.expectClosed()
				} else {
					client.expectOpen()
					mark += up.one(t).size()
				}
				up.expectNothing(t, mark)
			})
		}
	}
}

func (r *request) size() int { return len(r.raw) }

// What a message is does not depend on how the network cuts it.
func TestVerdictsDoNotDependOnSegments(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, func(r *request) string {
		return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(r.body), r.body)
	})
	g := startGateway(t, public(up.url()))
	const host = " HTTP/1.1\r\nHost: h\r\n"
	for _, c := range []struct {
		raw    string
		status int
	}{
		{"GET /x" + host + "\r\n", 200},
		{"\r\nGET /x" + host + "X: a\tb\r\n\r\n", 200},
		{"POST /x" + host + "Content-Length: 5\r\n\r\nhello", 200},
		{"POST /x" + host + "Transfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", 200},
		{"POST /x" + host + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		{"GET /x" + host + "X: a\rb\r\n\r\n", 400},
		{"GET /x" + host + "X: a\nb: c\r\n\r\n", 400},
		{"GET /x" + host + "X: a\r\n b\r\n\r\n", 400},
		{"GET /x" + host + "X : a\r\n\r\n", 400},
		{"GET /x" + host + "\r\r\n\r\n", 400},
		{"GET /x HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n", 400},
		{"GET /x HTTP/1.2\r\nHost: h\r\n\r\n", 505},
		{"GET  /x" + host + "\r\n", 400},
		{"POST /x" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", 400},
		{"POST /x" + host + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX Y: z\r\n\r\n", 400},
		{"POST /x" + host + "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", 400},
	} {
		for at := 0; at <= len(c.raw); at++ {
			client := g.dial(t)
			if at == 0 {
				for i := range len(c.raw) { // every byte for itself
					client.send(c.raw[i : i+1])
				}
			} else {
				client.send(c.raw[:at])
				client.send(c.raw[at:])
			}
			r := client.receive("GET")
			if r.status != c.status {
				t.Fatalf("%q, cut at %d: %d, want %d", c.raw, at, r.status, c.status)
			}
			if r.status == 200 {
				client.expectOpen()
			} else {
				client.expectClosed()
			}
			client.Close()
		}
	}
	for _, r := range up.take() {
		if r.path == "/x" && r.body != "" && r.body != "hello" {
			t.Errorf("the upstream got %q", r.raw)
		}
	}
}

// Among clients that cheat, leave and cut, and upstreams that close, babble and break off, whoever gets a
// whole answer gets its own.
func TestAnswersGoToWhoAsked(t *testing.T) {
	t.Parallel()
	const clients, each = 8, 120
	misbehave := func(seed uint64) func(*recorderConn) {
		return func(c *recorderConn) {
			random := rand.New(rand.NewPCG(seed, uint64(c.number)))
			for r := c.next(); r != nil; r = c.next() {
				text := r.path + " " + r.body
				plain := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
				switch random.IntN(10) {
				case 0:
					c.write(plain + stray)
				case 1:
					c.write(fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\nmore", len(text), text))
				case 2:
					c.write(plain)
					return
				case 3:
					c.write(plain[:len(plain)-1])
					return
				case 4:
					c.write("HTTP/1.1 200 OK\r\nContent-Le")
					return
				case 5:
					return
				default:
					c.write(plain)
				}
			}
		}
	}
	one, two := startRecorder(t, misbehave(1)), startRecorder(t, misbehave(2))
	g := startGateway(t, fmt.Sprintf("[upstream.a]\ntargets = [%q, %q]\n%s", one.url(), two.url(), routeToA))

	var all sync.WaitGroup
	for n := range clients {
		all.Go(func() {
			random := rand.New(rand.NewPCG(3, uint64(n)))
			c := g.dial(t)
			defer func() { c.Close() }()
			whole := 0
			for i := range each {
				path, body := fmt.Sprintf("/%d/%d", n, i), fmt.Sprintf("body %d of %d", i, n)
				raw := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n%s", path, len(body), body)
				if i%2 == 1 {
					raw = fmt.Sprintf("PUT %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", path, len(body), body)
				}
				switch random.IntN(10) {
				case 0: // leaves without its answer
					c.send(raw)
					c.Close()
					c = g.dial(t)
					continue
				case 1: // leaves in its request
					c.send(raw[:len(raw)-3])
					c.Close()
					c = g.dial(t)
					continue
				case 2: // cheats
					hidden := smuggled // which is a request of its own behind a body by length, and nothing behind a bad chunk
					if i%2 == 1 {
						hidden = strings.Replace(smuggled, "/smuggled", "/stolen", 1)
					}
					c.send(raw[:len(raw)-3] + "\x00\x00\x00" + hidden)
					c.Close()
					c = g.dial(t)
					continue
				}
				c.send(raw)
				r, err := readResponse(c.in, "POST")
				if err == nil && r.status == 200 && r.cut == nil {
					whole++
					if r.body != path+" "+body {
						t.Errorf("%s got %q", path, r.body)
					}
				}
				if err != nil || r.cut != nil || r.fields.get("Connection") == "close" {
					if err != nil && err != io.EOF && strings.Contains(err.Error(), "bad") {
						t.Errorf("%s: %v", path, err)
					}
					c.Close()
					c = g.dial(t)
				}
			}
			if whole < each/8 {
				t.Errorf("client %d got only %d whole answers", n, whole)
			}
		})
	}
	all.Wait()
	for _, r := range append(one.take(), two.take()...) {
		if r.path == "/smuggled" && r.method == "GET" {
			continue
		}
		if !strings.HasPrefix(r.body, "body ") {
			t.Errorf("an upstream got %q", r.raw)
		}
	}
}

// Lengths that a response without a body declares are not passed on where they would mislead.
func TestLengthsOfBodylessResponses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ intent, method, answer, length string }{
		{"HEAD tells what GET would", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 76\r\n\r\n", "76"},
		{"HEAD without a length", "HEAD", "HTTP/1.1 200 OK\r\nX: y\r\n\r\n", ""},
		{"HEAD of chunks", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		{"304 tells what 200 would", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 76\r\n\r\n", "76"},
		{"204 has none (RFC 9110, section 8.6)", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 76\r\n\r\n", ""},
		{"204 that says zero", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", ""},
		{"204 of chunks", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", ""},
		{"an empty 200 says so", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			up := startAnswering(t, func(*request) string { return c.answer })
			g := startGateway(t, public(up.url()))
			for _, version := range []string{"1.1", "1.0\r\nConnection: keep-alive"} {
				client, r := g.exchange(t, c.method+" /x HTTP/"+version+"\r\nHost: h\r\n\r\n")
				if got := r.fields.get("Content-Length"); got != c.length || r.body != "" {
					t.Errorf("HTTP/%s: Content-Length %q, want %q; body %q", version, got, c.length, r.body)
				}
				if r.fields.has("Transfer-Encoding") && c.method != "HEAD" {
					t.Errorf("HTTP/%s: Transfer-Encoding %q", version, r.fields.get("Transfer-Encoding"))
				}
				if !strings.EqualFold(r.fields.get("Connection"), "close") {
					r := client.do(c.method + " /x HTTP/1.1\r\nHost: h\r\n\r\n")
					if r.status == 0 {
						t.Error("the connection is broken")
					}
				} else {
					client.expectClosed()
				}
			}
		})
	}
}
