//go:build !race

package engine

import (
	"bufio"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// eager is a client whose next request is always there, and who takes every answer.
type eager struct {
	net.Conn // nil: what is not here is not for this client
	request  []byte
	status   [len("HTTP/1.1 200")]byte // of the last answer
}

func (c *eager) Read(p []byte) (int, error) { return copy(p, c.request), nil }

func (c *eager) Write(p []byte) (int, error) {
	copy(c.status[:], p)
	return len(p), nil
}

func (c *eager) SetReadDeadline(time.Time) error { return nil }
func (c *eager) RemoteAddr() net.Addr            { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 4711} }
func (c *eager) Close() error                    { return nil }

// fullTables is everything that users switch on: authentication, a limit, prefixes taken away, the access log.
func fullTables(t testing.TB, target, limit string) (tables, key, token string) {
	t.Helper()
	tables, key, token = credentials(t, target)
	limits := limitTable("per-client", "key = [\"client\"]\nrate = \"1000000/s\"\nburst = 1000000000") +
		limitTable("refusing", "key = [\"client\"]\nrate = \"1/d\"\nburst = 1")
	tables = strings.ReplaceAll(tables, "to     = \"version\"", "to = \"origin\"\nstrip_prefix = true\nlimits = [\""+limit+"\"]")
	return "[log]\naccess = \"/dev/null\"\n" + limits + tables, key, token
}

// BenchmarkOwnWork is what the gateway itself does for a request with everything on, neither a system call nor another
// goroutine among it: what a change of that work changes can be seen here, while of a whole exchange it is a fifth.
func BenchmarkOwnWork(b *testing.B) {
	for _, c := range []struct{ name, limit, path, status string }{
		{"key", "per-client", "/key/42", "200"},
		{"token", "per-client", "/token/42", "200"},
		{"refused", "refusing", "/key/42", "429"},
	} {
		b.Run(c.name, func(b *testing.B) {
			tables, key, token := fullTables(b, "127.0.0.1:1", c.limit)
			g := startGateway(b, tables)
			line := "X-API-Key: " + key
			if c.name == "token" {
				line = "Authorization: Bearer " + token
			}
			client := &eager{request: usualAs(c.path, line)}
			w := work{conn: newConn(g.Engine, client, nil), answer: strings.NewReader(smallAnswer)}
			w.in = bufio.NewReader(w.answer)
			b.Cleanup(func() { _ = w.conn.Close() })
			if c.name == "refused" {
				w.exchange(b)
			}
			w.exchange(b)
			if got := string(client.status[:]); got != "HTTP/1.1 "+c.status {
				b.Fatal(got)
			}
			b.ReportAllocs()
			for b.Loop() {
				w.exchange(b)
			}
		})
	}
}

// work is a connection of a client, and what the target of all its requests says.
type work struct {
	conn     *conn
	answer   *strings.Reader
	in       *bufio.Reader
	head     []byte
	response upstream.Response
}

// exchange is what attend does, but for the system calls.
func (w *work) exchange(b *testing.B) {
	c := w.conn
	if err := c.next(); err != nil {
		b.Fatal(err)
	}
	x, e := c.x, c.engine
	x.snap, x.asked = e.snapshot.Load(), true
	x.identify()
	if fault := w.handle(x); fault != nil {
		x.answer(fault)
	}
	if !x.deliver() || !c.finish() {
		b.Fatal("the connection ends")
	}
}

// handle is Engine.handle, forward included.
func (w *work) handle(x *exchange) *Fault {
	e := x.conn.engine
	fault := x.parse()
	x.understood = true
	x.locate()
	index, _ := x.snap.table.Match(x.method, x.host, x.path, &x.captures)
	x.route = x.snap.routes[index]
	x.route.counts.Begin(e.metrics, x.conn.stripe)
	if fault == nil {
		fault = x.authenticate()
	}
	if fault == nil {
		fault = x.charge(x.route.limits)
	}
	if fault != nil {
		return fault
	}
	destination, _ := x.choose(x.route.to)
	x.pool = destination.pool
	choice := upstream.Choice{Key: x.hashKey()}
	if fault := e.admit(x, &choice); fault != nil {
		return fault
	}
	x.attempts++
	x.spent.since = x.at(e.started.Add(choice.Now))
	x.out = x.appendHead(x.out[:0])
	w.receive(x.method)
	x.reached()
	w.respond(x)
	return nil
}

// receive is what upstream does of an answer that has come.
func (w *work) receive(method []byte) {
	w.answer.Reset(smallAnswer)
	w.in.Reset(w.answer)
	r := &w.response
	w.head, _ = wire.ReadHead(w.in, w.head[:0], 16<<10)
	line, block, _ := wire.CutStartLine(w.head)
	r.Status, _ = wire.ParseStatusLine(line)
	r.Fields, _ = wire.ParseFields(r.Fields[:0], block)
	r.Framing, _ = wire.ResponseFraming(method, r.Status.Code, r.Status.Minor, r.Fields)
	r.Body.Reset(w.in, r.Framing)
}

// respond is Engine.respond, for an answer that is whole.
func (w *work) respond(x *exchange) {
	x.status = w.response.Status.Code
	x.back = x.appendResponseHead(x.back[:0], &w.response)
	x.back = append(x.back, "Content-Length: 12\r\n"...)
	x.settle()
	x.back = append(x.appendConnection(x.back), "\r\n"...)
	n, _ := w.response.Body.Read(x.back[len(x.back):cap(x.back)])
	x.back = x.back[:len(x.back)+n]
	x.pool.Leave(&x.pass, x.outcome(), x.ready.Sub(x.conn.engine.started))
}
