package upstream

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/sluice-gateway/sluice/engine/socket"
)

// idleConnection is how long a connection may wait in the pool: shorter than the keep-alive of the
// usual servers, so that it is mostly us who close.
const idleConnection = 30 * time.Second

// Target is one server of an upstream, at one address. It is safe for concurrent use.
type Target struct {
	seat
	counts  targetCounts
	absence absence
	ejector ejector
	checker *checker    // nil: no active checks
	name    string      // host:port or unix:PATH as configured
	address string      // what is dialled: ip:port, if name is one that is looked up
	tls     *tls.Config // nil: plain
	conns   reserve
	buffers readers
	poller  *socket.Poller
	lanes   *lanes // nil: connections are not shared
	connect time.Duration
	retired atomic.Bool // it left the configuration, or its name's addresses: connections are closed, not kept

	stopChecks context.CancelFunc // nil: they have not begun
}

// newTarget is that of a server at one of its addresses.
func (p *Pool) newTarget(s *server, address string) *Target {
	c := &p.config
	t := &Target{
		seat:    seat{weight: int64(s.Weight), id: xxhash.Sum64String(address), most: int64(c.MaxInFlight)},
		name:    s.Address,
		address: address,
		conns:   reserve{most: c.MaxIdle},
		connect: c.Timeouts.Connect,
		poller:  c.Poller,
	}
	if s.host != "" { // two names may have an address in common
		t.id = xxhash.Sum64String(address + " " + s.Address)
	}
	if s.TLS {
		t.tls = c.targetTLS(s.Address)
	}
	if c.Breaker != nil {
		t.breaker = NewBreaker(*c.Breaker, func(from, to BreakerState) { p.changed(t, from, to) })
	}
	if c.Health != nil {
		t.makeChecker(p, *c.Health)
	}
	if c.Pipeline > 0 {
		t.lanes = newLanes(t, c, &p.laneWork, &t.counts.moved)
	}
	return t
}

// targetTLS is what is spoken to the target at host:port.
func (c *Config) targetTLS(address string) *tls.Config {
	own := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.TLS != nil {
		own = c.TLS.Clone()
	}
	if own.ServerName == "" {
		own.ServerName, _, _ = net.SplitHostPort(address)
	}
	own.NextProtos = []string{"http/1.1"}
	return own
}

// changed is told of a breaker's changes. A target that is trusted again is warmed up.
func (p *Pool) changed(t *Target, from, to BreakerState) {
	t.counts.breaker[to].Add(1)
	if to == BreakerClosed {
		t.restart(time.Since(p.config.Epoch))
	}
	p.line.wakeAll()
	if p.config.Changed != nil {
		p.config.Changed(t.address, from, to)
	}
}

// Breaker tells how the target's breaker stands at now, and how long it stays open.
func (t *Target) Breaker(now time.Duration) (s BreakerState, left time.Duration) {
	return t.breaker.State(now)
}

// InFlight is how many requests the target is working on for us.
func (t *Target) InFlight() int { return int(t.load()) } // #nosec G115 -- far below 2^63

// isUnix says whether an address is that of a unix socket.
func isUnix(address string) bool { return strings.HasPrefix(address, "unix:") }

// Host is what the target is called in requests that name no host.
func (t *Target) Host() string {
	if isUnix(t.name) {
		return "localhost"
	}
	return t.name
}

// Name is the target's host:port or unix:PATH as configured. Several targets may have it.
func (t *Target) Name() string { return t.name }

// Address is where the target is: the ip:port of a host name, else its Name.
func (t *Target) Address() string { return t.address }

// Weight is the target's share of the requests, relative to the others.
func (t *Target) Weight() int { return int(t.weight) }

// TLS says whether the target is spoken to over TLS.
func (t *Target) TLS() bool { return t.tls != nil }

// Connections counts the open connections and, among them, the idle ones.
func (t *Target) Connections() (open, idle int) {
	return int(t.conns.open.Load()), t.conns.idle() + t.lanes.idle()
}

// Acquire leases a connection: an idle one that is still clean, or a new one, by the deadline; zero means none but
// the target's own. The caller gives it back by Release or Discard. An error means that no byte was sent.
func (t *Target) Acquire(deadline time.Time) (*Conn, error) {
	for {
		c := t.conns.take()
		if c == nil {
			break
		}
		if c.clean() && c.drained() {
			return c, nil
		}
		t.Discard(c)
	}
	timeout := t.connect
	if !deadline.IsZero() {
		timeout = min(timeout, time.Until(deadline))
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := t.dial(ctx)
	if err != nil {
		return nil, &Error{Phase: PhaseConnect, Err: err}
	}
	t.conns.open.Add(1)
	return c, nil
}

// Release gives a lease back after an exchange that ended cleanly; its Reusable must be true.
func (t *Target) Release(l Lease) { l.end(t, true) }

// Discard ends a lease: a connection is closed.
func (t *Target) Discard(l Lease) { l.end(t, false) }

func (t *Target) release(c *Conn) {
	c.reset()
	if !t.conns.keep(c) {
		t.conns.discard(c)
	}
}

func (t *Target) discard(c *Conn) {
	c.reset()
	t.conns.discard(c)
}

// dial opens a connection.
func (t *Target) dial(ctx context.Context) (*Conn, error) {
	var d net.Dialer
	network, address := "tcp", t.address
	if isUnix(address) {
		network, address = "unix", strings.TrimPrefix(address, "unix:")
	}
	dialled, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	below, err := t.poller.Adopt(dialled)
	if err != nil {
		_ = dialled.Close()
		return nil, err
	}
	stream := net.Conn(below)
	if t.tls != nil {
		secure := tls.Client(below, t.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = below.Close()
			return nil, err
		}
		stream = secure
	}
	c := newConn(stream, below, &t.buffers)
	// A TLS stream would say farewell, and wait up to five seconds for a target that takes nothing in.
	c.tether.cut = func() { _ = below.Close() }
	if t.lanes != nil {
		c.answers = &t.lanes.answers
	}
	return c, nil
}
