package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// A peer that is killed says no farewell. The page and top tell of it while it lives, with figures, and soon after it
// died that it is silent; and again when another one has come in its place.
func TestPageShowsLostPeers(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 2)
	left, right := c.members[0], c.members[1]
	c.start()
	b := left.browse(t, false)
	b.shows("#cluster-table", "member1", c.gossip[1], "alive")
	b.shows("#cluster-note", "member0 shares shared", "in ", "out ")
	eventually(t, "the page tells of what was dropped, if anything was", func() bool {
		dropped := 0
		for _, n := range left.clusterStatus(t).Dropped {
			dropped += int(n)
		}
		return strings.Contains(b.text("#cluster-note"), "dropped") == (dropped > 0)
	})
	figure := func(column int) string {
		return b.text(fmt.Sprintf("#cluster-table tbody tr td:nth-child(%d), #cluster-table tbody tr th:nth-child(%[1]d)", column))
	}
	eventually(t, "the page tells the peer's lag, round trip and loss", func() bool {
		return strings.ContainsAny(figure(4), "0123456789") && strings.ContainsAny(figure(5), "0123456789") && figure(6) == "0"
	})
	topShows(t, left, "member1", "alive")
	evaluate[bool](b, `(document.getElementById("cluster").scrollIntoView({ behavior: "instant" }), true)`)
	b.shoot("cluster-alive")

	right.signal(syscall.SIGKILL)
	<-right.exited
	b.shows("#cluster-table", "member1", "silent")
	b.shows("#changed", "Peer member1 is silent")
	topShows(t, left, "member1", "silent")
	b.shoot("cluster-silent")

	right.start()
	b.shows("#cluster-table", "alive")
	b.shows("#changed", "Peer member1 is alive")
}

// topShows waits until the line of a peer holds a state.
func topShows(t *testing.T, g *gateway, peer, state string) {
	t.Helper()
	eventually(t, "top shows "+peer+" "+state, func() bool {
		for line := range strings.Lines(g.verb(t, "top", "--once")) {
			if strings.HasPrefix(line, peer+" ") && strings.Contains(line, state) {
				return true
			}
		}
		return false
	})
}
