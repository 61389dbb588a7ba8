package gossip

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	remember   = time.Hour // a member that failed, so that it is found again
	streamTime = 2 * time.Second
	leaveTime  = 300 * time.Millisecond
	syncEvery  = 10 * time.Second
)

// membership knows who the members are, by memberlist (SWIM). Those that failed are remembered for a while: a
// network that is cut in two heals by itself.
type membership struct {
	g    *Gossip
	list *memberlist.Memberlist
	news chan struct{} // somebody came or went

	mu     sync.Mutex
	known  map[string]Peer
	failed map[string]time.Time
}

func newMembership(g *Gossip) *membership {
	return &membership{g: g, news: make(chan struct{}, 1), known: map[string]Peer{}, failed: map[string]time.Time{}}
}

// begin starts memberlist, which reads what the transport hands it.
func (m *membership) begin() (err error) {
	keys := [][]byte{}
	for _, s := range m.g.node.secrets {
		keys = append(keys, s.derive("memberlist", 32))
	}
	c := memberlist.DefaultLANConfig()
	c.Name, c.Transport, c.Label = m.g.config.Name, m.g.transport, label
	c.BindPort, c.AdvertisePort = int(m.g.transport.public.Port()), int(m.g.transport.public.Port())
	c.LogOutput = &listener{m.g}
	c.Events, c.Conflict, c.Delegate = m, m, m.g.spread
	c.TCPTimeout, c.PushPullInterval, c.UDPBufferSize = streamTime, syncEvery, MaxPacket
	c.DeadNodeReclaimTime = 5 * time.Second // a name that moved to another address
	if c.Keyring, err = memberlist.NewKeyring(keys, keys[0]); err != nil {
		return err
	}
	m.list, err = memberlist.Create(c)
	return err
}

// end leaves, and closes the sockets. Who is succeeded does not leave: he is back before it is known.
func (m *membership) end(succeeded bool) error {
	if !succeeded {
		_ = m.list.Leave(leaveTime) // who does not hear of it finds out
	}
	return m.list.Shutdown()
}

// NotifyJoin implements memberlist.EventDelegate, as what follows does.
func (m *membership) NotifyJoin(n *memberlist.Node) {
	m.note(func() {
		m.known[n.Name] = peerOf(n)
		delete(m.failed, n.Name)
	})
	m.g.spread.greet(n.Name)
}

func (m *membership) NotifyUpdate(n *memberlist.Node) {
	m.note(func() { m.known[n.Name] = peerOf(n) })
}

func (m *membership) NotifyLeave(n *memberlist.Node) {
	m.note(func() {
		if n.State == memberlist.StateLeft {
			delete(m.known, n.Name)
			delete(m.failed, n.Name)
			return
		}
		m.failed[n.Name] = time.Now()
	})
}

// NotifyConflict implements memberlist.ConflictDelegate.
func (m *membership) NotifyConflict(existing, other *memberlist.Node) {
	m.g.reports.report("conflict", fmt.Errorf("gossip: %s and %s are both called %q: one of them is not heard",
		existing.FullAddress().Addr, other.FullAddress().Addr, existing.Name))
}

func (m *membership) note(change func()) {
	m.mu.Lock()
	change()
	m.mu.Unlock()
	select {
	case m.news <- struct{}{}:
	default:
	}
}

// present is the members that have not failed, oneself included. Memberlist's own list is of nodes that it changes
// meanwhile.
func (m *membership) present() (all []Peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, p := range m.known {
		if _, failed := m.failed[name]; !failed {
			all = append(all, p)
		}
	}
	return all
}

func peerOf(n *memberlist.Node) Peer {
	a, _ := netip.AddrFromSlice(n.Addr)
	return Peer{n.Name, netip.AddrPortFrom(a.Unmap(), n.Port)}
}

// follow tells the node of the members.
func (m *membership) follow(ctx context.Context) {
	forget := time.NewTicker(remember / 60)
	defer forget.Stop()
	for {
		all := m.others()
		m.g.mu.Lock()
		refused := m.g.node.Members(m.g.config.Clock(), all)
		m.g.mu.Unlock()
		m.g.poke()
		if refused > 0 {
			m.g.reports.report("peers", fmt.Errorf("%w: %d too many", ErrPeers, refused))
		}
		select {
		case <-ctx.Done():
			return
		case <-m.news:
		case <-forget.C:
		}
	}
}

func (m *membership) others() (all []Peer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, p := range m.known {
		if at, failed := m.failed[name]; failed && time.Since(at) > remember {
			delete(m.known, name)
			delete(m.failed, name)
			continue
		}
		if name != m.g.config.Name {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, func(a, b Peer) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// listener hears what memberlist logs. Most of it is said by Stats as well, or by what join reports.
type listener struct{ g *Gossip }

func (l *listener) Write(line []byte) (int, error) {
	for _, sign := range []string{"could decrypt", "Decrypt packet failed", "is not encrypted"} {
		if bytes.Contains(line, []byte(sign)) {
			l.g.unopened.Add(1)
			l.g.reports.report("unverified", ErrUnverified)
			return len(line), nil
		}
	}
	if bytes.Contains(line, []byte("label")) { // of another program
		l.g.unopened.Add(1)
	}
	return len(line), nil
}
