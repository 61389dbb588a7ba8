package gossip

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"
)

const (
	joinEvery  = time.Second      // between attempts to reach who does not answer
	joinRarely = 30 * time.Second // at most, to reach who answers under another address
	joinAtOnce = 32
	lookTime   = 2 * time.Second // for all names of peers
)

// join joins whoever is configured, or was a member, and is none now, again and again. Who cannot be reached is tried
// every second, however long that has been so: else two clusters that were cut off from each other would remain so
// for long after the network is whole.
func (m *membership) join(ctx context.Context) {
	members, aliases := 0, aliases{}
	for {
		missing, unresolved, err := m.missing(ctx)
		m.g.expect(len(missing) + unresolved)
		err = errors.Join(err, m.call(ctx, aliases, missing))
		now := m.list.NumMembers()
		if err != nil && now < 2 {
			m.g.reports.report("alone", fmt.Errorf("%w: %w", ErrAlone, err))
		}
		if now != members {
			members = now
			clear(aliases)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(joinEvery - rand.N(joinEvery/4)):
		}
	}
}

// call joins all of the addresses at once whose turn it is.
func (m *membership) call(ctx context.Context, aliases aliases, all []netip.AddrPort) (err error) {
	now := time.Now()
	all = slices.DeleteFunc(all, func(a netip.AddrPort) bool { return !aliases.due(a, now) })
	for some := range slices.Chunk(all, joinAtOnce) {
		failures := make([]error, len(some))
		var calls sync.WaitGroup
		for i, a := range some {
			calls.Go(func() { _, failures[i] = m.list.Join([]string{a.String()}) })
		}
		calls.Wait()
		if ctx.Err() != nil {
			return nil
		}
		for i, a := range some {
			aliases.called(a, failures[i] == nil, time.Now())
			if failures[i] != nil {
				err = errors.Join(err, first(failures[i]))
			}
		}
	}
	return err
}

// aliases is the addresses that answered. One that still is no member's afterwards is another name of a member's,
// or of several, and is called less and less often: a call is not cheap if it succeeds.
type aliases map[netip.AddrPort]alias

type alias struct {
	pause time.Duration
	next  time.Time
}

func (all aliases) due(a netip.AddrPort, now time.Time) bool { return !now.Before(all[a].next) }

func (all aliases) called(a netip.AddrPort, answered bool, now time.Time) {
	if !answered {
		delete(all, a)
		return
	}
	pause := min(max(2*all[a].pause, joinEvery/2), joinRarely)
	all[a] = alias{pause, now.Add(pause)}
}

// first is the one error of a list that has one, as that of memberlist for one address: it says it in one line.
func first(err error) error {
	var list interface{ WrappedErrors() []error }
	if errors.As(err, &list) && len(list.WrappedErrors()) == 1 {
		return list.WrappedErrors()[0]
	}
	return err
}

// configured is how many others there are by the configuration, as long as no name has been looked up.
func (m *membership) configured() (others int) {
	for _, text := range m.g.config.Peers {
		if text != m.g.transport.public.String() {
			others++
		}
	}
	return others
}

// missing is the addresses that should be members' and are not, as far as can be told: a member may be known by
// another.
func (m *membership) missing(ctx context.Context) (all []netip.AddrPort, unresolved int, err error) {
	present := []netip.AddrPort{m.g.transport.public}
	for _, p := range m.present() {
		present = append(present, p.Address)
	}
	add := func(a netip.AddrPort) {
		if !slices.Contains(present, a) && !slices.Contains(all, a) {
			all = append(all, a)
		}
	}
	found, failures := m.look(ctx)
	for i, text := range m.g.config.Peers {
		if failures[i] != nil {
			err = errors.Join(err, fmt.Errorf("cannot resolve %q: %w", text, failures[i]))
			unresolved++
		}
		for _, a := range found[i] {
			add(a)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.failed {
		add(m.known[name].Address)
	}
	return all, unresolved, err
}

// look finds the addresses of all configured peers, in a time that is bounded: a name server may be cut off as well.
func (m *membership) look(ctx context.Context) (found [][]netip.AddrPort, failures []error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	found, failures = make([][]netip.AddrPort, len(m.g.config.Peers)), make([]error, len(m.g.config.Peers))
	var looking sync.WaitGroup
	for i, text := range m.g.config.Peers {
		looking.Go(func() { found[i], failures[i] = m.resolve(ctx, text) })
	}
	looking.Wait()
	return found, failures
}

// resolve finds the addresses of a configured peer; without a port, it is the one we listen on.
func (m *membership) resolve(ctx context.Context, text string) (all []netip.AddrPort, err error) {
	host, port, err := net.SplitHostPort(text)
	if err != nil {
		host, port = text, strconv.Itoa(int(m.g.transport.public.Port()))
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "udp", port)
	if err != nil {
		return nil, err
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	for _, a := range found {
		all = append(all, netip.AddrPortFrom(a.Unmap(), uint16(number)))
	}
	return all, err
}
