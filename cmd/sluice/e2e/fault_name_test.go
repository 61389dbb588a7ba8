package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// named is an upstream whose targets are the addresses of a name.
func named(port, tables string) string {
	return fmt.Sprintf("[upstream.a]\ntargets = [\"http://service.sluice.test:%s\"]\nresolve = \"1s\"\n%s%s", port, tables, routeToA)
}

// nameDelay is how long a change of a name may take to be noticed: a lookup every second, give or take a tenth, and what
// a slow machine adds. Go reads resolv.conf at most every five seconds; it does not change here.
const nameDelay = 6 * time.Second

// hasTargets waits until the upstream's targets are these, in any order.
func (g *gateway) hasTargets(t testing.TB, want ...*moody) {
	t.Helper()
	began := time.Now()
	var addresses []string
	for _, m := range want {
		addresses = append(addresses, m.address())
	}
	slices.Sort(addresses)
	eventually(t, fmt.Sprintf("the targets are %v", addresses), func() bool {
		var got []string
		for _, s := range g.status(t).Upstreams[0].Targets {
			got = append(got, s.Address)
		}
		slices.Sort(got)
		return slices.Equal(got, addresses)
	})
	if took := time.Since(began); took > nameDelay {
		t.Errorf("it took %v until the targets were those of the name, want at most %v", took, nameDelay)
	}
}

// servedBy checks that a load is served by these targets and no others, and that no request fails.
func (g *gateway) servedBy(t testing.TB, want ...*moody) {
	t.Helper()
	r := g.load(t, 4, 300)
	for _, m := range want {
		if r.names[m.name] == 0 {
			t.Errorf("%s gets nothing: %v", m.name, r)
		}
	}
	if r.failed() > 0 || len(r.names) != len(want) {
		t.Errorf("%v, want all from %d targets", r, len(want))
	}
}

// hold makes a target hold a request back, and gives the client that waits for it.
func (g *gateway) hold(t testing.TB, m *moody) *client {
	t.Helper()
	m.set(holdMood)
	for until := time.Now().Add(patience); time.Now().Before(until); {
		c := g.dial(t)
		c.send("GET / HTTP/1.1\r\nHost: h\r\nX-Nonce: held\r\n\r\n")
		for m.active.Load() == 0 {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
			if _, err := c.in.Peek(1); err == nil { // another target had it
				break
			}
		}
		if m.active.Load() == 1 {
			_ = c.SetReadDeadline(until)
			return c
		}
	}
	t.Fatalf("%s gets no request", m.name)
	panic("unreachable")
}

// The targets of an upstream follow the addresses of its name.
func TestFaultName(t *testing.T) {
	t.Parallel()
	needNamespace(t)
	together(t, 3, map[string]func(t *testing.T){
		"changes":             nameChanges,
		"comes late":          nameComesLate,
		"cannot be looked up": nameFailsToResolve,
	})
}

// A name with three addresses is three targets. One that leaves the name gets no more requests, and finishes the one
// it has; one that comes gets its share. No request fails by it.
func nameChanges(t *testing.T) {
	all, at, port := startSiblings(t, 4)
	a, b, c, d := all[0], all[1], all[2], all[3]
	dns := startNameServer(t)
	dns.set(noTrouble, at[:3]...)
	g := dns.startResolving(t, named(port, ""))
	g.hasTargets(t, a, b, c)
	g.servedBy(t, a, b, c)

	held := g.hold(t, c)
	c.set(wellMood) // for all that come from now on
	load := startPour(t, g, faultClients, faultPace)
	defer load.stop()
	dns.set(noTrouble, at[0], at[1], at[3])
	g.hasTargets(t, a, b, d)
	served := c.served.Load()
	g.servedBy(t, a, b, d)
	if n := c.served.Load() - served; n != 0 {
		t.Errorf("a target that left its name got %d requests", n)
	}
	close(c.release)
	if r := held.receive("GET"); r.status != 200 || r.body != "held " || r.fields.get("X-Name") != "c" {
		t.Errorf("the request in flight when its target left ended so: %+v", r)
	}
	eventually(t, "no connection to it is left", func() bool { return c.open.Load() == 0 })

	dns.set(noTrouble, at[0])
	g.hasTargets(t, a)
	g.servedBy(t, a)
	dns.set(noTrouble, at...)
	g.hasTargets(t, all...)
	load.stop()
	if r := load.between(time.Time{}, time.Now()); r.failed() > 0 {
		t.Errorf("while the name changed: %v", r)
	}
}

// Whatever goes wrong with the resolver, the last addresses stay in use, and /status tells what went wrong.
func nameFailsToResolve(t *testing.T) {
	all, at, port := startSiblings(t, 3)
	dns := startNameServer(t)
	dns.set(noTrouble, at[:2]...)
	g := dns.startResolving(t, named(port, ""))
	g.hasTargets(t, all[:2]...)
	load := startPour(t, g, faultClients, faultPace)
	defer load.stop()
	troubled := func() bool { return len(g.status(t).Upstreams[0].Names) > 0 }
	for _, trouble := range []nameTrouble{nameIsUnknown, nameIsSilent, noTrouble} {
		dns.set(trouble) // without trouble too there is no address then
		asked := dns.asked.Load()
		// For both families: with the fourth question a lookup is over that began and ended in trouble.
		eventually(t, "it is asked again: "+string(trouble), func() bool { return dns.asked.Load() >= asked+4 && troubled() })
		g.hasTargets(t, all[:2]...)
		if names := g.status(t).Upstreams[0].Names; len(names) != 1 || names[0].Targets != 2 || names[0].Error == "" {
			t.Errorf("%q: /status tells %+v of the name", trouble, names)
		}
	}
	dns.set(noTrouble, at[1:]...)
	g.hasTargets(t, all[1:]...)
	if troubled() {
		t.Error("/status tells of a trouble that is over")
	}
	g.servedBy(t, all[1:]...)
	load.stop()
	if r := load.between(time.Time{}, time.Now()); r.failed() > 0 {
		t.Errorf("with a resolver in trouble: %v", r)
	}
}

// A gateway starts without its names. They come later, and what is known of an address stays when others change.
func nameComesLate(t *testing.T) {
	all, at, port := startSiblings(t, 3)
	dns := startNameServer(t)
	dns.set(nameFails)
	g := dns.startResolving(t, named(port, strict))
	_, r := g.exchange(t, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
	r.expectProblem(t, 503, "no_healthy_target")
	dns.set(noTrouble, at[:2]...)
	g.hasTargets(t, all[:2]...)
	g.servedBy(t, all[:2]...)

	all[0].set(errorMood)
	g.until(t, "the breaker opens", all[0], isOpen)
	served := all[0].served.Load()
	dns.set(noTrouble, at[0], at[2])
	g.hasTargets(t, all[0], all[2])
	if s := g.targetOf(t, all[0].address()); !isOpen(s) || s.Reopens <= 0 {
		t.Errorf("when another address changed, the breaker of one that stayed: %+v", s)
	}
	g.servedBy(t, all[2])
	if n := all[0].served.Load() - served; n != 0 {
		t.Errorf("an open breaker let %d requests pass", n)
	}
	if s := g.targetOf(t, all[0].address()); s.Name == s.Address || !strings.HasPrefix(s.Name, "http://service.sluice.test:") && !strings.HasPrefix(s.Name, "service.sluice.test:") {
		t.Errorf("the target is called %q", s.Name)
	}
}
