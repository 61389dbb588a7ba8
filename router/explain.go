package router

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Candidate is what Explain says of one route.
type Candidate struct {
	Route   int
	Matched bool   // host, method and path all fit; the first such candidate is the one Match returns
	Reason  string // why Match does not return it; empty for the one it does
}

// Explain tells of every route why it takes a request or does not: first those that match, best first,
// then the others, those that come closest first. It works from the written rules, not from the
// compiled tree, and takes time and memory for all routes: it is not for the request path. The
// arguments are those of Match.
func (t *Table) Explain(method, host, path []byte) []Candidate {
	var buf [maxHost]byte
	name := string(hostName(host, &buf))
	verdicts := make([]verdict, len(t.routes))
	for i := range t.routes {
		verdicts[i] = t.judge(i, string(method), name, string(path))
	}
	slices.SortStableFunc(verdicts, verdict.compare)
	candidates := make([]Candidate, len(verdicts))
	for i, v := range verdicts {
		c := Candidate{Route: v.route, Matched: len(v.faults) == 0, Reason: strings.Join(v.faults, "; ")}
		if c.Matched && i > 0 {
			c.Reason = "less specific than " + t.label(verdicts[0].route)
		}
		candidates[i] = c
	}
	return candidates
}

// verdict is how one route stands to a request.
type verdict struct {
	route       int
	faults      []string // host, then method, then path
	hostRank    int      // see rankHost
	pattern     pattern
	namesMethod bool
	depth       int // segments of the path that fit
}

func (t *Table) judge(i int, method, host, path string) verdict {
	route := t.routes[i]
	v := verdict{route: i, hostRank: rankHost(route.Hosts, host), namesMethod: len(route.Methods) > 0}
	if v.hostRank < 0 {
		v.faults = append(v.faults, fmt.Sprintf("host %s is not %s", cmp.Or(host, `""`), strings.Join(route.Hosts, " or ")))
	}
	if v.namesMethod && !slices.Contains(route.Methods, method) {
		v.faults = append(v.faults, fmt.Sprintf("method %s is not in %s", method, strings.Join(route.Methods, ", ")))
	}
	var err error
	if v.pattern, err = parsePattern(route.Path); err != nil {
		panic("BUG: a compiled route has a bad path: " + err.Error())
	}
	depth, fault := v.pattern.fit(path)
	v.depth = depth
	if fault != "" {
		v.faults = append(v.faults, fault)
	}
	return v
}

// compare orders verdicts: fewer faults first; then, for routes that match, the order of the package
// comment; for others, the deeper agreement of paths.
func (v verdict) compare(w verdict) int {
	switch {
	case len(v.faults) != len(w.faults):
		return len(v.faults) - len(w.faults)
	case len(v.faults) > 0:
		return cmp.Compare(w.depth, v.depth)
	case v.hostRank != w.hostRank:
		return cmp.Compare(w.hostRank, v.hostRank)
	}
	if order := v.pattern.compare(w.pattern); order != 0 {
		return order
	}
	switch {
	case v.namesMethod == w.namesMethod:
		return 0
	case v.namesMethod:
		return -1
	}
	return 1
}

// rankHost says how specific the best of a route's hosts for a host name is: -1 if none fits, 0 for any
// host, more for longer wildcard suffixes, most for the name itself.
func rankHost(hosts []string, name string) int {
	if len(hosts) == 0 {
		return 0
	}
	best := -1
	for _, host := range hosts {
		host = strings.ToLower(host)
		suffix, wild := strings.CutPrefix(host, "*")
		switch {
		case host == name:
			best = maxHost + 1
		case wild && len(name) > len(suffix) && strings.HasSuffix(name, suffix):
			best = max(best, len(suffix))
		}
	}
	return best
}

// fit reports how many segments of path agree with the pattern before the first that does not, and what
// is wrong then; nothing is wrong with a path that matches.
func (p pattern) fit(path string) (depth int, fault string) {
	if !strings.HasPrefix(path, "/") {
		return 0, `path does not start with "/"`
	}
	segments := strings.Split(path[1:], "/")
	for i, want := range p.segments {
		switch {
		case i == len(segments):
			return i, "path is shorter than the pattern"
		case want.capture && segments[i] == "":
			return i, fmt.Sprintf("segment %d is empty, which {%s} does not take", i+1, want.text)
		case !want.capture && segments[i] != want.text:
			return i, fmt.Sprintf("segment %d: %q is not %q", i+1, segments[i], want.text)
		}
	}
	if len(segments) > len(p.segments) && !p.rest {
		return len(p.segments), "path is longer than the pattern"
	}
	return len(p.segments), ""
}

// compare orders two patterns that match the same path, the better one first.
func (p pattern) compare(q pattern) int {
	for i := range min(len(p.segments), len(q.segments)) {
		a, b := p.segments[i], q.segments[i]
		switch {
		case a.capture == b.capture:
		case b.capture:
			return -1
		default:
			return 1
		}
	}
	switch {
	case len(p.segments) != len(q.segments): // the shorter one has a "*" there
		return len(q.segments) - len(p.segments)
	case p.rest == q.rest:
		return 0
	case q.rest:
		return -1
	}
	return 1
}
