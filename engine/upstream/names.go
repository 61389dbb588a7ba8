package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/bits"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// lookupTimeout bounds one lookup of a name.
	lookupTimeout = 2 * time.Second
	// firstRetry is how soon a lookup that failed is made again; it doubles up to Config.Resolve.
	firstRetry = time.Second
	// maxAddresses is how many addresses of one name are used. What a resolver says is not ours to trust.
	maxAddresses = 256
)

var errNoAddress = errors.New("no address")

// Resolver looks up the addresses of a host name. A *net.Resolver is one.
type Resolver interface {
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// server is a target of the configuration: one address, or a name with as many as it has at present.
type server struct {
	TargetConfig
	host, port string // host is empty if there is nothing to look up

	targets  []*Target // guarded by Pool.renewing
	failures int       // of lookups, in a row; likewise
	trouble  error     // of the last one; likewise
}

// newServer reads the address. One that is written as such is never looked up, and neither is localhost: it is
// this one machine (RFC 6761 section 6.3), where a service may listen on either of its addresses.
func newServer(tc TargetConfig) (*server, error) {
	s := &server{TargetConfig: tc}
	if isUnix(tc.Address) {
		return s, nil
	}
	host, port, err := net.SplitHostPort(tc.Address)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", tc.Address, err)
	}
	lower := strings.ToLower(strings.TrimSuffix(host, "."))
	if _, err := netip.ParseAddr(host); err != nil && lower != "localhost" && !strings.HasSuffix(lower, ".localhost") {
		s.host, s.port = host, port
	}
	return s, nil
}

// NameState is what is known of a name among a pool's targets.
type NameState struct {
	Name      string // host:port
	Addresses int
	Err       error // why the last lookup failed; nil: it did not
}

// Names tells how the names among the targets stand.
func (p *Pool) Names() (states []NameState) {
	p.renewing.Lock()
	defer p.renewing.Unlock()
	for _, s := range p.servers {
		if s.host != "" {
			states = append(states, NameState{Name: s.Address, Addresses: len(s.targets), Err: s.trouble})
		}
	}
	return states
}

// Resolve looks up all names for the first time, all at once, so that a pool has its targets before it is used.
// It blocks for two seconds at most. A name that cannot be looked up has no targets until Run has more luck.
func (p *Pool) Resolve(ctx context.Context) {
	var lookups sync.WaitGroup
	for _, s := range p.servers {
		if s.host != "" {
			lookups.Go(func() { _ = p.lookUp(ctx, s) })
		}
	}
	lookups.Wait()
}

// Inherit gives the names that could not be looked up the addresses that they had in a pool before this one. It
// comes after Resolve, and before Run.
func (p *Pool) Inherit(last *Pool) {
	known := map[string][]string{}
	last.renewing.Lock()
	for _, s := range last.servers {
		known[s.Address] = s.addresses()
	}
	last.renewing.Unlock()
	p.renewing.Lock()
	defer p.renewing.Unlock()
	for _, s := range p.servers {
		if s.trouble != nil && len(s.targets) == 0 {
			_, _, _ = p.renew(s, known[s.Address])
		}
	}
}

// follow looks a name up again and again until ctx ends, and has the targets checked that came.
func (p *Pool) follow(ctx context.Context, s *server, checks *sync.WaitGroup) {
	timer := time.NewTimer(p.pause(s))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		p.check(ctx, p.lookUp(ctx, s), checks)
		timer.Reset(p.pause(s))
	}
}

// pause is the time until the next lookup, give or take a tenth: sooner after a failure.
func (p *Pool) pause(s *server) time.Duration {
	p.renewing.Lock()
	defer p.renewing.Unlock()
	d := max(p.config.Resolve, firstRetry)
	if s.failures > 0 {
		d = min(d, firstRetry<<min(s.failures-1, 20))
	}
	high, _ := bits.Mul64(p.config.Random(), uint64(d/5)) // #nosec G115 -- not negative
	return d - d/10 + time.Duration(high)                 // #nosec G115 -- at most a fifth
}

// lookUp makes the addresses of a name its targets, and gives those that are new. If there are none to be had,
// the last ones stay.
func (p *Pool) lookUp(ctx context.Context, s *server) (came []*Target) {
	timed, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := p.config.Resolver.LookupNetIP(timed, "ip", s.host)
	addresses := usable(ips, s.port)
	if err == nil && len(addresses) == 0 {
		err = errNoAddress
	}
	if ctx.Err() != nil {
		return nil
	}
	p.renewing.Lock()
	changed := false
	if err == nil {
		came, changed, err = p.renew(s, addresses)
	}
	news := err == nil && (changed || s.failures > 0) || err != nil && s.failures == 0
	s.trouble = err
	if s.failures++; err == nil {
		s.failures = 0
	}
	known := s.addresses()
	p.renewing.Unlock()
	if news && p.config.Resolved != nil {
		p.config.Resolved(s.Address, known, err)
	}
	return came
}

// usable is what of an answer becomes targets, in order: addresses of one family, each once. A name with both
// mostly leads to the same machines twice; the first one is of the family that this machine reaches (RFC 6724).
func usable(ips []netip.Addr, port string) (addresses []string) {
	var first netip.Addr
	for _, ip := range ips {
		ip = ip.Unmap()
		if !ip.IsValid() || ip.IsUnspecified() || ip.IsMulticast() || first.IsValid() && ip.Is4() != first.Is4() {
			continue
		}
		first = ip
		addresses = append(addresses, net.JoinHostPort(ip.String(), port))
	}
	slices.Sort(addresses)
	addresses = slices.Compact(addresses)
	return addresses[:min(len(addresses), maxAddresses)]
}

// addresses are those of the server's targets.
func (s *server) addresses() (known []string) {
	for _, t := range s.targets {
		known = append(known, t.address)
	}
	return known
}
