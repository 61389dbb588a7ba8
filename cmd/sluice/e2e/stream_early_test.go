package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestStreamEarlyAnswer answers requests of 50 MiB before their body was read. The client gets the answer,
// whether it reads while it sends or only after sending has failed; then the connection is closed.
func TestStreamEarlyAnswer(t *testing.T) {
	const size = 50 << 20
	up := startRaw(t, func(c *rawConn, done <-chan struct{}) {
		head := c.head()
		switch {
		case strings.HasPrefix(head, "POST /stays"):
			c.write("HTTP/1.1 401 Unauthorized\r\nContent-Length: 2\r\n\r\nno")
			<-done
		case strings.HasPrefix(head, "POST /reads"):
			_, _ = io.CopyN(io.Discard, c.in, 1<<20)
			c.write("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
			<-done
		case strings.HasPrefix(head, "POST /closes"):
			c.write("HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
		default:
			_, _ = io.Copy(io.Discard, c.in)
		}
	})
	g := startGateway(t, fmt.Sprintf(`
[upstream.up]
targets = [%q]
[defaults]
auth = ["none"]
[[route]]
name = "all"
path = "/*"
to = "up"
max_body_bytes = "0"
[[route]]
name = "small"
path = "/small/*"
to = "up"
max_body_bytes = "1MiB"
`, up))
	for _, c := range []struct {
		path   string
		status int
	}{{"/stays", 401}, {"/reads", 413}, {"/closes", 413}, {"/small/x", 413}} {
		for _, framing := range []string{"Content-Length: 52428800", "Transfer-Encoding: chunked"} {
			for _, readsLate := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s %s late %v", c.path, framing[:1], readsLate), func(t *testing.T) {
					client := g.dial(t)
					client.send("POST " + c.path + " HTTP/1.1\r\nHost: h\r\n" + framing + "\r\n\r\n")
					sent := make(chan struct{})
					go func() {
						defer close(sent)
						var body io.Reader = newPattern(size)
						if strings.HasPrefix(framing, "T") {
							client.send("3200000\r\n")
							body = io.MultiReader(body, strings.NewReader("\r\n0\r\n\r\n"))
						}
						_, _ = io.CopyBuffer(struct{ io.Writer }{client.TCPConn}, struct{ io.Reader }{body}, make([]byte, 64<<10))
					}()
					if readsLate {
						within(t, "sending ends", sent)
					}
					r := client.expect("POST", c.status)
					if !strings.EqualFold(r.fields.get("Connection"), "close") {
						t.Errorf("the connection is not announced to close: %v", r.fields)
					}
					client.expectClosed()
					within(t, "sending ends", sent)
				})
			}
		}
	}
}

// TestStreamExpect lets clients ask whether their body is wanted. They are told to go on by the gateway, and
// only if the request gets as far as a target.
func TestStreamExpect(t *testing.T) {
	type got struct{ expect, body string }
	seen := make(chan got, 1)
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- got{strings.Join(r.Header.Values("Expect"), ","), string(body)}
		_, _ = io.WriteString(w, "ok")
	})
	g := startGateway(t, fmt.Sprintf(`
[upstream.up]
targets = [%q]
[upstream.dead]
targets = ["http://127.0.0.1:1"]
[defaults]
auth = ["none"]
[[route]]
name = "all"
path = "/a/*"
to = "up"
max_body_bytes = "100"
[[route]]
name = "dead"
path = "/dead"
to = "dead"
`, up.URL))
	const ask = "Host: h\r\nExpect: 100-continue\r\n"

	t.Run("wanted", func(t *testing.T) {
		for framing, body := range map[string]string{
			"Content-Length: 5":          "hello",
			"Transfer-Encoding: chunked": "5\r\nhello\r\n0\r\n\r\n",
		} {
			c := g.dial(t)
			for range 2 {
				c.send("POST /a/x HTTP/1.1\r\n" + ask + framing + "\r\n\r\n")
				if r := c.head("POST"); r.StatusCode != 100 {
					t.Fatalf("got %s", r.Status)
				}
				c.send(body)
				c.expect("POST", 200)
				if s := within(t, "the target answers", seen); s != (got{"", "hello"}) {
					t.Errorf("the target saw %+v", s)
				}
			}
		}
	})
	t.Run("sent without waiting", func(t *testing.T) {
		c := g.dial(t)
		for range 2 {
			c.send("POST /a/x HTTP/1.1\r\n" + ask + "Content-Length: 5\r\n\r\nhello")
			c.expect("POST", 200)
			if s := within(t, "the target answers", seen); s != (got{"", "hello"}) {
				t.Errorf("the target saw %+v", s)
			}
		}
	})
	t.Run("refused", func(t *testing.T) {
		for target, status := range map[string]int{"/nowhere": 404, "/a/large": 413, "/dead": 502} {
			c := g.dial(t)
			c.send("POST " + target + " HTTP/1.1\r\n" + ask + "Content-Length: 1000\r\n\r\n")
			r := c.expect("POST", status)
			if len(r.interim) > 0 {
				t.Errorf("%s: %v before %d", target, r.interim, r.status)
			}
			c.expectClosed()
		}
	})
	t.Run("HTTP/1.0", func(t *testing.T) {
		c := g.dial(t)
		c.send("POST /a/x HTTP/1.0\r\n" + ask + "Content-Length: 5\r\n\r\nhello")
		if r := c.expect("POST", 200); len(r.interim) > 0 {
			t.Errorf("an HTTP/1.0 client was sent %v", r.interim)
		}
		within(t, "the target answers", seen)
	})
	t.Run("by net/http", func(t *testing.T) {
		transport := &http.Transport{ExpectContinueTimeout: patience}
		defer transport.CloseIdleConnections()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.address+"/a/x", strings.NewReader("hello"))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Expect", "100-continue")
		start := time.Now()
		response, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if s := within(t, "the target answers", seen); s.body != "hello" || time.Since(start) > patience/2 {
			t.Errorf("the target saw %+v after %v", s, time.Since(start))
		}
	})
}

// TestStreamClientLeaves has clients leave at every stage of an exchange. The target's request ends within a
// second, and is not blamed on the target.
func TestStreamClientLeaves(t *testing.T) {
	began, ended := make(chan struct{}), make(chan time.Time, 100)
	var requests atomic.Int64
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		defer func() { ended <- time.Now() }()
		control := http.NewResponseController(w)
		_ = control.EnableFullDuplex()
		begin := func() {
			select {
			case began <- struct{}{}:
			case <-r.Context().Done():
			}
		}
		switch r.URL.Path {
		case "/head":
			begin()
			<-r.Context().Done()
		case "/stream":
			_ = control.Flush()
			begin()
			<-r.Context().Done()
		case "/flood":
			_ = control.Flush()
			begin()
			_, _ = io.Copy(w, newPattern(1<<40))
		case "/upload":
			_, _ = io.ReadFull(r.Body, make([]byte, 5))
			begin()
			_, _ = io.Copy(io.Discard, r.Body)
		case "/tail":
			_, _ = io.Copy(io.Discard, r.Body)
			begin()
			<-r.Context().Done()
		}
	})
	g := startGateway(t, toService(up.URL, "", ""))
	for name, request := range map[string]string{
		"waiting for the head":         "GET /head HTTP/1.1\r\nHost: h\r\n\r\n",
		"small body, waiting":          "POST /tail HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
		"chunked body, waiting":        "POST /tail HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"in a silent stream":           "GET /stream HTTP/1.1\r\nHost: h\r\n\r\n",
		"in a silent stream, HTTP/1.0": "GET /stream HTTP/1.0\r\n\r\n",
		"in a download":                "GET /flood HTTP/1.1\r\nHost: h\r\n\r\n",
		"in an upload":                 "POST /upload HTTP/1.1\r\nHost: h\r\nContent-Length: 50\r\n\r\nhello",
		"in a chunked upload":          "POST /upload HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
		"with a pipelined request":     "GET /head HTTP/1.1\r\nHost: h\r\n\r\nGET /head HTTP/1.1\r\nHost: h\r\n\r\n",
	} {
		for _, reset := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s reset %v", name, reset), func(t *testing.T) {
				c := g.dial(t)
				c.send(request)
				within(t, "the target has the request", began)
				if reset {
					_ = c.SetLinger(0)
				}
				left := time.Now()
				_ = c.Close()
				defer func() {
					eventually(t, "the gateway has no connection left", func() bool { return g.status(t).Connections == 0 })
					if n := requests.Swap(0); n != 1 {
						t.Errorf("the target got %d requests, want 1", n)
					}
				}()
				if took := within(t, "the target's request ends", ended).Sub(left); took > time.Second {
					t.Errorf("the target's request ended %v after the client left", took)
				}
			})
		}
	}
	for _, line := range strings.Split(g.log.String(), "\n") {
		if strings.Contains(line, `"level":"warn"`) || strings.Contains(line, `"level":"error"`) {
			t.Errorf("a client that leaves is nobody's fault, but the log says: %s", line)
		}
	}
}
