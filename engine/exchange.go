package engine

import (
	"bufio"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/router"
)

// exchange is one request and its answer: everything that the request path learns, in one place. It
// is pooled; reset names every field that must not be seen by the next one. Byte slices point into
// head or into buffers of its own, and live as long as the exchange.
type exchange struct {
	conn   *conn
	snap   *snapshot
	asked  bool      // it is a request, or the attempt at one, that has to be answered
	start  time.Time // when the head began to arrive
	served time.Time // when the head was complete, or gave up on: the exchange's own time begins

	head    []byte
	line    wire.RequestLine
	fields  []wire.Field
	framing wire.Framing
	body    wire.Body
	broken  error // why the head was refused

	method     []byte
	understood bool   // what follows is well-formed
	host       []byte // as the client named it, port included
	path       []byte // normalised: what is matched and what is forwarded
	query      []byte // verbatim, with its "?"
	client     netip.Addr
	trusted    bool // the peer is a trusted proxy
	keepAlive  bool
	upgrade    []byte // the protocol asked for, when the request may be upgraded
	proceed    bool   // the client waits for 100 Continue

	requestID []byte
	traced    telemetry.TraceFields // what the request says of its trace
	trace     telemetry.Trace
	recording recording
	route     *route
	captures  router.Captures
	variant   string // the destination that a split or switch chose; empty when there was no choice
	pool      *pool
	target    *upstream.Target
	pass      upstream.Pass   // to the target
	place     upstream.Waiter // in the line for one
	retrying  bool            // the next pass is a retry's
	reopens   time.Duration   // when a breaker lets somebody through, if all are open
	cutShort  bool            // the target did not finish its answer
	left      bool            // the client did not wait for the end of it, or was too slow
	attempts  int
	fault     *Fault // what the gateway answered itself, if it did
	status    int

	principal *auth.Principal // who the request is from; nil: nobody was asked
	presented uint32          // bits: the route's carriers that held something
	patience  patience

	metering metering
	timer    *time.Timer // of sleep; nil until one is needed

	spent  spent
	record telemetry.Record // what observe tells of it

	deadline    time.Time      // of the whole exchange
	upstream    upstream.Lease // of the attempt under way; nil: none
	uploadFault *Fault         // why the request's body could not be carried on
	halted      atomic.Bool    // no more of the request's body is wanted
	pump        *pump

	out      []byte    // what is sent upstream
	payload  []byte    // the request's body, when it is small and had arrived with the head
	inlined  bool      // payload is all of the body
	ready    time.Time // when the response was
	back     []byte    // the response as the client gets it: its head, and its body if that is here
	delivery delivery
	chunked  bool     // the response's body is sent in chunks
	closes   bool     // the connection ends with the response
	begun    bool     // a part of the response may have been sent
	trailers [][]byte // what the response announces to follow its body
	scratch  []byte
}

// readHead reads the request and arms its body. What it does not understand is refused by wire.
func (x *exchange) readHead(in *bufio.Reader, limit int) error {
	var err error
	if x.head, err = wire.ReadRequestHead(in, x.head[:0], limit); err != nil {
		return err
	}
	line, block, err := wire.CutStartLine(x.head)
	if err != nil {
		return err
	}
	if x.line, err = wire.ParseRequestLine(line); err != nil {
		return err
	}
	if x.fields, err = wire.ParseFields(x.fields[:0], block); err != nil {
		return err
	}
	if x.framing, err = wire.RequestFraming(x.line.Minor, x.fields); err != nil {
		return err
	}
	if x.host, err = wire.Host(x.line.Minor, x.fields); err != nil {
		return err
	}
	x.body.Reset(in, x.framing)
	return nil
}

// open takes note of what was read, or of why there is nothing to be understood.
func (x *exchange) open(broken error) {
	x.broken = broken
	if broken != nil {
		x.conn.mustLinger = true
		return
	}
	x.method = x.line.Method
	x.readConnection()
}

// readConnection reads the fields that govern the connection itself.
func (x *exchange) readConnection() {
	closes, keeps, upgrades := false, false, false
	var protocol []byte
	for _, f := range x.fields {
		switch {
		case wire.EqualFold(f.Name, "connection"):
			closes = closes || wire.HasToken(f.Value, []byte("close"))
			keeps = keeps || wire.HasToken(f.Value, []byte("keep-alive"))
			upgrades = upgrades || wire.HasToken(f.Value, []byte("upgrade"))
		case wire.EqualFold(f.Name, "upgrade"):
			protocol = f.Value
		case wire.EqualFold(f.Name, "expect"):
			x.proceed = x.line.Minor == 1 && x.framing.Kind != wire.NoBody && wire.HasToken(f.Value, []byte("100-continue"))
		}
	}
	x.keepAlive = !closes && (x.line.Minor == 1 || keeps)
	// Only a request that ends with its head can be followed by another protocol. HTTP/2 is not one
	// that an upstream may be switched to behind our back.
	if upgrades && x.line.Minor == 1 && x.framing.Kind == wire.NoBody && wire.Token(protocol) && !wire.EqualFold(protocol, "h2c") {
		x.upgrade = protocol
	}
}

func (x *exchange) headDeadline() time.Time {
	return x.start.Add(x.conn.engine.snapshot.Load().server.headerTimeout)
}

// bodyDeadline is when the next read of the request's body gives up.
func (x *exchange) bodyDeadline(now time.Time) time.Time {
	return now.Add(x.conn.engine.snapshot.Load().server.bodyIdleTimeout)
}

// halt stops the reading of the request's body: the read in progress fails and no other begins.
func (x *exchange) halt() {
	x.halted.Store(true)
	_ = x.conn.SetReadDeadline(time.Unix(1, 0))
}

// wanted fails once the body has been halted; it is asked after each deadline is set, so that a
// deadline cannot undo a halt.
func (x *exchange) wanted() error {
	if x.halted.Load() {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// hold makes l the lease of the current attempt.
func (x *exchange) hold(l upstream.Lease) {
	x.upstream = l
	x.conn.leased.Store(l.Tether())
}

// drop ends the lease of the current attempt. What it is of is kept for others only if reusable,
// and if nobody has cut it meanwhile.
func (x *exchange) drop(reusable bool) {
	l := x.upstream
	if l == nil {
		return
	}
	x.upstream = nil
	if x.conn.leased.CompareAndSwap(l.Tether(), nil) && reusable {
		x.target.Release(l)
		return
	}
	x.target.Discard(l)
}

// cut ends the wait for the target from outside the connection's goroutine. The lease itself stays
// with the exchange, which finds it broken.
func (x *exchange) cut() {
	if t := x.conn.leased.Swap(nil); t != nil {
		t.Cut()
	}
}

func (x *exchange) reset() {
	x.conn, x.snap, x.route, x.pool, x.target, x.upstream, x.pump = nil, nil, nil, nil, nil, nil, nil
	x.broken, x.fault, x.uploadFault = nil, nil, nil
	x.line, x.framing = wire.RequestLine{}, wire.Framing{}
	x.body.Reset(nil, wire.Framing{})
	x.method, x.host, x.query, x.upgrade = nil, nil, nil, nil
	x.client, x.trusted, x.keepAlive, x.proceed, x.inlined = netip.Addr{}, false, false, false, false
	x.variant, x.attempts, x.status = "", 0, 0
	x.delivery, x.chunked, x.closes, x.begun = deliverWhole, false, false, false
	x.retrying, x.reopens, x.cutShort, x.left = false, 0, false, false
	x.deadline, x.ready = time.Time{}, time.Time{}
	x.principal, x.presented = nil, 0
	x.asked, x.understood, x.spent, x.record = false, false, spent{}, telemetry.Record{}
	x.trace = telemetry.Trace{}
	x.recording.reset()
	x.patience.reset()
	x.metering.reset()
	x.halted.Store(false)
	x.fields, x.payload, x.trailers = x.fields[:0], x.payload[:0], x.trailers[:0]
	x.path, x.requestID = x.path[:0], x.requestID[:0]
}

// exchanges lends exchanges to connections while a request is under way.
type exchanges struct{ free sync.Pool }

func (e *Engine) acquireExchange(c *conn) *exchange {
	x, ok := e.exchanges.free.Get().(*exchange)
	if !ok {
		x = &exchange{}
	}
	x.conn = c
	x.served = time.Now()
	x.start = x.served
	if c.served == 1 {
		x.start = c.opened
	}
	x.spent.read, x.spent.written, x.spent.stalled = c.consumed(), c.written, c.stalled
	return x
}

func (e *Engine) releaseExchange(x *exchange) {
	x.stopPump()
	x.drop(false)
	x.conclude(x.outcome())
	x.attempted(x.status, "")
	e.observe(x)
	x.reset()
	e.exchanges.free.Put(x)
}

// inputs lends the buffers that connections read requests through.
type inputs struct{ free sync.Pool }

func (i *inputs) acquire(s source, size int) *bufio.Reader {
	if in, ok := i.free.Get().(*bufio.Reader); ok && in.Size() >= size {
		in.Reset(s)
		return in
	}
	return bufio.NewReaderSize(s, max(size, 4<<10))
}

func (i *inputs) release(in *bufio.Reader) {
	in.Reset(nil)
	i.free.Put(in)
}
