package gossip

import (
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// MaxMembers is the most other nodes that one can have. Up to FullMesh of them all send to all; more pass on what others
// say: see the package's comment.
const (
	MaxMembers = 127
	FullMesh   = 31
)

// ErrName is what a name is refused with that no hello has room for.
var ErrName = errors.New("gossip: a name has 1 to 128 bytes")

var errUnverified = errors.New("gossip: no secret opens it")

// NodeConfig is what a Node needs.
type NodeConfig struct {
	Name     string        // unique among the members
	Secrets  [][]byte      // one, or two during a rotation: both are accepted, the first is sent with
	Interval time.Duration // the same on all members; 0: 50 ms
	Budget   int           // bytes a second to all peers; 0: 2.5 MB
	Peers    int           // most other nodes, up to MaxMembers; 0: that many
	Ledger   Ledger
	Record   func(record []byte) // takes a record that a member told, valid during the call; nil: they are dropped
	Send     func(to netip.AddrPort, packet []byte)
	Random   io.Reader // crypto/rand.Reader
}

// Peer is another node, as membership knows it.
type Peer struct {
	Name    string
	Address netip.AddrPort
}

// Node is one node's part in the protocol: packets and the time come in, packets go out through Send. It has
// no goroutine and no clock, and is not safe for concurrent use.
type Node struct {
	name     string
	hash     uint64 // of the name
	life     life
	secrets  []*secret
	out      cipher.AEAD // of our frames
	interval time.Duration
	beat     time.Duration // between two packets to a peer
	most     int
	ledger   Ledger
	record   func([]byte)
	send     func(netip.AddrPort, []byte)
	random   io.Reader

	names map[string]*peer
	lives map[uint64]*peer
	peers [MaxMembers]*peer // by index
	alive members           // whose acknowledgements are waited for
	fleet []limiter.Member
	moved bool // the ledger has not been told
	// expected is how many others are configured, until the first of them is known.
	expected   int
	acquainted bool // one was
	soon       bool // something is due before what Tick said

	log     log
	budget  bucket
	flows   flows
	met     time.Duration // when a peer was met last that was not known
	relays  relays
	asked   int           // snapshots that were asked for since some were met
	closing time.Duration // when the last of these is to be asked for; 0: it was
	ticked  time.Duration

	sealer  sealer
	message message
	sorter  sorter
	packet  [MaxPacket + slack]byte // for what is sent once
	plain   []byte
	body    []byte // of the frame that is being sent
	debts   []limiter.Delta
	stats   Stats
	drops   [drops]uint64
}

// slack is room for what the encoder takes back.
const slack = 64

// NewNode returns a node that is alone. It fails with ErrSecret or ErrName.
func NewNode(c NodeConfig) (*Node, error) {
	if c.Name == "" || len(c.Name) > MaxName {
		return nil, ErrName
	}
	if c.Interval <= 0 {
		c.Interval = 50 * time.Millisecond
	}
	secrets, err := newSecrets(c.Secrets)
	if err != nil {
		return nil, err
	}
	n := &Node{
		name: c.Name, hash: hashOf(c.Name), relays: relays{above: FullMesh}, secrets: secrets, interval: c.Interval, ledger: c.Ledger, record: c.Record, send: c.Send, random: c.Random,
		beat: min(max(c.Interval, 20*time.Millisecond), 100*time.Millisecond),
		most: min(max(c.Peers, 0), MaxMembers), names: map[string]*peer{}, lives: map[uint64]*peer{},
		plain: make([]byte, 0, MaxPacket), debts: make([]limiter.Delta, 0, maxDeltas),
	}
	if c.Peers == 0 {
		n.most = MaxMembers
	}
	n.budget.rate = min(c.Budget, 1_000_000_000) // so that nothing overflows
	if c.Budget <= 0 {
		n.budget.rate = 2_500_000
	}
	n.flows.drained = make([]limiter.Delta, 0, maxFlush)
	if _, err := io.ReadFull(c.Random, n.life[:]); err != nil {
		return nil, fmt.Errorf("cannot draw a random number: %w", err)
	}
	n.out = secrets[0].frames(n.life)
	n.flows.regular = time.Duration(n.draw() % uint64(max(n.interval, 1))) // so that nodes which begin together do not flush together
	return n, nil
}

// Members says who the other members are, whether they can be reached or not. Who is not among them any more
// has left. It returns how many there was no room for.
func (n *Node) Members(now time.Duration, all []Peer) (refused int) {
	known := make(map[string]bool, len(all))
	for _, m := range all {
		if m.Name == n.name || m.Name == "" || len(m.Name) > MaxName {
			continue
		}
		known[m.Name] = true
		if p := n.names[m.Name]; p != nil {
			if p.address != m.Address {
				p.address, p.greetNext = m.Address, now
			}
		}
	}
	for name, p := range n.names {
		if !known[name] {
			n.forget(now, p)
		}
	}
	for _, m := range all {
		if known[m.Name] && n.names[m.Name] == nil && !n.welcome(now, m) {
			refused++
		}
	}
	n.report(now)
	return refused
}

// Expect says how many other members there should be. Until the first one is known they are taken to be out of
// sight, and at work: a node that cannot reach anybody when it starts keeps to its part of each limit. From then on,
// Members says who there is.
func (n *Node) Expect(now time.Duration, others int) {
	others = min(max(others, 0), n.most)
	if n.acquainted || others == n.expected {
		return
	}
	n.expected, n.moved = others, true
	n.report(now)
}

func (n *Node) welcome(now time.Duration, m Peer) bool {
	for i := range n.most {
		if n.peers[i] == nil {
			p := newPeer(i, m, now)
			p.challenge, p.greetNext = n.draw(), now
			n.peers[i], n.names[m.Name] = p, p
			n.expected, n.acquainted = 0, true
			n.moved = true
			return true
		}
	}
	return false
}

func (n *Node) forget(now time.Duration, p *peer) {
	delete(n.names, p.name)
	if p.in != nil {
		delete(n.lives, p.in.short)
	}
	n.peers[p.index] = nil
	n.count(p, false)
}

// Receive takes a packet, which may be overwritten afterwards, and returns whether Tick should follow sooner than
// it said. A packet that nobody with a secret made is counted, costs no memory and is not answered.
func (n *Node) Receive(now time.Duration, packet []byte) (soon bool) {
	n.soon = false
	n.receive(now, packet)
	return n.soon
}

func (n *Node) receive(now time.Duration, packet []byte) {
	n.stats.BytesIn += uint64(len(packet))
	switch {
	case len(packet) < headerSize+tagSize || len(packet) > MaxPacket:
		n.drop(dropMalformed)
		return
	case packet[0] == kindHello:
		n.receiveHello(now, packet)
		return
	case packet[0] != kindFrame && packet[0] != kindDirect:
		n.drop(dropMalformed)
		return
	}
	h := readHeader(packet)
	p := n.lives[h.life]
	if p == nil || h.number == 0 || h.number >= maxNumber {
		n.drop(dropStranger)
		return
	}
	seen, keys := &p.in.seen, p.in.frames
	if h.kind == kindDirect {
		seen, keys = &p.in.seenDirect, p.in.direct
	}
	if !seen.fresh(h.number) { // before the costly part; a forger can only be told apart from one who repeats by that
		n.drop(dropReplayed)
		return
	}
	for i, s := range n.secrets {
		if s.id != h.key {
			continue
		}
		if body, ok := n.sealer.open(keys[i], h.number, packet); ok {
			n.receiveBody(now, p, h, body)
			return
		}
	}
	if h.kind == kindDirect && !p.met { // it is for an earlier life of ours
		n.drop(dropStranger)
		return
	}
	n.drop(dropUnverified)
}

func (n *Node) receiveBody(now time.Duration, p *peer, h header, body []byte) {
	if !n.message.decode(h.kind, body) {
		n.drop(dropMalformed)
		return
	}
	n.stats.FramesIn++
	age := p.hear(now, h.stamp)
	if h.kind == kindFrame {
		n.receiveFrame(now, p, h.number, age, &frame{n.message.deltas, n.message.records, n.message.holds(sectionUrgent)})
	} else {
		n.receiveDirect(now, p, h, age)
	}
	n.revive(now, p)
	n.report(now)
}

// Tick does what is due, and returns when something will be.
func (n *Node) Tick(now time.Duration) (next time.Duration) {
	if gap := now - n.ticked; gap > n.patience(now, nil)/2 && n.ticked > 0 {
		for _, p := range n.names { // it is we who were away
			p.heard = min(now, p.heard+gap)
		}
	}
	n.ticked = now
	next = now + n.beat
	n.weigh(now)
	for _, p := range n.peers {
		if p != nil {
			n.watch(now, p)
			if (p.in == nil || !p.met) && now >= p.greetNext {
				n.greet(now, p)
			}
			if p.in == nil || !p.met {
				next = min(next, p.greetNext)
			}
		}
	}
	n.report(now)
	n.close(now)
	n.doubt()
	next = min(next, n.flush(now))
	for _, p := range n.peers {
		if p != nil && p.in != nil && p.met {
			next = min(next, n.attend(now, p))
		}
	}
	return max(next, now+time.Microsecond)
}

// Leave says good-bye to all peers, after a last flush. What it said is lost like any packet; membership says it
// too.
func (n *Node) Leave(now time.Duration) {
	for _, p := range n.peers {
		if p != nil {
			p.route.via = nil
		}
	}
	n.relays.groups = 0 // nobody has the time to pass anything on
	n.flows.regular, n.budget.tokens = now, n.budget.burst()
	n.flush(now)
	for _, p := range n.peers {
		if p != nil && p.in != nil && p.met {
			b := append(n.direct(now, p), sectionBye)
			n.post(p, n.sealer.seal(p.in.out, p.sentDirect, b))
		}
	}
}

// report tells the ledger of the members, if there is news.
func (n *Node) report(now time.Duration) {
	if !n.moved {
		return
	}
	n.moved = false
	n.fleet = n.fleet[:0]
	for _, p := range n.peers {
		if p != nil && p.state != limiter.Gone {
			n.fleet = append(n.fleet, limiter.Member{Peer: p.index, State: p.state, Missed: p.missed})
		}
	}
	for i := range n.expected {
		n.fleet = append(n.fleet, limiter.Member{Peer: n.most - 1 - i, State: limiter.Silent})
	}
	n.ledger.Fleet(now, n.fleet)
	n.releaseAll(now)
	n.reroute(now)
}

func (n *Node) post(p *peer, packet []byte) {
	n.budget.take(len(packet) + datagram)
	n.stats.FramesOut++
	n.stats.BytesOut += uint64(len(packet))
	n.send(p.address, packet)
}
