package upstream

import (
	"fmt"
	"slices"
	"time"
)

// lineup is the targets of a pool at one moment, and the choice among them. It does not change: when the
// addresses of a name do, another one takes its place in a single step.
type lineup struct {
	targets  []*Target
	balancer balancer
}

// index is the place of a target, or -1.
func (l *lineup) index(t *Target) int {
	if t == nil {
		return -1
	}
	return slices.Index(l.targets, t)
}

// newLineup is that of the servers' targets.
func (p *Pool) newLineup() (*lineup, error) {
	l := &lineup{}
	var seats []*seat
	for _, s := range p.servers {
		for _, t := range s.targets {
			l.targets = append(l.targets, t)
			seats = append(seats, &t.seat)
		}
	}
	var err error
	l.balancer, err = newBalancer(p.config.Balance, seats, &p.inFlight)
	return l, err
}

// renew gives a server the targets at these addresses. Those that it has already stay as they are, those that are
// no longer wanted are drained. It is called with renewing held.
func (p *Pool) renew(s *server, addresses []string) (came []*Target, changed bool, err error) {
	if slices.Equal(addresses, s.addresses()) {
		return nil, false, nil
	}
	last := s.targets
	s.targets = nil
	for _, a := range addresses {
		i := slices.IndexFunc(last, func(t *Target) bool { return t.address == a })
		if i >= 0 {
			s.targets = append(s.targets, last[i])
			continue
		}
		t := p.newTarget(s, a)
		if len(last) > 0 {
			t.restart(time.Since(p.config.Epoch))
		}
		s.targets, came = append(s.targets, t), append(came, t)
	}
	l, err := p.newLineup()
	if err != nil {
		s.targets = last
		return nil, false, fmt.Errorf("cannot use its %d addresses: %w", len(addresses), err)
	}
	p.lineup.Store(l)
	for _, t := range last {
		if !slices.Contains(s.targets, t) {
			t.retire()
		}
	}
	p.line.wakeAll()
	return came, true, nil
}

// retire ends a target that left: its checks stop, and its connections are closed, the leased ones when their
// exchanges end, and lanes when all in them have their answers.
func (t *Target) retire() {
	t.retired.Store(true)
	t.lanes.retire()
	t.conns.close()
	if t.stopChecks != nil {
		t.stopChecks()
	}
}
