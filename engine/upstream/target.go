package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"math"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/valyala/fasthttp"
)

// idleConnection is how long a connection may wait in the pool: shorter than the keep-alive of the
// usual servers, so that it is mostly us who close.
const idleConnection = 30 * time.Second

// Target is one server of an upstream. It is safe for concurrent use.
type Target struct {
	seat
	absence
	ejector ejector
	checker *checker // nil: no active checks
	index   int      // in its pool
	address string
	tls     *tls.Config // nil: plain
	client  *fasthttp.HostClient
	conns   lessor
	names   *names
	buffers readers
	maxIdle int
	connect time.Duration
	retired atomic.Bool // its pool left the configuration: connections are closed, not kept
}

func newTarget(c Config, tc TargetConfig) (*Target, error) {
	host, _, err := net.SplitHostPort(tc.Address)
	if err != nil && !isUnix(tc.Address) {
		return nil, fmt.Errorf("target %q: %w", tc.Address, err)
	}
	t := &Target{
		seat:    seat{weight: int64(tc.Weight), id: xxhash.Sum64String(tc.Address)},
		address: tc.Address,
		names:   newNames(tc.Address, c.Resolve),
		maxIdle: c.MaxIdle,
		connect: c.Timeouts.Connect,
	}
	if tc.TLS {
		t.tls = &tls.Config{MinVersion: tls.VersionTLS12}
		if c.TLS != nil {
			t.tls = c.TLS.Clone()
		}
		if t.tls.ServerName == "" {
			t.tls.ServerName = host
		}
		t.tls.NextProtos = []string{"http/1.1"}
	}
	t.client = &fasthttp.HostClient{
		Addr:                      tc.Address,
		MaxConns:                  math.MaxInt32,
		MaxIdleConnDuration:       idleConnection,
		MaxIdemponentCallAttempts: 1,
		DialTimeout: func(_ string, timeout time.Duration) (net.Conn, error) {
			return t.dial(timeout)
		},
	}
	if c.Breaker != nil {
		t.breaker = NewBreaker(*c.Breaker, func(from, to BreakerState) { t.changed(&c, from, to) })
	}
	t.conns = lend(t.client.AcquireConn, t.client.ReleaseConn, t.client.CloseConn)
	return t, nil
}

// changed is told of its breaker's changes. A target that is trusted again is warmed up.
func (t *Target) changed(c *Config, from, to BreakerState) {
	if to == BreakerClosed {
		t.restart(time.Since(c.Epoch))
	}
	if c.Changed != nil {
		c.Changed(t.address, from, to)
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
	if isUnix(t.address) {
		return "localhost"
	}
	return t.address
}

// Address is the target's host:port or unix:PATH as configured.
func (t *Target) Address() string { return t.address }

// TLS says whether the target is spoken to over TLS.
func (t *Target) TLS() bool { return t.tls != nil }

// Connections counts the open connections and, among them, the idle ones.
func (t *Target) Connections() (open, idle int) {
	return t.client.ConnsCount(), t.client.IdleConnsCount()
}

// Acquire leases a connection: an idle one that is still clean, or a new one. The caller gives it
// back by Release or Discard. An error means that no byte was sent.
func (t *Target) Acquire() (*Conn, error) {
	for {
		c, err := t.conns.acquire(t.connect)
		if err != nil {
			return nil, &Error{Phase: PhaseConnect, Err: err}
		}
		if c.exchanges == 0 {
			return c, nil
		}
		if c.clean() && t.names.has(c.remote) {
			return c, nil
		}
		t.Discard(c)
	}
}

// Release gives a connection back after an exchange that ended cleanly; Conn.Reusable must be true.
func (t *Target) Release(c *Conn) {
	c.reset()
	if t.retired.Load() || t.client.IdleConnsCount() >= t.maxIdle {
		t.conns.discard(c)
		return
	}
	t.conns.release(c)
}

// Discard closes a leased connection.
func (t *Target) Discard(c *Conn) {
	c.reset()
	t.conns.discard(c)
}

// dial opens a connection within timeout, trying the addresses of the target's name in turn.
func (t *Target) dial(timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	c, err := t.dialContext(ctx)
	if err != nil {
		return nil, err // not a nil *Conn in an interface
	}
	return c, nil
}

func (t *Target) dialContext(ctx context.Context) (*Conn, error) {
	addresses, err := t.names.addresses(ctx, time.Now())
	if err != nil {
		return nil, err
	}
	for _, address := range addresses {
		var c *Conn
		if c, err = t.dialAddress(ctx, address); err == nil {
			return c, nil
		}
	}
	return nil, err
}

func (t *Target) dialAddress(ctx context.Context, address string) (*Conn, error) {
	var d net.Dialer
	network := "tcp"
	if isUnix(address) {
		network, address = "unix", strings.TrimPrefix(address, "unix:")
	}
	socket, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	stream := socket
	if t.tls != nil {
		secure := tls.Client(socket, t.tls)
		if err := secure.HandshakeContext(ctx); err != nil {
			_ = socket.Close()
			return nil, err
		}
		stream = secure
	}
	return newConn(stream, socket, address, &t.buffers), nil
}

// lessor leases the connections of a fasthttp.HostClient.
type lessor interface {
	acquire(timeout time.Duration) (*Conn, error)
	release(*Conn)
	discard(*Conn)
}

// lease is what HostClient hands out; its concrete type is not exported.
type lease interface{ Conn() net.Conn }

type hostLessor[L lease] struct {
	acquireLease func(time.Duration, bool) (L, error)
	releaseLease func(L)
	closeLease   func(L)
}

// lend infers the type of a HostClient's leases from its methods, for only inference can name it.
func lend[L lease](acquire func(time.Duration, bool) (L, error), release, closeLease func(L)) lessor {
	return &hostLessor[L]{acquire, release, closeLease}
}

func (h *hostLessor[L]) acquire(timeout time.Duration) (*Conn, error) {
	l, err := h.acquireLease(timeout, false)
	if err != nil {
		return nil, err
	}
	c, ok := l.Conn().(*Conn)
	if !ok {
		panic("BUG: a connection that dial did not open")
	}
	c.lease = l
	return c, nil
}

func (h *hostLessor[L]) release(c *Conn) { h.releaseLease(c.take().(L)) }
func (h *hostLessor[L]) discard(c *Conn) { h.closeLease(c.take().(L)) }
