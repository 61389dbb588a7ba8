package engine

import (
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/cespare/xxhash/v2"
	"pgregory.net/rapid"
)

func splitOf(name string, weights map[string]int) *split {
	all := map[string]*destination{}
	for n := range weights {
		all[n] = &destination{name: n, pool: &pool{}}
	}
	return newSplit(name, weights, all)
}

func TestSplitSharesByWeight(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.MapOfN(rapid.StringMatching(`[a-f]{1,3}`), rapid.IntRange(0, 100), 1, 5).Draw(t, "weights")
		total := 0
		for _, w := range weights {
			total += w
		}
		if total == 0 {
			t.Skip("the loader refuses such a split")
		}
		s := splitOf("s", weights)
		const steps = 10_000
		got := map[string]int{}
		for i := range uint64(steps) {
			got[s.pick(i*(^uint64(0)/steps)).name]++
		}
		for name, w := range weights {
			want := steps * w / total
			if got[name] < want-2 || got[name] > want+2 {
				t.Errorf("%s has %d of %d, want %d", name, got[name], steps, want)
			}
		}
	})
}

func TestStickyHashesSpread(t *testing.T) {
	s := splitOf("canary", map[string]int{"stable": 90, "new": 10})
	var key [8]byte
	count := 0
	const clients = 100_000
	for i := range uint64(clients) {
		binary.LittleEndian.PutUint64(key[:], i)
		if s.pick(mix(xxhash.Sum64(key[:])^s.seed)).name == "new" {
			count++
		}
	}
	if share := float64(count) / clients; share < 0.095 || share > 0.105 {
		t.Errorf("the canary has %.3f of the clients, want 0.1", share)
	}
}

// TestRampMovesFew: a canary that grows takes clients over and gives none back.
func TestRampMovesFew(t *testing.T) {
	small := splitOf("canary", map[string]int{"canary": 10, "stable": 90})
	large := splitOf("canary", map[string]int{"canary": 25, "stable": 75})
	for range 10_000 {
		draw := rand.Uint64()
		if small.pick(draw).name == "canary" && large.pick(draw).name != "canary" {
			t.Fatal("a client of the canary went back")
		}
	}
}

func TestStickyKeys(t *testing.T) {
	for _, c := range []struct {
		intent, sticky string
		one, other     *exchange
		same           bool
	}{
		{"the same cookie", "cookie", loose("203.0.113.1", "Cookie: a=b; id=7\r\n"), loose("203.0.113.2", "Cookie: id=7\r\n"), true},
		{"other cookies", "cookie", loose("203.0.113.1", "Cookie: id=7\r\n"), loose("203.0.113.1", "Cookie: id=8\r\n"), false},
		{"the same header", "header", loose("203.0.113.1", "X-Tenant: t\r\n"), loose("203.0.113.2", "x-tenant: t\r\n"), true},
		{"no cookie: the address", "cookie", loose("203.0.113.1", ""), loose("203.0.113.1", "Cookie: other=1\r\n"), true},
		{"no cookie: other addresses", "cookie", loose("203.0.113.1", ""), loose("203.0.113.2", ""), false},
		{"one IPv6 host", "client", loose("2001:db8::1", ""), loose("2001:db8::ffff", ""), true},
		{"two IPv6 networks", "client", loose("2001:db8:0:1::1", ""), loose("2001:db8:0:2::1", ""), false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			s := splitOf("s", map[string]int{"a": 1, "b": 1})
			switch c.sticky {
			case "cookie":
				s.sticky, s.cookie = stickyCookie, "id"
			case "header":
				s.sticky, s.header = stickyHeader, "x-tenant"
			default:
				s.sticky = stickyClient
			}
			c.one.locate()
			c.other.locate()
			if got := c.one.draw(s) == c.other.draw(s); got != c.same {
				t.Errorf("the same side: %v", got)
			}
		})
	}
}

func TestChooseFollowsTheGraph(t *testing.T) {
	stable := &destination{name: "stable", pool: &pool{}}
	canary := &destination{name: "canary", pool: &pool{}}
	half := &destination{name: "half"}
	half.split = newSplit("half", map[string]int{"stable": 0, "canary": 1}, map[string]*destination{"stable": stable, "canary": canary})
	root := &destination{name: "root", headerSwitch: &headerSwitch{
		header: "x-api-version", cases: map[string]*destination{"v1": stable, "v2": half},
	}}
	for _, c := range []struct{ intent, head, upstream, variant string }{
		{"a case, whatever the name's case", "x-API-version: v1\r\n", "stable", "stable"},
		{"a case that is a split, one side drained", "X-Api-Version: v2\r\n", "canary", "canary"},
		{"values are exact", "X-API-Version: V1\r\n", "", ""},
		{"no default", "", "", ""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			x := loose("203.0.113.9", c.head)
			x.conn.engine.random = rand.Uint64
			d, fault := x.choose(root)
			if fault != nil {
				if c.upstream != "" || fault.Reason != "no_variant" {
					t.Errorf("refused: %s", fault.Reason)
				}
				return
			}
			if d.name != c.upstream || x.variant != c.variant {
				t.Errorf("went to %s, variant %q", d.name, x.variant)
			}
		})
	}
	x := loose("203.0.113.9", "")
	if d, fault := x.choose(stable); fault != nil || d != stable || x.variant != "" {
		t.Error("a route straight to an upstream has no variant")
	}
}

func TestClientKey(t *testing.T) {
	for address, want := range map[string]string{
		"203.0.113.9":          "203.0.113.9",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:2:ff::":    "2001:db8:1:2::",
	} {
		x := loose("203.0.113.9", "")
		x.client = netip.MustParseAddr(address)
		if got := x.clientKey().String(); got != want {
			t.Errorf("%s is counted as %s, want %s", address, got, want)
		}
	}
}
