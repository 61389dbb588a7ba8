package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/upstream"
)

// gateway is an engine that runs in the test's process.
type gateway struct {
	*Engine
	path     string
	address  string
	resolver upstream.Resolver // nil: the system's
	stdout   io.Writer         // nil: nothing
	bedtime  time.Duration     // 0: as it is
}

// startGateway runs an engine on a free port with the tables given.
func startGateway(t testing.TB, tables string) *gateway {
	t.Helper()
	return startGatewayWith(t, tables, rand.Uint64)
}

func startGatewayWith(t testing.TB, tables string, random func() uint64) *gateway {
	t.Helper()
	g := &gateway{path: filepath.Join(t.TempDir(), "gateway.toml"), address: freeAddress(t)}
	g.write(t, tables)
	g.launch(t, random)
	return g
}

// launch runs the engine on the configuration as it is written, until the test ends.
func (g *gateway) launch(t testing.TB, random func() uint64) {
	t.Helper()
	e, err := New(Options{
		Path: g.path, Version: "test", Random: random, Log: telemetry.NewLog(io.Discard, "json", false), Resolver: g.resolver,
		Stdout: g.stdout,
	})
	if err != nil {
		t.Fatal(err)
	}
	if g.bedtime > 0 {
		e.dormitory.bedtime, e.dormitory.many = g.bedtime, 50
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	g.Engine = e
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		e.Drain(ctx)
	})
}

func (g *gateway) write(t testing.TB, tables string) {
	t.Helper()
	g.writeServer(t, "", tables)
}

// writeServer writes a configuration with more keys of [server].
func (g *gateway) writeServer(t testing.TB, server, tables string) {
	t.Helper()
	text := fmt.Sprintf("[server]\nlisten = [%q]\n%s[admin]\nlisten = \"\"\n%s", g.address, server, tables)
	next := g.path + ".next" // half a file is another configuration
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, g.path); err != nil {
		t.Fatal(err)
	}
}

// portsTried counts the ports that freeAddress has tried. They are below those that the system gives to whoever connects
// or asks for any, as it may give one of these away before it is used here; and other tests that run now begin elsewhere.
var portsTried atomic.Uint32

// freeAddress is one that nobody listens on.
func freeAddress(t testing.TB) string {
	t.Helper()
	for range 1000 {
		address := fmt.Sprintf("127.0.0.1:%d", 10_000+(97*uint32(os.Getpid())+portsTried.Add(1))%22_000)
		if l, err := net.Listen("tcp", address); err == nil {
			_ = l.Close()
			return address
		}
	}
	t.Fatal("no port is free")
	return ""
}

// publicRoute is the tables of one upstream and a route that takes everything to it.
func publicRoute(target string) string {
	return fmt.Sprintf(`
[upstream.origin]
targets = ["http://%s"]
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to   = "origin"
`, target)
}

// rawServer answers every request head that it reads, on every connection, with the same bytes.
func rawServer(t testing.TB, answer string) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go answerAll(l, answer)
	return l.Addr().String()
}

// answerAll is a server that is done when its listener is closed.
func answerAll(l net.Listener, answer string) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go answerHeads(c, []byte(answer))
	}
}

func answerHeads(c net.Conn, answer []byte) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return
		}
		if len(line) > 2 {
			continue
		}
		if _, err := c.Write(answer); err != nil {
			return
		}
	}
}

// rawClient is one connection to a gateway.
type rawClient struct {
	net.Conn
	in *bufio.Reader
}

func dial(t testing.TB, address string) *rawClient {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return &rawClient{Conn: c, in: bufio.NewReader(c)}
}

// exchange sends a request and reads exactly n bytes of the answer into p.
func (c *rawClient) exchange(request, p []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	_, err := io.ReadFull(c.in, p)
	return err
}

const (
	smallAnswer  = "HTTP/1.1 200 OK\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Type: text/plain\r\nContent-Length: 12\r\n\r\nhello, world"
	usualRequest = "GET /users/42?page=1 HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: test/1.0\r\nAccept: */*\r\n" +
		"Accept-Encoding: gzip, br\r\nCookie: session=0123456789abcdef\r\nX-API-Version: v1\r\n\r\n"
	postRequest = "POST /users HTTP/1.1\r\nHost: api.example.com\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
)

// destinationTables is a route behind a header switch and a sticky split, strip_prefix on.
func destinationTables(target string) string {
	return publicRoute(target) + `
[split.canary]
weights = { origin = 1 }
sticky  = "cookie:session"
[switch.version]
header  = "X-API-Version"
cases   = { v1 = "canary" }
default = "origin"
[[route]]
name = "users"
path = "/users/*"
strip_prefix = true
auth = ["none"]
to   = "version"
`
}

// eventually waits until ok, and fails the test when that takes too long.
func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("did not happen in time")
		}
	}
}
