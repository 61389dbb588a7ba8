package gossip

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Config is what Listen needs.
type Config struct {
	Listen    string        // address for UDP and TCP
	Advertise string        // address that peers send to; empty: found from the interface
	Peers     []string      // addresses, by name or number, of members; any of them suffices
	Secrets   [][]byte      // one, or two during a rotation: both are accepted, the first is sent with
	Interval  time.Duration // between flushes, the same on all members; 0: 50 ms
	Name      string        // unique among the members; empty: the host's, and the address
	Budget    int           // bytes a second to all peers; 0: 2.5 MB
	Limit     int           // most other members; 0: MaxMembers
	Ledger    Ledger
	Records   Records              // nil: there are none
	Clock     func() time.Duration // the ledger's
	Report    func(error)          // takes what an operator should know, once a minute each; may be called by any goroutine
}

// Gossip is a member of a cluster: a Node with sockets, a clock, and peers that it finds by itself. Its methods
// are safe for concurrent use.
type Gossip struct {
	config    Config
	transport *transport
	members   *membership
	spread    *spread
	reports   reports
	unopened  atomic.Uint64 // packets and streams of memberlist that no secret opens
	succeeded atomic.Bool

	mu   sync.Mutex // held by whoever touches the node
	node *Node
	wake chan struct{} // something is due sooner
}

// ErrPeers is reported when there is no room for all members.
var ErrPeers = errors.New("gossip: there are more members than there is room for")

// ErrUnverified is reported when packets or streams come that none of the secrets opens.
var ErrUnverified = errors.New("gossip: packets come that were not made with our secret: do all members have the same one?")

// ErrAlone is reported, wrapped with the reason, while none of the configured peers can be joined.
var ErrAlone = errors.New("gossip: no peer can be joined")

// Listen opens the sockets. Nothing is sent or read until Run.
func Listen(c Config) (*Gossip, error) {
	t, err := listen(c.Listen, c.Advertise)
	if err != nil {
		return nil, err
	}
	g := &Gossip{config: c, transport: t, wake: make(chan struct{}, 1), reports: reports{to: c.Report, last: map[string]time.Time{}}}
	if g.config.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = "gateway"
		}
		g.config.Name = host[:min(len(host), 64)] + "@" + t.public.String()
	}
	g.node, err = NewNode(NodeConfig{
		Name: g.config.Name, Secrets: c.Secrets, Interval: c.Interval, Budget: c.Budget, Peers: c.Limit, Ledger: c.Ledger,
		Record: func(r []byte) { g.spread.take(r) }, Send: g.post, Random: rand.Reader,
	})
	if err != nil {
		return nil, errors.Join(err, t.Shutdown())
	}
	g.spread = newSpread(g)
	g.members = newMembership(g)
	return g, nil
}

// Name is what the other members know this one by.
func (g *Gossip) Name() string { return g.config.Name }

// Address is where they send to.
func (g *Gossip) Address() netip.AddrPort { return g.transport.public }

// Close closes the sockets of a Gossip that is not Run.
func (g *Gossip) Close() error { return g.transport.Shutdown() }

// Publish sends a new record to all members, and sees that it arrives. It does not put it into Records.
func (g *Gossip) Publish(record []byte) {
	g.mu.Lock()
	g.node.Publish(record) // what there is no room for spreads by comparison
	g.mu.Unlock()
}

// Stats returns how it stands.
func (g *Gossip) Stats() Stats {
	g.mu.Lock()
	s := g.node.Stats(g.config.Clock())
	g.mu.Unlock()
	s.Compared = g.spread.first.ended()
	s.BytesOut += g.transport.sent.Load()
	s.Dropped["overflow"] = g.transport.full.Load() + g.spread.full.Load()
	s.Dropped["unverified"] += g.unopened.Load()
	s.Dropped["records"] = g.spread.refused.Load()
	return s
}

// Succeed says that another process will be this member as soon as Run has closed the sockets: it says good-bye to
// its peers, but does not wait until all have heard that it leaves.
func (g *Gossip) Succeed() { g.succeeded.Store(true) }

// Run is a member until ctx ends. Then it leaves, and closes the sockets. It is called once.
func (g *Gossip) Run(ctx context.Context) error {
	var reading, working sync.WaitGroup
	if err := g.members.begin(); err != nil {
		return errors.Join(fmt.Errorf("cannot become a member: %w", err), g.transport.Shutdown())
	}
	g.expect(g.members.configured())
	reading.Go(func() { g.transport.read(g.receive) })
	reading.Go(g.transport.accept)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	working.Go(func() { g.keepTime(inner) })
	working.Go(func() { g.members.follow(inner) })
	working.Go(func() { g.members.join(inner) })
	working.Go(func() { g.spread.run(inner) })
	<-ctx.Done()
	g.transport.hangUp()
	working.Wait()
	g.mu.Lock()
	g.node.Leave(g.config.Clock())
	g.mu.Unlock()
	err := g.members.end(g.succeeded.Load())
	reading.Wait()
	return err
}

// expect tells the node how many others there should be.
func (g *Gossip) expect(others int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.node.Expect(g.config.Clock(), others)
}

func (g *Gossip) receive(packet []byte) {
	g.mu.Lock()
	soon := g.node.Receive(g.config.Clock(), packet)
	g.mu.Unlock()
	if soon {
		g.poke()
	}
}

func (g *Gossip) poke() {
	select {
	case g.wake <- struct{}{}:
	default:
	}
}

// post sends a packet of the node. What the socket refuses is lost like what the network loses.
func (g *Gossip) post(to netip.AddrPort, packet []byte) {
	_, _ = g.transport.udp.WriteToUDPAddrPort(packet, to)
}

// keepTime calls the node when something is due.
func (g *Gossip) keepTime(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pressing := g.config.Ledger.Pressing()
	for {
		hurry := false
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-g.wake:
		case <-pressing:
			hurry = true
		}
		g.mu.Lock()
		if hurry {
			g.node.Hurry()
		}
		now := g.config.Clock()
		next := g.node.Tick(now)
		unverified := g.node.drops[dropUnverified]
		g.mu.Unlock()
		g.reports.unverified(unverified)
		timer.Reset(next - now)
	}
}

// reports passes on what an operator should know, of each kind once a minute.
type reports struct {
	to   func(error)
	mu   sync.Mutex
	last map[string]time.Time
	seen uint64 // unverified packets; for keepTime only
}

const reportEvery = time.Minute

func (r *reports) report(kind string, err error) {
	if r.to == nil {
		return
	}
	r.mu.Lock()
	now := time.Now()
	late := now.Sub(r.last[kind]) >= reportEvery
	if late {
		r.last[kind] = now
	}
	r.mu.Unlock()
	if late {
		r.to(err)
	}
}

func (r *reports) unverified(n uint64) {
	if n != r.seen {
		r.seen = n
		r.report("unverified", ErrUnverified)
	}
}
