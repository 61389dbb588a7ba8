package e2e

import (
	"fmt"
	"maps"
	"testing"
)

// The shares of requests are about as the weights say, under every policy that goes by weight.
func TestUpstreamWeights(t *testing.T) {
	t.Parallel()
	for _, policy := range []string{"p2c", "round_robin", "least_conn"} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			light, heavy := startMoody(t, "light"), startMoody(t, "heavy")
			g := startGateway(t, moodyUpstream(fmt.Sprintf("%q, { url = %q, weight = 3 }", light.url, heavy.url),
				fmt.Sprintf("balance = %q\n", policy)))
			for _, workers := range []int{1, 8} {
				r := g.load(t, workers, 2000)
				// By chance, outside in fewer than one of a million runs; loads that differ push towards the even.
				if n := r.names["heavy"]; r.failed() > 0 || n < 1250 || n > 1620 {
					t.Errorf("%d at a time: %v, want about 1500 from heavy", workers, r)
				}
			}
		})
	}
}

// A target that is slow gets fewer requests where the load decides.
func TestUpstreamSlowTarget(t *testing.T) {
	t.Parallel()
	for policy, most := range map[string]int{"p2c": 400, "least_conn": 300, "hash": 500} {
		t.Run(policy, func(t *testing.T) {
			t.Parallel()
			all, urls := startMoodies(t, 2)
			g := startGateway(t, moodyUpstream(urls, fmt.Sprintf("balance = %q\nhash_on = \"header:X-User\"\n", policy)))
			all[0].set(slowMood)
			r := g.loadWith(t, 8, 1000, func(i int) string { return fmt.Sprintf("GET / HTTP/1.1\r\nHost: h\r\nX-User: %d\r\n", i) })
			if r.failed() > 0 || r.names["a"] == 0 || r.names["a"] > most {
				t.Errorf("%v, want at most %d from the slow one", r, most)
			}
		})
	}
}

// homes is where the requests of each of some users go, by one connection, one after another.
func homes(t testing.TB, g *gateway, line string, users int) map[int]string {
	t.Helper()
	at := map[int]string{}
	c := g.dial(t)
	for u := range users {
		target, header := "/", fmt.Sprintf(line, u)
		if line == "" {
			target, header = fmt.Sprintf("/user/%d?%d", u, len(at)), "X-Noise: 1"
		}
		r := c.ask(target, header)
		if r.status != 200 {
			t.Fatalf("user %d: %s %s", u, r.line, r.body)
		}
		at[u] = r.fields.get("X-Name")
	}
	return at
}

// Whatever hash_on names decides the target, always the same way, and shares the keys about evenly. When a
// target is lost, only its keys move; when it is back, they return.
func TestUpstreamHash(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ on, line string }{
		{"client", "X-Forwarded-For: 10.1.2.%d"}, // nobody in particular: its address
		{"ip", "X-Forwarded-For: 10.1.2.%d"},
		{"header:X-User", "x-USER: user-%d"},
		{"cookie:session", "Cookie: other=1; session=s%d; more=2"},
		{"path", ""},
	} {
		t.Run(c.on, func(t *testing.T) {
			t.Parallel()
			all, urls := startMoodies(t, 3)
			g := startGateway(t, "[server]\nlisten = [\"$LISTEN\"]\ntrusted_proxies = [\"127.0.0.1/32\"]\n"+
				moodyUpstream(urls, fmt.Sprintf("balance = \"hash\"\nhash_on = %q\n", c.on)+checked))
			const users = 200
			home := homes(t, g, c.line, users)
			count := map[string]int{}
			for _, name := range home {
				count[name]++
			}
			for _, m := range all {
				if n := count[m.name]; n < 30 || n > 110 {
					t.Errorf("%s has %d of %d keys", m.name, n, users)
				}
			}
			if again := homes(t, g, c.line, users); !maps.Equal(home, again) {
				t.Error("keys moved without a cause")
			}
			present := func(is bool) {
				t.Helper()
				eventually(t, "a target comes or goes", func() bool { return g.targetOf(t, all[1].address()).Present == is })
			}
			all[1].set(errorMood)
			present(false)
			for u, name := range homes(t, g, c.line, users) {
				if home[u] != "b" && name != home[u] {
					t.Errorf("user %d moved from %s to %s, when b was lost", u, home[u], name)
				}
				if name == "b" {
					t.Errorf("user %d is served by the lost target", u)
				}
			}
			all[1].set(wellMood)
			present(true)
			for u, name := range homes(t, g, c.line, users) {
				if home[u] != "b" && name != home[u] {
					t.Errorf("user %d moved from %s to %s, when b was back", u, home[u], name)
				}
			}
		})
	}
}

// A request without what hash_on names goes by its client's address.
func TestUpstreamHashOfNothing(t *testing.T) {
	t.Parallel()
	_, urls := startMoodies(t, 3)
	for _, on := range []string{"header:X-User", "cookie:session"} {
		g := startGateway(t, moodyUpstream(urls, fmt.Sprintf("balance = \"hash\"\nhash_on = %q\n", on)))
		if r := g.load(t, 1, 100); r.failed() > 0 || len(r.names) != 1 {
			t.Errorf("%s: %v, want all from one target", on, r)
		}
	}
}

// A target gets no more requests at once than it may have. A few others wait for room, as long as connecting may
// take; who finds no place to wait is refused at once.
func TestUpstreamBusy(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 1)
	m := all[0]
	g := startGateway(t, moodyUpstream(urls, "max_in_flight = 1\n[upstream.a.timeouts]\nconnect = \"1s\"\n"))
	held := g.hold(t, m)
	m.set(wellMood)
	const get = "GET / HTTP/1.1\r\nHost: h\r\nX-Nonce: next\r\n\r\n"
	waits := func(n int) func() bool { return func() bool { return g.status(t).Upstreams[0].Waiting == n } }
	in := func() *client {
		c := g.dial(t)
		c.send(get)
		eventually(t, "a request waits", waits(1))
		return c
	}
	first := in()
	_, r := g.exchange(t, get)
	r.expectProblem(t, 503, "upstream_busy")
	first.receive("GET").expectProblem(t, 503, "upstream_busy") // when it has waited for a second
	left := in()
	left.Close()
	eventually(t, "nobody waits", waits(0))
	second := in()
	close(m.release)
	if r := held.receive("GET"); r.body != "held " {
		t.Errorf("the first one: %s %q", r.line, r.body)
	}
	if r := second.receive("GET"); r.body != "next " {
		t.Errorf("the one that waited: %s %q", r.line, r.body)
	}
	m.set(slowMood)
	if r := g.load(t, 2, 40); r.failed() > 0 { // one is with the target, and one waits
		t.Errorf("two clients: %v", r)
	}
	total := g.load(t, 4, 60)
	if total.ended["200"] == 0 || total.failed() != total.ended["upstream_busy"] {
		t.Error(total)
	}
	if n := m.peak.Load(); n != 1 {
		t.Errorf("%d requests at once, want 1", n)
	}
	if s := g.targetOf(t, m.address()); !isClosed(s) || s.Failures > 0 {
		t.Errorf("to be busy counts against a target: %+v", s)
	}
}
