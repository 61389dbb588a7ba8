// Package upstream holds the targets that requests are forwarded to, chooses among them, and speaks HTTP/1.1
// with them.
//
// A Pool is one upstream of the configuration. Admit chooses a target (balance.go) of those that take part
// (presence.go: health checks and ejection) and whose breaker lets a request in (breaker.go), and gives out a
// Pass, which Leave ends with what came of it. A Conn is one connection to a target, leased for one exchange.
// The package never retries: the engine owns the only retry loop and learns from an error's type how far an
// exchange had come; the pool only says whether there are means for one more.
package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync/atomic"
	"time"
)

// Timeouts bound one exchange with a target.
type Timeouts struct {
	Connect  time.Duration // name lookup, TCP and TLS handshakes together
	Response time.Duration // from the first byte sent to the end of the response's head
	Idle     time.Duration // longest pause in a response body or an upgraded stream
}

// TargetConfig names one server of an upstream.
type TargetConfig struct {
	Address string // host:port, or unix:PATH
	TLS     bool
	Weight  int // share of the requests, relative to the other targets; 0 sends none
}

// Config describes a pool. The zero value of a timeout means none.
type Config struct {
	Name     string
	Targets  []TargetConfig
	Balance  Policy
	Breaker  *BreakerConfig // of each target; nil: none
	Budget   float64        // retries at once, as a share of the requests in progress; at least minRetries
	MaxIdle  int            // most idle connections kept to each target
	Resolve  time.Duration  // how often names are looked up again; 0 never
	Timeouts Timeouts
	TLS      *tls.Config // for targets with TLS; an empty ServerName means the target's host

	// Epoch is when the now of all methods is zero.
	Epoch  time.Time
	Health *HealthConfig // active checks of each target; nil: none
	Random func() uint64 // uniform; needed for Health

	// Present is told that a target takes part in the choice again, or does not and why, and must not block.
	// nil: nobody is.
	Present func(target string, present bool, why error)
	// Changed is told that a target's breaker changed, by the request that made it, and must not block. nil:
	// nobody is.
	Changed func(target string, from, to BreakerState)
}

// Pool is an upstream's targets and the state that outlives a reload: idle connections, resolved
// names, breakers, requests in progress. It is safe for concurrent use.
type Pool struct {
	config   Config
	targets  []*Target
	balancer balancer
	presence presence
	inFlight atomic.Int64 // requests
	retries  atomic.Int64 // those of them that are not the first try
}

// New builds a pool. It opens no connection and starts no goroutine.
func New(c Config) (*Pool, error) {
	if len(c.Targets) == 0 {
		return nil, fmt.Errorf("cannot build upstream %q: no targets", c.Name)
	}
	p := &Pool{config: c}
	p.presence.changed = c.Present
	if c.Health != nil {
		if err := p.validHealth(); err != nil {
			return nil, fmt.Errorf("cannot build upstream %q: %w", c.Name, err)
		}
	}
	var seats []*seat
	for i, tc := range c.Targets {
		t, err := newTarget(c, tc)
		if err != nil {
			return nil, fmt.Errorf("cannot build upstream %q: %w", c.Name, err)
		}
		t.index = i
		if c.Health != nil {
			t.check(p, *c.Health)
		}
		p.targets = append(p.targets, t)
		seats = append(seats, &t.seat)
	}
	p.presence.targets = p.targets
	var err error
	if p.balancer, err = newBalancer(c.Balance, seats, &p.inFlight); err != nil {
		return nil, fmt.Errorf("cannot build upstream %q: %w", c.Name, err)
	}
	return p, nil
}

// validHealth tells whether the checks can be made; the host of each is its target's address, if not given.
func (p *Pool) validHealth() error {
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

// Targets lists the pool's targets in the order of the configuration. The slice is not to be changed.
func (p *Pool) Targets() []*Target { return p.targets }

// Refresh looks up again the names that are due at now. It blocks for the lookups; a failed one
// keeps the last good addresses.
func (p *Pool) Refresh(ctx context.Context, now time.Time) {
	for _, t := range p.targets {
		t.names.refresh(ctx, now)
	}
}

// CloseIdle closes the connections that no exchange holds. Leased ones are closed, not pooled, when
// their exchange ends: a retired pool holds nothing for long.
func (p *Pool) CloseIdle() {
	for _, t := range p.targets {
		t.retired.Store(true)
		t.client.CloseIdleConnections()
	}
}
