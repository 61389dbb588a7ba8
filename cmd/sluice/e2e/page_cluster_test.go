package e2e

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
)

// startMember starts a gateway that is one of two, with a limit that both share.
func startMember(t testing.TB, name, gossip, peer string) *gateway {
	t.Helper()
	up := startAnswering(t, ok)
	return startGateway(t, fmt.Sprintf(`
[cluster]
listen = %q
peers  = [%q]
secret = "0123456789abcdef0123456789abcdef"
name   = %q
[[limit]]
name  = "per-ip"
key   = ["ip"]
rate  = "5/h"
scope = "cluster"
[upstream.v1]
targets = [%q]
[[route]]
name   = "one"
path   = "/*"
auth   = ["none"]
limits = ["per-ip"]
to     = "v1"
`, gossip, peer, name, up.url()))
}

// A peer that is killed says no farewell. The page and top tell of it while it lives, with figures, and soon after it
// died that it is silent; and again when another one has come in its place.
func TestPageShowsLostPeers(t *testing.T) {
	t.Parallel()
	here, there := freeAddress(t), freeAddress(t)
	left, right := startMember(t, "left", here, there), startMember(t, "right", there, here)
	b := left.browse(t, false)
	b.shows("#cluster-table", "right", there, "alive")
	b.shows("#cluster-note", "left shares per-ip", "in ", "out ")
	if note := b.text("#cluster-note"); strings.Contains(note, "dropped") {
		t.Errorf("nothing was dropped, and the page says: %s", note)
	}
	figure := func(column int) string {
		return b.text(fmt.Sprintf("#cluster-table tbody tr td:nth-child(%d), #cluster-table tbody tr th:nth-child(%[1]d)", column))
	}
	eventually(t, "the page tells the peer's lag, round trip and loss", func() bool {
		return strings.ContainsAny(figure(4), "0123456789") && strings.ContainsAny(figure(5), "0123456789") && figure(6) == "0"
	})
	topShows(t, left, "right", "alive")
	evaluate[bool](b, `(document.getElementById("cluster").scrollIntoView({ behavior: "instant" }), true)`)
	b.shoot("cluster-alive")

	right.signal(syscall.SIGKILL)
	<-right.exited
	b.shows("#cluster-table", "right", "silent")
	b.shows("#changed", "Peer right is silent")
	topShows(t, left, "right", "silent")
	b.shoot("cluster-silent")

	right.start()
	b.shows("#cluster-table", "alive")
	b.shows("#changed", "Peer right is alive")
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
