package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// within receives from a channel, or fails the test.
func within[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(patience):
		t.Fatalf("not within %v: %s", patience, what)
		panic("unreachable")
	}
}

// service is an upstream made of an HTTP handler, which counts the connections it was asked for, and those
// among them that are still open and speak HTTP.
type service struct {
	*httptest.Server
	connections, open atomic.Int64
}

func startService(t testing.TB, handler http.HandlerFunc) *service {
	u := &service{Server: httptest.NewUnstartedServer(handler)}
	u.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			u.connections.Add(1)
			u.open.Add(1)
		case http.StateClosed, http.StateHijacked:
			u.open.Add(-1)
		}
	}
	u.Start()
	t.Cleanup(func() {
		u.CloseClientConnections()
		u.Close()
	})
	return u
}

// rawConn is a connection to a raw upstream.
type rawConn struct {
	*net.TCPConn
	in *bufio.Reader
}

// startRaw runs an upstream that handles bare connections, and gives its URL. A handler may wait until
// done is closed: the test has ended.
func startRaw(t testing.TB, handle func(c *rawConn, done <-chan struct{})) string {
	t.Helper()
	return startRawOn(t, listenAnywhere(t), handle)
}

// startRawOn runs it on a listener, which it closes.
func startRawOn(t testing.TB, l net.Listener, handle func(c *rawConn, done <-chan struct{})) string {
	t.Helper()
	done := make(chan struct{})
	var handlers sync.WaitGroup
	handlers.Go(func() {
		for {
			socket, err := l.Accept()
			if err != nil {
				return
			}
			handlers.Go(func() {
				defer socket.Close()
				stop := make(chan struct{})
				defer close(stop)
				go func() {
					select {
					case <-done:
						_ = socket.SetDeadline(time.Unix(1, 0))
					case <-stop:
					}
				}()
				handle(&rawConn{socket.(*net.TCPConn), bufio.NewReader(socket)}, done)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		close(done)
		handlers.Wait()
	})
	return "http://" + l.Addr().String()
}

func (c *rawConn) write(text string) { _, _ = io.WriteString(c.TCPConn, text) }

// head reads a head up to its empty line; it is empty if there is none.
func (c *rawConn) head() string {
	var head strings.Builder
	for {
		line, err := c.in.ReadString('\n')
		head.WriteString(line)
		if err != nil {
			return ""
		}
		if line == "\r\n" {
			return head.String()
		}
	}
}

// pattern is a body of a given length, cheap to make and different at every offset in a prime period, so
// that a piece lost, repeated or moved shows in its sum.
type pattern struct {
	left   int64
	offset int
}

const patternPeriod = 65521

var patternBytes = func() []byte {
	b := make([]byte, 2*patternPeriod)
	state := uint32(2463534242)
	for i := range b[:patternPeriod] {
		state ^= state << 13
		state ^= state >> 17
		state ^= state << 5
		b[i] = byte(state)
	}
	copy(b[patternPeriod:], b[:patternPeriod])
	return b
}()

func newPattern(n int64) *pattern { return &pattern{left: n} }

func (p *pattern) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	if int64(len(b)) > p.left {
		b = b[:p.left]
	}
	n := copy(b, patternBytes[p.offset:p.offset+patternPeriod])
	p.offset = (p.offset + n) % patternPeriod
	p.left -= int64(n)
	return n, nil
}

// digest reads to the end and gives length and sum.
func digest(r io.Reader) (string, error) {
	sum := crc32.New(crc32.MakeTable(crc32.Castagnoli))
	n, err := io.CopyBuffer(struct{ hash.Hash32 }{sum}, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return fmt.Sprintf("%d bytes, %08x", n, sum.Sum32()), err
}

func patternDigest(n int64) string {
	d, _ := digest(newPattern(n))
	return d
}

// watchMemory samples the gateway's memory until stopped, and then tells by how much it had grown at most.
func watchMemory(g *gateway) (grown func() int64) {
	g.t.Helper()
	base := g.rss()
	most := base
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		ticker := time.NewTicker(10 * time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				most = max(most, g.rss())
			case <-stop:
				return
			}
		}
	}()
	return func() int64 {
		close(stop)
		<-done
		return most - base
	}
}

// head reads a response's head; its body is still to be read.
func (c *client) head(method string) *http.Response {
	c.t.Helper()
	r, err := http.ReadResponse(c.in, &http.Request{Method: method})
	if err != nil {
		c.t.Fatalf("no response: %v", err)
	}
	return r
}

// expect reads a whole response and checks its status.
func (c *client) expect(method string, status int) *response {
	c.t.Helper()
	r := c.receive(method)
	if r.status != status || r.cut != nil {
		c.t.Fatalf("got %s, cut: %v, want %d\n%s", r.line, r.cut, status, r.body)
	}
	return r
}

// toService is the configuration of one route for everything to one upstream, with what else its tables
// say.
func toService(url, upstream, route string) string {
	return fmt.Sprintf(`
[upstream.up]
targets = [%q]
%s
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to = "up"
%s
`, url, upstream, route)
}

// status asks the admin side what the gateway says of itself.
func (g *gateway) status(t testing.TB) (s engine.Status) {
	t.Helper()
	r, err := adminClient.Get("http://" + g.admin + "/status")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		t.Fatal(err)
	}
	return s
}

// adminClient keeps no connections: the process at the other end may be another one the next time.
var adminClient = &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
