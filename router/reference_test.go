package router_test

import (
	"fmt"
	"slices"
	"strings"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/router"
)

// reference matches by the written rules and nothing else: every route gets a rank, a string, and the
// least rank wins.
type reference []router.Route

func (routes reference) match(method, host, path string) (route int, o router.Outcome) {
	best, route, o := "", -1, router.NotFound
	for i, r := range routes {
		hostRank, hostFits := rankOfHosts(r.Hosts, host)
		patternRank, pathFits := rankOfPattern(r.Path, path)
		if !hostFits || !pathFits {
			continue
		}
		if o == router.NotFound {
			o = router.MethodNotAllowed
		}
		methodRank := "any"
		if len(r.Methods) == 0 {
			methodRank = "none"
		} else if !slices.Contains(r.Methods, method) {
			continue
		}
		rank := hostRank + patternRank + methodRank
		if route < 0 || rank < best {
			best, route, o = rank, i, router.Found
		}
	}
	return route, o
}

func rankOfHosts(hosts []string, host string) (rank string, fits bool) {
	if len(hosts) == 0 {
		return "2 any host     ", true
	}
	for _, h := range hosts {
		suffix, wild := strings.CutPrefix(h, "*")
		var r string
		switch {
		case h == host:
			r = "0 that host    "
		case wild && strings.HasSuffix(host, suffix) && host != suffix:
			r = fmt.Sprintf("1 wildcard %04d", 9999-len(suffix))
		default:
			continue
		}
		if !fits || r < rank {
			rank, fits = r, true
		}
	}
	return rank, fits
}

// rankOfPattern writes one character for each segment that the path has, the better the lesser.
func rankOfPattern(pattern, path string) (rank string, fits bool) {
	const end, literal, capture, rest = " ", "0", "1", "2"
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	for i, w := range want {
		switch {
		case w == "*":
			return rank + rest, true
		case i >= len(got):
			return "", false
		case strings.HasPrefix(w, "{"):
			if got[i] == "" {
				return "", false
			}
			rank += capture
		default:
			if got[i] != w {
				return "", false
			}
			rank += literal
		}
	}
	return rank + end, len(want) == len(got)
}

// literals are segments that the compiled tree treats differently: up to one word, up to two words, and
// longer ones that share their first and last words.
var literals = []string{"a", "b", "eight-by", "nine-byte", "sixteen-bytes-ab", "seventeen-bytes-x", "longlong-1-longlong", "longlong-2-longlong"}

// fresh is a segment that no pattern spells, as long as a capture's value may be in a real path.
const fresh = "fresh-0f9d2c81-55aa"

func drawRoutes(t *rapid.T) []router.Route {
	segment := rapid.SampledFrom(append([]string{"{}", "{}", "{}"}, literals...))
	if rapid.Bool().Draw(t, "few literals") {
		segment = rapid.SampledFrom([]string{"{}", "a", "b"})
	}
	host := rapid.SampledFrom([]string{"h.test", "x.h.test", "*.h.test", "*.test"})
	method := rapid.SampledFrom([]string{"GET", "POST", "LINK"})
	routes := make([]router.Route, rapid.IntRange(1, 12).Draw(t, "routes"))
	for i := range routes {
		path := ""
		for n, s := range rapid.SliceOfN(segment, 0, 4).Draw(t, "segments") {
			path += "/" + strings.Replace(s, "{}", fmt.Sprintf("{c%d}", n), 1)
		}
		path += rapid.SampledFrom([]string{"", "/", "/*"}).Draw(t, "end")
		if path == "" {
			path = "/"
		}
		routes[i] = router.Route{
			Name:    fmt.Sprintf("r%d", i),
			Hosts:   rapid.SliceOfNDistinct(host, 0, 2, rapid.ID).Draw(t, "hosts"),
			Methods: rapid.SliceOfNDistinct(method, 0, 2, rapid.ID).Draw(t, "methods"),
			Path:    path,
		}
	}
	return routes
}

// drawTable draws routes until they compile, by leaving out those at fault.
func drawTable(t *rapid.T) ([]router.Route, *router.Table) {
	routes := drawRoutes(t)
	for {
		table, err := router.Compile(routes)
		if err == nil {
			return routes, table
		}
		faults := err.(router.Errors)
		last := faults[len(faults)-1].Route
		routes = slices.Delete(routes, last, last+1)
	}
}

func drawRequest(t *rapid.T) (method, host, path string) {
	method = rapid.SampledFrom([]string{"GET", "POST", "LINK", "OTHER"}).Draw(t, "method")
	host = rapid.SampledFrom([]string{"h.test", "x.h.test", "y.x.h.test", "test", "other.org", ""}).Draw(t, "host")
	segment := rapid.SampledFrom(append([]string{"a", "b", "a", "b", fresh, "z"}, literals...))
	path = "/" + strings.Join(rapid.SliceOfN(segment, 0, 5).Draw(t, "segments"), "/")
	if rapid.Bool().Draw(t, "slash") && path != "/" {
		path += "/"
	}
	return method, host, path
}
