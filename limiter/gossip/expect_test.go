package gossip

import (
	"crypto/rand"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// audience is a Ledger that remembers what it was told of the fleet.
type audience struct {
	idle
	states []limiter.MemberState
}

func (l *audience) Fleet(_ time.Duration, members []limiter.Member) {
	l.states = l.states[:0]
	seen := map[int]bool{}
	for _, m := range members {
		if seen[m.Peer] {
			panic("two members have one number")
		}
		seen[m.Peer] = true
		l.states = append(l.states, m.State)
	}
}

// A node that has met nobody takes those it is configured with for silent ones; once it knows a member, it knows better.
func TestExpectedPeersAreSilentUntilOneIsKnown(t *testing.T) {
	l := &audience{}
	n, err := NewNode(NodeConfig{
		Name: "a", Secrets: [][]byte{make([]byte, 32)}, Interval: 50 * time.Millisecond, Peers: 4, Ledger: l,
		Send: func(netip.AddrPort, []byte) {}, Random: rand.Reader,
	})
	if err != nil {
		t.Fatal(err)
	}
	silent := func(n int) []limiter.MemberState { return slices.Repeat([]limiter.MemberState{limiter.Silent}, n) }
	other := Peer{"b", netip.MustParseAddrPort("127.0.0.1:1")}
	for i, step := range []struct {
		intent string
		do     func(now time.Duration)
		want   int // silent members
	}{
		{"two are configured", func(now time.Duration) { n.Expect(now, 2) }, 2},
		{"a name has more addresses than was thought", func(now time.Duration) { n.Expect(now, 3) }, 3},
		{"more than there is room for", func(now time.Duration) { n.Expect(now, 9) }, 4},
		{"time alone teaches nothing", func(now time.Duration) { n.Tick(now + time.Hour) }, 4},
		{"membership knows of nobody yet", func(now time.Duration) { n.Members(now, nil) }, 4},
		{"one is known: there are no others", func(now time.Duration) { n.Members(now, []Peer{other}) }, 1},
		{"what is configured does not matter any more", func(now time.Duration) { n.Expect(now, 3) }, 1},
		{"it leaves", func(now time.Duration) { n.Members(now, nil) }, 0},
		{"nor does it later", func(now time.Duration) { n.Expect(now, 3) }, 0},
	} {
		step.do(time.Duration(i) * time.Second)
		if !slices.Equal(l.states, silent(step.want)) {
			t.Errorf("%s: %v, want %d silent ones", step.intent, l.states, step.want)
		}
	}
}
