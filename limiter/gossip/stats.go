package gossip

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// Why a packet is dropped.
const (
	dropMalformed  = iota // not of any form that there is
	dropStranger          // of nobody whose hello was accepted
	dropReplayed          // it came before
	dropUnverified        // no secret opens it
	drops
)

func dropNames() [drops]string {
	return [drops]string{"malformed", "stranger", "replayed", "unverified"}
}

func (n *Node) drop(why int) { n.drops[why]++ }

// Stats is what a node has done since it began, and how it stands.
type Stats struct {
	FramesIn, FramesOut uint64 // packets of all kinds; those in are what was not dropped
	BytesIn, BytesOut   uint64 // of UDP payload
	DeltasIn            uint64
	Repaired            uint64 // frames sent again to a peer
	GivenUp             uint64 // frames that not all peers acknowledged in time
	Snapshots           uint64 // taken from peers
	Compared            bool   // the records of one member are all here; or there are to be none
	Passed, Unpassed    uint64 // frames and acknowledgements of others passed on to a peer; and those that there was no room for
	Dropped             map[string]uint64
	Peers               []PeerStats
}

// PeerStats is how a node stands with a peer.
type PeerStats struct {
	Name    string
	Address netip.AddrPort
	State   limiter.MemberState
	Trip    time.Duration // round trip; 0: not known yet
	Loss    float64       // share of its packets that did not arrive, of late
	Lag     time.Duration // since it was last heard of
	Behind  uint64        // frames that it has not acknowledged
}

// Stats returns a copy, peers sorted by name.
func (n *Node) Stats(now time.Duration) Stats {
	s := n.stats
	s.Dropped = map[string]uint64{}
	for i, name := range dropNames() {
		s.Dropped[name] = n.drops[i]
	}
	for _, p := range n.names {
		peer := PeerStats{Name: p.name, Address: p.address, State: p.state, Loss: p.loss.share, Lag: now - p.heard}
		if p.trip.known {
			peer.Trip = p.trip.smooth
		}
		if p.delivery.ready {
			peer.Behind = n.log.last - p.delivery.base
		}
		s.Peers = append(s.Peers, peer)
	}
	slices.SortFunc(s.Peers, func(a, b PeerStats) int { return strings.Compare(a.Name, b.Name) })
	return s
}
