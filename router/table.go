package router

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Route is one pattern to compile. Its index in the slice given to Compile is what Match returns.
type Route struct {
	Name    string   // for error messages and explanations
	Hosts   []string // "api.example.com", "*.example.com" (one or more labels), "[::1]"; none: any host
	Methods []string // case-sensitive, literal: GET does not imply HEAD; none: any method
	Path    string   // the pattern, see the package comment
}

// Table is a compiled set of routes. It never changes: any number of goroutines may use it.
type Table struct {
	routes  []Route
	params  [][]string
	methods methodNames
	hosts   hostIndex
	nodes   []node
	detours []detour // by node
	takers  []taker
	text    []byte // the literals, for those too long for a spelling
}

// RouteError is one fault of a route.
type RouteError struct {
	Route int    // index of the route at fault
	Other int    // index of the route it collides with or is hidden by, -1 if it is alone at fault
	Field string // "path", "hosts" or "methods"
	Err   error  // says what is wrong and names both routes
}

func (e *RouteError) Error() string { return e.Err.Error() }

// Unwrap returns Err.
func (e *RouteError) Unwrap() error { return e.Err }

// Errors lists every fault that Compile found, ordered by route. It is never empty.
type Errors []*RouteError

// Error gives one line for each fault.
func (e Errors) Error() string {
	lines := make([]string, len(e))
	for i, fault := range e {
		lines[i] = fault.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap lets errors.Is and errors.As look at every fault.
func (e Errors) Unwrap() []error {
	errs := make([]error, len(e))
	for i, fault := range e {
		errs[i] = fault
	}
	return errs
}

// Compile builds the table of routes. Its error, if any, is an Errors: all faults at once. Beside bad
// fields, two routes that take the same requests with equal rank are a fault, and so is a route that
// can never be reached. The routes are copied.
func Compile(routes []Route) (*Table, error) {
	c := compiler{
		table: &Table{routes: cloneRoutes(routes), params: make([][]string, len(routes))},
		trees: map[string]*branch{},
	}
	places := make([]placement, 0, len(routes))
	for i, route := range routes {
		if p, ok := c.parse(i, route); ok && c.insert(p) {
			places = append(places, p)
		}
	}
	for _, p := range places {
		c.checkReachable(p)
	}
	if len(c.errs) > 0 {
		slices.SortStableFunc(c.errs, func(a, b *RouteError) int { return a.Route - b.Route })
		return nil, c.errs
	}
	c.freeze()
	return c.table, nil
}

func cloneRoutes(routes []Route) []Route {
	clones := slices.Clone(routes)
	for i, r := range clones {
		clones[i].Hosts, clones[i].Methods = slices.Clone(r.Hosts), slices.Clone(r.Methods)
	}
	return clones
}

// Params returns the names of a route's captures in the order of Captures. The caller must not change
// the slice.
func (t *Table) Params(route int) []string { return t.params[route] }

// label names a route in a message.
func (t *Table) label(route int) string {
	if name := t.routes[route].Name; name != "" {
		return fmt.Sprintf("route %q", name)
	}
	return fmt.Sprintf("route %d (%s)", route, t.routes[route].Path)
}

// compiler gathers what Compile needs while it works.
type compiler struct {
	table *Table
	trees map[string]*branch // by host name, "*." and suffix, or "" for any host
	errs  Errors
}

// placement is a route, parsed.
type placement struct {
	route   int
	hosts   []string
	methods methodSet
	pattern pattern
}

func (c *compiler) fault(route, other int, field string, err error) {
	c.errs = append(c.errs, &RouteError{Route: route, Other: other, Field: field, Err: err})
}

func (c *compiler) parse(i int, route Route) (placement, bool) {
	p := placement{route: i}
	var errs [3]error
	p.pattern, errs[0] = parseRoutePath(route.Path)
	p.hosts, errs[1] = parseHosts(route.Hosts)
	p.methods, errs[2] = c.table.methods.set(route.Methods)
	good := true
	for f, field := range [...]string{"path", "hosts", "methods"} {
		if errs[f] != nil {
			c.fault(i, -1, field, fmt.Errorf("%s: %w", c.table.label(i), errs[f]))
			good = false
		}
	}
	c.table.params[i] = p.pattern.params()
	return p, good
}

// insert hangs a route into the trees of its hosts, or reports the first route it conflicts with.
func (c *compiler) insert(p placement) (ok bool) {
	for _, host := range p.hosts {
		tree := c.trees[host]
		if tree == nil {
			tree = new(branch)
			c.trees[host] = tree
		}
		other, ok := tree.leaf(p.pattern).add(newTaker(p.route, p.methods))
		if ok {
			continue
		}
		c.fault(p.route, other.route(), "path", fmt.Errorf("%s conflicts with %s: both take %s %s%s",
			c.table.label(p.route), c.table.label(other.route()), c.commonMethods(p.methods, other.methods), host, c.table.routes[p.route].Path))
		return false
	}
	return true
}

func (c *compiler) commonMethods(a, b methodSet) string {
	if a&b == anyMethod {
		return "any method of"
	}
	names := methodNames{extra: c.table.methods.extra}
	names.freeze()
	return string(names.appendNames(nil, a&b))
}

// checkReachable reports a route that better ones hide on every host it has.
func (c *compiler) checkReachable(p placement) {
	if !p.pattern.rest {
		return // a path with new values for all captures is no other pattern's
	}
	methods := p.methods
	if methods == anyMethod {
		methods = otherMethod // only a route of any method takes a method that no route names
	}
	var by int
	for _, host := range p.hosts {
		tree := c.trees[host]
		at := tree.find(p.pattern.segments)
		hidden := false
		if by, hidden = at.hides(methods, at == tree); !hidden {
			return
		}
	}
	c.fault(p.route, by, "path", fmt.Errorf("%s is unreachable: all that %s matches is taken by better routes, as %s (%s)",
		c.table.label(p.route), c.table.routes[p.route].Path, c.table.label(by), c.table.routes[by].Path))
}

// freeze turns the trees into the table's arrays.
func (c *compiler) freeze() {
	t := c.table
	t.methods.freeze()
	f := newFreezer()
	t.hosts = hostIndex{exact: map[string]uint32{}, wildcard: map[string]uint32{}}
	for _, host := range slices.Sorted(maps.Keys(c.trees)) {
		start := f.tree(c.trees[host])
		suffix, wild := strings.CutPrefix(host, "*")
		switch {
		case wild:
			t.hosts.wildcard[suffix] = start
			t.hosts.longest = max(t.hosts.longest, len(suffix))
		case host == "":
			t.hosts.any = start
		default:
			t.hosts.exact[host] = start
		}
	}
	t.nodes, t.detours = slices.Clone(f.nodes), slices.Clone(f.detours) // without the room they grew into
	t.takers, t.text = slices.Clone(f.takers), slices.Clone(f.text)
}
