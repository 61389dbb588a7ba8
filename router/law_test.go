package router_test

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/router"
)

// The compiled table gives the answers of the written rules, and Explain gives the same.
func TestMatchAgreesWithReference(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routes, table := drawTable(t)
		var c router.Captures
		for range 20 {
			method, host, path := drawRequest(t)
			route, o := table.Match([]byte(method), []byte(host), []byte(path), &c)
			wantRoute, want := reference(routes).match(method, host, path)
			if route != wantRoute || o != want {
				t.Fatalf("%s %s%s of %+v: route %d, outcome %d; by the rules %d, %d", method, host, path, routes, route, o, wantRoute, want)
			}
			if o == router.Found {
				checkCaptures(t, routes[route].Path, path, &c)
			}
			first := table.Explain([]byte(method), []byte(host), []byte(path))[0]
			if first.Matched != (o == router.Found) || first.Matched && first.Route != route {
				t.Fatalf("%s %s%s: Match gives route %d, Explain %+v", method, host, path, route, first)
			}
		}
	})
}

// checkCaptures puts captures and rest back into the pattern, which must give the path.
func checkCaptures(t *rapid.T, pattern, path string, c *router.Captures) {
	var rebuilt strings.Builder
	captured := 0
	for segment := range strings.SplitSeq(pattern[1:], "/") {
		switch {
		case segment == "*":
			rebuilt.Write(c.Rest([]byte(path)))
			if got := rebuilt.String(); got != path && got != path+"/" {
				t.Fatalf("pattern %s, path %s: captures and rest make %s", pattern, path, got)
			}
			return
		case strings.HasPrefix(segment, "{"):
			rebuilt.WriteString("/" + string(c.Value([]byte(path), captured)))
			captured++
		default:
			rebuilt.WriteString("/" + segment)
		}
	}
	if rebuilt.String() != path || captured != c.Len() || c.Rest([]byte(path)) != nil {
		t.Fatalf("pattern %s, path %s: %d captures make %s", pattern, path, c.Len(), rebuilt.String())
	}
}

// The order in which routes are written decides nothing.
func TestMatchIgnoresOrderOfRoutes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routes, table := drawTable(t)
		shuffled := slices.Clone(routes)
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		rng.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		other, err := router.Compile(shuffled)
		if err != nil {
			t.Fatalf("another order does not compile: %v", err)
		}
		var c router.Captures
		for range 10 {
			method, host, path := drawRequest(t)
			a, outcome := table.Match([]byte(method), []byte(host), []byte(path), &c)
			b, otherOutcome := other.Match([]byte(method), []byte(host), []byte(path), &c)
			if outcome != otherOutcome || a >= 0 && routes[a].Name != shuffled[b].Name {
				t.Fatalf("%s %s%s: route %d in one order, %d in another", method, host, path, a, b)
			}
		}
	})
}

// A route is refused as unreachable exactly if no request reaches it by the rules.
func TestUnreachableIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		routes := dropConflicts(drawRoutes(t))
		if rapid.Bool().Draw(t, "catch-alls") {
			routes = dropConflicts(append(routes, router.Route{Name: "all", Path: "/{x}/*"}, router.Route{Name: "root", Path: "/"},
				router.Route{Name: "below a", Path: "/a/{x}/*"}, router.Route{Name: "a", Path: "/a"}, router.Route{Name: "slash", Path: "/a/"}))
		}
		_, err := router.Compile(routes)
		refused := map[int]bool{}
		if err != nil {
			for _, fault := range err.(router.Errors) {
				refused[fault.Route] = true
			}
		}
		for i := range routes {
			if reached := hasWitness(routes, i); reached == refused[i] {
				t.Fatalf("route %+v of %+v: refused is %v, a request that reaches it exists is %v", routes[i], routes, refused[i], reached)
			}
		}
	})
}

// dropConflicts leaves out routes that collide, but not those that are unreachable.
func dropConflicts(routes []router.Route) (kept []router.Route) {
	for _, r := range routes {
		_, err := router.Compile(append(slices.Clone(kept), r))
		if err == nil || !strings.Contains(err.Error(), "conflicts") {
			kept = append(kept, r)
		}
	}
	return kept
}

// hasWitness looks for a request that the reference gives to a route. Values that no pattern spells
// meet the fewest rivals, so if any request does, one of these does.
func hasWitness(routes []router.Route, i int) bool {
	hosts := []string{"fresh.org"}
	if len(routes[i].Hosts) > 0 {
		hosts = nil
		for _, h := range routes[i].Hosts {
			hosts = append(hosts, strings.Replace(h, "*", "fresh", 1))
		}
	}
	methods := routes[i].Methods
	if len(methods) == 0 {
		methods = []string{"FRESH"}
	}
	base, rest := "", []string{""}
	for segment := range strings.SplitSeq(routes[i].Path[1:], "/") {
		switch {
		case segment == "*":
			rest = []string{"", "/", "/f", "/f/", "/f/f", "/f/f/", "/f/f/f", "/f/f/f/", "/f/f/f/f", "/f/f/f/f/", "/f/f/f/f/f/f"}
		case strings.HasPrefix(segment, "{"):
			base += "/" + fresh
		default:
			base += "/" + segment
		}
	}
	for _, host := range hosts {
		for _, method := range methods {
			for _, below := range rest {
				if path := base + below; path != "" {
					if got, _ := reference(routes).match(method, host, path); got == i {
						return true
					}
				}
			}
		}
	}
	return false
}

// Any bytes may come as method, host and path: the answer is still that of the rules.
func FuzzMatch(f *testing.F) {
	routes := []router.Route{
		{Name: "all", Path: "/*"},
		{Name: "exact", Path: "/a/b", Methods: []string{"GET"}},
		{Name: "capture", Path: "/a/{x}", Methods: []string{"GET", "POST"}},
		{Name: "deep", Path: "/{x}/longlong-1-longlong/{y}"},
		{Name: "host", Path: "/a/*", Hosts: []string{"h.test", "*.h.test"}},
	}
	table, err := router.Compile(routes)
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("GET"), []byte("h.test"), []byte("/a/b"))
	f.Add([]byte("PUT"), []byte("x.h.test"), []byte("/a/longlong-1-longlong/y"))
	f.Add([]byte(""), []byte(""), []byte("/a/\x00"))
	f.Fuzz(func(t *testing.T, method, host, path []byte) {
		if len(path) == 0 || path[0] != '/' || slices.ContainsFunc(host, notInName) || bytes.HasSuffix(host, []byte(".")) {
			return
		}
		var c router.Captures
		route, o := table.Match(method, host, path, &c)
		wantRoute, want := reference(routes).match(string(method), string(host), string(path))
		if route != wantRoute || o != want {
			t.Fatalf("%q %q %q: route %d, outcome %d; by the rules %d, %d", method, host, path, route, o, wantRoute, want)
		}
	})
}

// notInName tells bytes of a Host header that the reference, which wants a clean name, does not know.
func notInName(b byte) bool { return b != '.' && (b < 'a' || b > 'z') }
