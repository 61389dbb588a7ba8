// Package upstream holds the targets that requests are forwarded to, and the HTTP/1.1 transport
// that speaks to them.
//
// A Pool is one upstream of the configuration: targets and the choice between them. A Conn is one
// connection to a target, leased for one exchange. The package never retries: the engine owns the
// only retry loop and learns from an error's type how far an exchange had come.
package upstream

import (
	"context"
	"crypto/tls"
	"errors"
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
	Address string // host:port
	TLS     bool
	Weight  int // share of the requests, relative to the other targets; 0 sends none
}

// Config describes a pool. The zero value of a timeout means none.
type Config struct {
	Name     string
	Targets  []TargetConfig
	MaxIdle  int           // most idle connections kept to each target
	Resolve  time.Duration // how often names are looked up again; 0 never
	Timeouts Timeouts
	TLS      *tls.Config // for targets with TLS; an empty ServerName means the target's host
}

// ErrNoTarget says that no target of the pool may take a request.
var ErrNoTarget = errors.New("upstream: no target may take a request")

// maxSchedule bounds the precomputed order of a weighted pool.
const maxSchedule = 1 << 12

// Pool is an upstream's targets and the state that outlives a reload: idle connections, resolved
// names, the place in the round. It is safe for concurrent use.
type Pool struct {
	config   Config
	targets  []*Target
	schedule []uint16 // indices into targets: one whole round, heavier targets spread evenly
	turn     atomic.Uint32
}

// New builds a pool. It opens no connection and starts no goroutine.
func New(c Config) (*Pool, error) {
	if len(c.Targets) == 0 {
		return nil, fmt.Errorf("cannot build upstream %q: no targets", c.Name)
	}
	p := &Pool{config: c}
	weights := make([]int, len(c.Targets))
	for i, tc := range c.Targets {
		t, err := newTarget(c, tc)
		if err != nil {
			return nil, fmt.Errorf("cannot build upstream %q: %w", c.Name, err)
		}
		p.targets = append(p.targets, t)
		weights[i] = tc.Weight
	}
	schedule, err := smoothRound(weights)
	if err != nil {
		return nil, fmt.Errorf("cannot build upstream %q: %w", c.Name, err)
	}
	p.schedule = schedule
	return p, nil
}

// Name is the upstream's name in the configuration.
func (p *Pool) Name() string { return p.config.Name }

// Timeouts are those the pool was built with.
func (p *Pool) Timeouts() Timeouts { return p.config.Timeouts }

// Targets lists the pool's targets in the order of the configuration. The slice is not to be changed.
func (p *Pool) Targets() []*Target { return p.targets }

// Pick chooses a target in weighted round-robin order. A second choice for the same request names the
// target to avoid: it takes the next other one, if there is one, and costs nobody a turn, for otherwise
// a target that fails would be the first choice of every request. A nil avoid avoids none.
func (p *Pool) Pick(avoid *Target) (*Target, error) {
	n := uint32(len(p.schedule)) // #nosec G115 -- at most maxSchedule
	if n == 0 {
		return nil, ErrNoTarget
	}
	if avoid == nil {
		return p.targets[p.schedule[(p.turn.Add(1)-1)%n]], nil
	}
	start := p.turn.Load()
	for i := range n {
		if t := p.targets[p.schedule[(start+i)%n]]; t != avoid {
			return t, nil
		}
	}
	return avoid, nil
}

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

// smoothRound spreads weights over one round so that a heavy target's turns are apart (the smooth
// weighted round-robin of nginx), divided by their common divisor.
func smoothRound(weights []int) ([]uint16, error) {
	total, divisor := 0, 0
	for _, w := range weights {
		if w < 0 {
			return nil, fmt.Errorf("weight %d is negative", w)
		}
		total += w
		divisor = gcd(divisor, w)
	}
	if total == 0 {
		return nil, nil
	}
	length := total / divisor
	if length > maxSchedule {
		return nil, fmt.Errorf("weights add up to %d shares, more than %d", length, maxSchedule)
	}
	round := make([]uint16, 0, length)
	current := make([]int, len(weights))
	for range length {
		best := -1
		for i, w := range weights {
			if w == 0 {
				continue
			}
			current[i] += w / divisor
			if best < 0 || current[i] > current[best] {
				best = i
			}
		}
		current[best] -= length
		round = append(round, uint16(best)) // #nosec G115 -- a pool has far fewer targets
	}
	return round, nil
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
