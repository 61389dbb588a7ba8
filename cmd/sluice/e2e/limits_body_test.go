package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// limitedRoutes has a route for each way to say how large a body may be.
func limitedRoutes(url string) string {
	return fmt.Sprintf(`
[server]
listen = ["$LISTEN"]
max_body_bytes = "1KiB"
[upstream.a]
targets = [%q]
[defaults]
auth = ["none"]
[[route]]
name = "inherits"
path = "/server"
to = "a"
[[route]]
name = "less"
path = "/less"
to = "a"
max_body_bytes = "100"
[[route]]
name = "more"
path = "/more"
to = "a"
max_body_bytes = "64KiB"
[[route]]
name = "any"
path = "/any"
to = "a"
max_body_bytes = "0"
`, url)
}

// A body's size is bounded by its route, else by the server; "0" is no bound. A length beyond it is
// refused from the head alone: no byte goes upstream and the client is not told to send. A chunked body
// is refused when it has grown too large, and the upstream never sees its end.
func TestLargeBodies(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, limitedRoutes(up.url()))
	for _, c := range []struct {
		intent, path string
		size         int
		fits         bool
	}{
		{"the server's limit", "/server", 1 << 10, true},
		{"a byte more", "/server", 1<<10 + 1, false},
		{"a route's lower limit", "/less", 100, true},
		{"a byte more", "/less", 101, false},
		{"a route's higher limit", "/more", 64 << 10, true},
		{"a byte more", "/more", 64<<10 + 1, false},
		{"no limit, and more than the default one", "/any", 12 << 20, true},
		{"a length that no machine could hold", "/server", 1 << 62, false},
	} {
		t.Run(c.intent+" by length "+c.path, func(t *testing.T) { sendLength(t, g, up, c.path, c.size, c.fits) })
		if c.size < 1<<30 {
			t.Run(c.intent+" in chunks "+c.path, func(t *testing.T) { sendChunks(t, g, up, c.path, c.size, c.fits) })
		}
	}
	if strings.Contains(g.log.String(), "forwarding failed") {
		t.Error("the upstream was blamed")
	}
}

// sendLength sends a body's length and, once told to, the body.
func sendLength(t *testing.T, g *gateway, up *recorder, path string, size int, fits bool) {
	mark := up.size()
	client := g.sent(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n", path, size))
	if fits {
		if r := client.head("POST"); r.StatusCode != 100 {
			t.Fatalf("got %s", r.Status)
		}
		_, _ = io.Copy(client.TCPConn, newPattern(int64(size)))
		client.expect("POST", 200)
		expectPattern(t, up.one(t), size)
		return
	}
	r := client.receive("POST")
	r.expectProblem(t, 413, "body_too_large")
	if len(r.interim) > 0 {
		t.Errorf("%v before it", r.interim)
	}
	client.expectClosed()
	up.expectNothing(t, mark)
}

// sendChunks sends a body in two chunks, the second once the upstream has the first.
func sendChunks(t *testing.T, g *gateway, up *recorder, path string, size int, fits bool) {
	const first = 50
	mark := up.size()
	client := g.sent(t, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n", path, first))
	body := newPattern(int64(size))
	_, _ = io.CopyN(client.TCPConn, body, first)
	client.send("\r\n")
	eventually(t, "the upstream has the beginning", func() bool { return up.size() > mark+first })
	client.send(fmt.Sprintf("%x\r\n", size-first))
	_, _ = io.Copy(client.TCPConn, body)
	client.send("\r\n0\r\n\r\n")
	if fits {
		client.expect("POST", 200)
		expectPattern(t, up.one(t), size)
		return
	}
	conns := up.conns()
	r := client.receive("POST")
	r.expectProblem(t, 413, "body_too_large")
	eventually(t, "the upstream's connection ends", conns[len(conns)-1].isClosed)
	if got := up.take(); len(got) > 0 {
		t.Errorf("the upstream got %q", lines(got))
	}
	if r.fields.has("Connection") {
		client.expectClosed()
		return
	}
	client.expectOpen() // all of the request had arrived and was read
	up.take()
}

func expectPattern(t testing.TB, r *request, size int) {
	t.Helper()
	if got, _ := digest(strings.NewReader(r.body)); got != patternDigest(int64(size)) {
		t.Errorf("the upstream got %s, want %s", got, patternDigest(int64(size)))
	}
}

// A client that is refused while it sends, and goes on sending, still gets its answer: its connection is
// not reset under it.
func TestLargeBodyIsRefusedAudibly(t *testing.T) {
	t.Parallel()
	const size = 20 << 20
	up := startAnswering(t, ok)
	g := startGateway(t, public(up.url()))
	for intent, head := range map[string]string{
		"by length": fmt.Sprintf("Content-Length: %d\r\n\r\n", size),
		"in chunks": fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", size),
	} {
		t.Run("to one that reads when it has sent all "+intent, func(t *testing.T) {
			client := g.sent(t, "POST /x HTTP/1.1\r\nHost: h\r\n"+head)
			if n, err := io.Copy(client.TCPConn, newPattern(size)); err != nil {
				t.Errorf("sending ended after %d bytes: %v", n, err)
			}
			client.receive("POST").expectProblem(t, 413, "body_too_large")
			client.expectClosed()
		})
	}
	for intent, length := range map[string]int64{"by length": size, "in chunks": -1} {
		t.Run("to net/http "+intent, func(t *testing.T) {
			transport := &http.Transport{}
			defer transport.CloseIdleConnections()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+g.address+"/x", io.NopCloser(newPattern(size)))
			if err != nil {
				t.Fatal(err)
			}
			r.ContentLength = length
			response, err := transport.RoundTrip(r)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if response.StatusCode != 413 || err != nil || !strings.Contains(string(body), `"body_too_large"`) {
				t.Errorf("%s %q %v", response.Status, body, err)
			}
		})
	}
	if got := up.take(); len(got) > 0 {
		t.Errorf("the upstream got %q", lines(got))
	}
}
