// Package upstream holds the targets that requests are forwarded to, chooses among them, and speaks HTTP/1.1
// with them.
//
// A Pool is one upstream of the configuration. Its lineup (lineup.go) is the targets of the moment: each address of
// a name (names.go) is one. Admit chooses a target (balance.go) of those that take part (presence.go: health checks
// and ejection), have room (line.go) and whose breaker lets a request in (breaker.go), and gives out a Pass, which
// Leave ends with what came of it. A Conn is one connection to a target, leased for one exchange. The package never
// retries: the engine owns the only retry loop and learns from an error's type how far an exchange had come; the
// pool only says whether there are means for one more.
//
// # Lanes
//
// With Config.Pipeline requests that are safe and end with their head share connections (lanes.go). A Place, in place
// of a Conn, is what such an exchange leases: it adds its request to what a lane (lane.go) is to send, and waits until
// the lane has the answer. One goroutine of the lane sends (lane_send.go): woken by the first request, it first lets
// all who are ready to run add theirs, and then writes once. The other one receives: it reads what there is, and gives
// the answers in it to the places in their order. Both begin with the lane, which is when a request finds none with
// room, and have ended when CloseIdle returns.
//
// What holds of a lane: at most Pipeline requests are in flight on it. An answer is given to the request that was sent
// first of those not answered, if that was sent before the answer came, else to nobody. Whatever breaks the order, or
// ends the connection, ends the lane; who was answered keeps his answer, and the others learn how far they had come,
// as with connections of their own. Nobody waits long for another's answer: those behind one that is late, large or
// without a length are moved (ErrMoved), and who leaves only gives up its place. An answer is in the place's memory, at
// most 64 KiB of it, or its exchange gets the connection. How often that may be is lane_credit.go's to say.
//
// # Another transport
//
// Pools, balancing, breakers and passes know nothing of HTTP/1.1, and of connections only that a target leases them
// (target.go, reserve.go): HTTP/2 to targets finds them ready. It will plug in at two places of the engine: where ask.go asks
// a target, as it asks by a Place, and where response.go relays what a Lease (lease.go) has. Only a Conn has bytes to
// send in parts and a socket to half-close; uploads and tunnels (pump.go, tunnel.go) want one.
package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/engine/socket"
)

// Timeouts bound one exchange with a target.
type Timeouts struct {
	Connect  time.Duration // name lookup, TCP and TLS handshakes together
	Response time.Duration // from the first byte sent to the end of the response's head
	Idle     time.Duration // longest pause in a response body or an upgraded stream
}

// TargetConfig names one server of an upstream, or as many as its name has addresses.
type TargetConfig struct {
	Address string // host:port, or unix:PATH
	TLS     bool
	Weight  int // share of the requests of each address, relative to the others; 0 sends none
}

// Config describes a pool. The zero value of a timeout means none.
type Config struct {
	Name    string
	Targets []TargetConfig
	Balance Policy
	Breaker *BreakerConfig // of each target; nil: none
	Budget  float64        // retries at once, as a share of the requests in progress; at least minRetries
	MaxIdle int            // most idle connections kept to each target
	// MaxInFlight is how many requests a target takes at once, and so many more for each of them may wait; 0: no limit.
	MaxInFlight int
	// Pipeline is how many requests a connection carries at once that many share; 0: none is shared.
	Pipeline int
	Resolve  time.Duration // how often names are looked up again, a second at least
	Timeouts Timeouts
	TLS      *tls.Config // for targets with TLS; an empty ServerName means the target's host

	// Epoch is when the now of all methods is zero.
	Epoch  time.Time
	Health *HealthConfig // active checks of each target; nil: none
	Random func() uint64 // uniform; spreads checks and lookups in time; nil: they are not spread

	// Resolver looks up names; nil: the system's.
	Resolver Resolver
	// Resolved is told of the addresses that a name has from now on, or why it cannot be looked up: once, until it
	// can. It must not block. nil: nobody is.
	Resolved func(name string, addresses []string, err error)

	// Present is told that a target takes part in the choice again, or does not and why, and must not block.
	// nil: nobody is.
	Present func(target string, present bool, why error)
	// Changed is told that a target's breaker changed, by the request that made it, and must not block. nil:
	// nobody is.
	Changed func(target string, from, to BreakerState)
	// Panicked is told of a bug that was met on a goroutine of the pool's own, from which it can ask for the stack. nil:
	// a bug stops the process.
	Panicked func(recovered any)
	// Poller watches the sockets of connections; nil: none can be opened.
	Poller *socket.Poller
}

// Pool is an upstream's targets and the state that outlives a reload: idle connections, addresses of names,
// breakers, counts, requests in progress. It is safe for concurrent use.
type Pool struct {
	config   Config
	servers  []*server
	renewing sync.Mutex // one change of the lineup at a time
	lineup   atomic.Pointer[lineup]
	presence presence
	line     line
	counts   poolCounts
	_        [64]byte     // the above is read by every request, what is below written
	inFlight atomic.Int64 // requests in progress, for Hash
	retries  atomic.Int64 // in progress: requests that are not the first try
	laneWork sync.WaitGroup
}

// New builds a pool. It opens no connection, looks nothing up and starts no goroutine.
func New(c Config) (*Pool, error) {
	p, err := build(c)
	if err != nil {
		return nil, fmt.Errorf("cannot build upstream %q: %w", c.Name, err)
	}
	return p, nil
}

func build(c Config) (*Pool, error) {
	if len(c.Targets) == 0 {
		return nil, errors.New("no targets")
	}
	if c.Random == nil {
		c.Random = func() uint64 { return math.MaxUint64 / 2 }
	}
	if c.Resolver == nil {
		c.Resolver = net.DefaultResolver
	}
	p := &Pool{config: c}
	p.presence = presence{lineup: &p.lineup, line: &p.line, changed: c.Present}
	if err := p.validHealth(); err != nil {
		return nil, err
	}
	for _, tc := range c.Targets {
		s, err := newServer(tc)
		if err != nil {
			return nil, err
		}
		if s.host == "" {
			s.targets = []*Target{p.newTarget(s, tc.Address)}
		}
		p.servers = append(p.servers, s)
	}
	l, err := p.newLineup()
	if err != nil {
		return nil, err
	}
	p.lineup.Store(l)
	return p, nil
}

// validHealth tells whether the checks can be made; the host of each is its target's address, if not given.
func (p *Pool) validHealth() error {
	if p.config.Health == nil {
		return nil
	}
	c := *p.config.Health
	if c.Host == "" {
		c.Host = "target"
	}
	return c.Validate()
}

// Name is the upstream's name in the configuration.
func (p *Pool) Name() string { return p.config.Name }

// Timeouts are those the pool was built with.
func (p *Pool) Timeouts() Timeouts { return p.config.Timeouts }

// Targets lists the pool's targets in the order of the configuration, those of one name by address. The slice is
// not to be changed.
func (p *Pool) Targets() []*Target { return p.lineup.Load().targets }

// Example is a target like the first one, outside of the pool, to tell what such a one would be sent.
func (p *Pool) Example() *Target { return p.newTarget(p.servers[0], p.servers[0].Address) }

// CloseIdle closes the connections that no exchange holds. Leased ones are closed, not pooled, when
// their exchange ends: a retired pool holds nothing for long. It returns when no lane is left, which is when all
// requests in lanes have had their answers, or have given up.
func (p *Pool) CloseIdle() {
	for _, t := range p.Targets() {
		t.retire()
	}
	p.laneWork.Wait()
}
