package upstream

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// lookupTimeout bounds one lookup of a name.
const lookupTimeout = 2 * time.Second

// names is the addresses behind a target's host name, looked up again every interval. An address
// that is written as such is never looked up.
type names struct {
	host, port string
	interval   time.Duration
	literal    string // host:port when host is an address, else empty

	current atomic.Pointer[resolved]
	lookup  sync.Mutex // one lookup at a time
	turn    atomic.Uint32
}

type resolved struct {
	addresses []string // ip:port
	due       time.Time
}

func newNames(address string, interval time.Duration) *names {
	host, port, _ := net.SplitHostPort(address)
	n := &names{host: host, port: port, interval: interval}
	if _, err := netip.ParseAddr(host); err == nil || isUnix(address) {
		n.literal = address
	}
	return n
}

// addresses gives the known addresses, first looking them up if there are none, rotated so that
// successive connections spread over them.
func (n *names) addresses(ctx context.Context, now time.Time) ([]string, error) {
	if n.literal != "" {
		return []string{n.literal}, nil
	}
	r := n.current.Load()
	if r == nil {
		var err error
		if r, err = n.resolve(ctx, now); err != nil {
			return nil, err
		}
	}
	k := int(n.turn.Add(1)) % len(r.addresses)
	return slices.Concat(r.addresses[k:], r.addresses[:k]), nil
}

// has says whether address still belongs to the name; unknown counts as yes.
func (n *names) has(address string) bool {
	if n.literal != "" {
		return true
	}
	r := n.current.Load()
	return r == nil || slices.Contains(r.addresses, address)
}

// refresh looks the name up when it is due at now.
func (n *names) refresh(ctx context.Context, now time.Time) {
	r := n.current.Load()
	if n.literal != "" || n.interval <= 0 || r == nil || now.Before(r.due) {
		return
	}
	if _, err := n.resolve(ctx, now); err != nil {
		n.current.Store(&resolved{addresses: r.addresses, due: now.Add(n.interval)})
	}
}

func (n *names) resolve(ctx context.Context, now time.Time) (*resolved, error) {
	n.lookup.Lock()
	defer n.lookup.Unlock()
	if r := n.current.Load(); r != nil && now.Before(r.due) {
		return r, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", n.host)
	if err != nil {
		return nil, fmt.Errorf("cannot look up %q: %w", n.host, err)
	}
	if len(ips) == 0 {
		return nil, fmt.Errorf("cannot look up %q: no addresses", n.host)
	}
	r := &resolved{due: now.Add(n.interval)}
	for _, ip := range ips {
		r.addresses = append(r.addresses, net.JoinHostPort(ip.Unmap().String(), n.port))
	}
	slices.Sort(r.addresses)
	n.current.Store(r)
	return r, nil
}
