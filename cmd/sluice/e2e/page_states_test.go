package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// Every state of a target that the page tells is provoked, seen, and seen to end.
func TestPageShowsUnhealthyTargets(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 3)
	g := startGateway(t, moodyUpstream(urls, `
[upstream.a.health]
path = "/healthz"
interval = "200ms"
timeout = "200ms"
unhealthy = 2
healthy = 2
`))
	b := g.browse(t, false)
	b.shows("#state", "serving")
	b.shows("#sick", "None: 3 targets of 1 upstream are well")
	b.shows("#upstreams-table", all[0].address(), "healthy", "closed")
	all[0].set(errorMood)
	b.shows("#sick", "a: 1 of 3 out", all[0].address(), "unhealthy", "500")
	b.shows("#upstreams-table", "unhealthy")
	b.shows("#changed", "a: "+all[0].address()+" unhealthy")
	all[0].set(wellMood)
	b.shows("#sick", "None")
	b.shows("#changed", "a: "+all[0].address()+" is well again")
}

func TestPageShowsOpenBreakers(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 3)
	g := startGateway(t, moodyUpstream(urls, `balance = "round_robin"
[upstream.a.breaker]
min_requests = 6
probes = 2
open_for = "3s"
`))
	b := g.browse(t, false)
	b.shows("#sick", "None: 3 targets of 1 upstream are well")
	all[1].set(errorMood)
	g.until(t, "its breaker opens", all[1], isOpen)
	b.shows("#sick", "a: 1 of 3 out", all[1].address(), "breaker open")
	b.shows("#upstreams-table", "breaker open", "tried again in")
	b.shoot("sick")
	all[1].set(wellMood)
	g.until(t, "its breaker closes", all[1], isClosed)
	b.shows("#sick", "None")
	b.shows("#changed", "a: "+all[1].address()+" is well again")
}

func TestPageShowsEjectedTargets(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(urls, `balance = "round_robin"
[upstream.a.breaker]
min_requests = 100000
`))
	b := g.browse(t, false)
	b.shows("#sick", "None")
	all[1].set(halfMood)
	seen := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { // it is ejected for longer each time that it fails again
		for {
			select {
			case <-seen:
				return
			default:
				_ = g.load(t, 1, 20)
			}
		}
	})
	b.shows("#upstreams-table", "ejected")
	b.shows("#changed", all[1].address()+" ejected")
	close(seen)
	load.Wait()
}

func TestPageShowsMoved(t *testing.T) {
	t.Parallel()
	up := startService(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Nonce", r.Header.Get("X-Nonce"))
		_ = http.NewResponseController(w).Flush() // so that the answer has no length
	})
	g := startGateway(t, moodyUpstream(fmt.Sprintf("%q", up.URL), "pipeline = 8\n"))
	b := g.browse(t, false)
	moved := func() uint64 { return g.status(t).Upstreams[0].Targets[0].Moved }
	eventually(t, "requests are moved", func() bool {
		_ = g.load(t, 8, 40)
		return moved() > 0
	})
	eventually(t, "the page tells how many", func() bool {
		const cell = `[...document.querySelectorAll("#upstreams-table thead th")].findIndex((e) => e.textContent.startsWith("Moved"))`
		at := evaluate[int](b, cell)
		return at > 0 && b.text(fmt.Sprintf("#upstreams-table tbody tr td:nth-child(%d)", at+1)) == fmt.Sprint(moved())
	})
}

func TestPageShowsReloads(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, only("/start", up.url(), ""))
	b := g.browse(t, true)
	b.shows("#config", g.status(t).Config.Hash)

	g.configure(only("/start", up.url(), "") + "[[route]]\nname = \"<script>alert(1)</script>\"\n")
	b.shows("#changed", "A reload failed", "<script>alert(1)</script>")
	b.shows("#config", "1 failed", "<script>alert(1)</script>")
	b.shoot("reload-failed")
	g.configure(only("/next", up.url(), ""))
	eventually(t, "the good configuration is live", func() bool { return g.answers(t, "/next") == 200 })
	b.shows("#changed", g.status(t).Config.Hash[:8]+" is live")
	b.shows("#routes-table", "/next")
	b.shows("#config", g.status(t).Config.Hash)
	if verdict := b.text("#changed .verdict"); strings.Contains(verdict, "failed") {
		t.Errorf("the failure is healed, and the page says: %s", verdict)
	}
}

// A handover ends the process that the page watches: it finds the next one by itself.
func TestPageFollowsAnUpgrade(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := newGateway(t, only("/x", up.url(), `drain = "1s"`))
	g.launch(t, g.run())
	b := g.browse(t, false)
	b.shows("#state", "serving")
	b.expect("net::ERR_") // there may be a moment between the two
	g.signal(syscall.SIGUSR2)
	b.shows("#changed", "Another process serves")
	b.shows("#state", "serving")
	if n := len(g.serving()); n != 2 {
		t.Errorf("%d processes have served", n)
	}
}
