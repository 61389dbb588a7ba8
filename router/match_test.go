package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/router"
)

// compile makes a table of routes that must be good.
func compile(tb testing.TB, routes ...router.Route) *router.Table {
	tb.Helper()
	table, err := router.Compile(routes)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

func TestMatchOrder(t *testing.T) {
	routes := []router.Route{
		{Path: "/*"},
		{Path: "/users"},
		{Path: "/users/*"},
		{Path: "/users/me"},
		{Path: "/users/{id}"},
		{Path: "/users/{id}/posts"},
		{Path: "/users/me/*"},
		{Path: "/{kind}/42/posts/{post}"},
		{Path: "/files/", Methods: []string{"GET"}},
		{Path: "/files/{name}", Methods: []string{"GET", "PUT"}},
		{Path: "/files/report", Methods: []string{"GET"}},
		{Path: "/files/report", Methods: []string{"DELETE"}},
		{Path: "/only/post", Methods: []string{"POST"}},
	}
	table := compile(t, routes...)
	tests := []struct {
		why, method, path, want string
	}{
		{"exact", "GET", "/users", "/users"},
		{"a slash more is another path", "GET", "/users/", "/users/*"},
		{"literal before capture", "GET", "/users/me", "/users/me"},
		{"capture before *", "GET", "/users/42", "/users/{id}"},
		{"segments are whole", "GET", "/usersx", "/*"},
		{"the first difference decides", "GET", "/users/me/posts", "/users/me/*"},
		{"longest pattern, by captures", "GET", "/users/42/posts", "/users/{id}/posts"},
		{"back from a dead end to *", "GET", "/users/42/posts/7", "/users/*"},
		{"back from a dead end to a capture", "GET", "/groups/42/posts/7", "/{kind}/42/posts/{post}"},
		{"* takes the root", "GET", "/", "/*"},
		{"a capture is not empty", "PUT", "/files/", "/*"},
		{"the trailing slash alone", "GET", "/files/", "/files/"},
		{"method decides among equals", "DELETE", "/files/report", "/files/report"},
		{"method falls through to the next best", "PUT", "/files/report", "/files/{name}"},
		{"down to the last", "PATCH", "/files/report", "/*"},
		{"methods are case-sensitive", "post", "/only/post", "/*"},
		{"GET does not imply HEAD", "HEAD", "/files/report", "/*"},
	}
	var c router.Captures
	for _, test := range tests {
		route, o := table.Match([]byte(test.method), nil, []byte(test.path), &c)
		if o != router.Found || routes[route].Path != test.want {
			t.Errorf("%s: %s %s gives route %d, outcome %d; want %s", test.why, test.method, test.path, route, o, test.want)
		}
	}
}

func TestMatchHosts(t *testing.T) {
	table := compile(t,
		router.Route{Name: "any", Path: "/any"},
		router.Route{Name: "any post", Path: "/a", Methods: []string{"POST"}},
		router.Route{Name: "org", Path: "/a", Hosts: []string{"*.example.org"}},
		router.Route{Name: "deep", Path: "/a", Hosts: []string{"*.eu.example.org"}},
		router.Route{Name: "exact", Path: "/a", Hosts: []string{"API.example.org"}, Methods: []string{"GET"}},
		router.Route{Name: "ip", Path: "/a", Hosts: []string{"[::1]", "10.0.0.1"}},
	)
	names := []string{"any", "any post", "org", "deep", "exact", "ip"}
	tests := []struct {
		why, method, host, path, want string
	}{
		{"the name itself", "GET", "api.example.org", "/a", "exact"},
		{"in any case, with a port", "GET", "Api.EXAMPLE.org:8443", "/a", "exact"},
		{"with a trailing dot", "GET", "api.example.org.", "/a", "exact"},
		{"with both", "GET", "api.example.org.:80", "/a", "exact"},
		{"method falls through to the wildcard", "POST", "api.example.org", "/a", "org"},
		{"path falls through to any host", "GET", "api.example.org", "/any", "any"},
		{"a wildcard takes one label", "GET", "x.example.org", "/a", "org"},
		{"and more", "GET", "x.y.example.org", "/a", "org"},
		{"the longest suffix first", "GET", "x.eu.example.org", "/a", "deep"},
		{"which is not the name itself", "GET", "eu.example.org", "/a", "org"},
		{"a wildcard wants a label", "POST", "example.org", "/a", "any post"},
		{"and not an empty one", "POST", ".example.org", "/a", "any post"},
		{"labels are whole", "POST", "badexample.org", "/a", "any post"},
		{"an IPv6 address", "GET", "[::1]", "/a", "ip"},
		{"with a port", "GET", "[::1]:80", "/a", "ip"},
		{"an IPv4 address", "GET", "10.0.0.1:80", "/a", "ip"},
		{"no host", "POST", "", "/a", "any post"},
		{"an open bracket is no host", "POST", "[::1", "/a", "any post"},
		{"nor is what is too long for one", "POST", strings.Repeat("a", 300) + ".example.org", "/a", "any post"},
	}
	var c router.Captures
	for _, test := range tests {
		route, o := table.Match([]byte(test.method), []byte(test.host), []byte(test.path), &c)
		if o != router.Found || names[route] != test.want {
			t.Errorf("%s: %s %s%s gives route %d, outcome %d; want %q", test.why, test.method, test.host, test.path, route, o, test.want)
		}
	}
}

func TestMatchWithoutRoute(t *testing.T) {
	table := compile(t,
		router.Route{Path: "/a", Methods: []string{"POST", "GET"}},
		router.Route{Path: "/{x}", Methods: []string{"PURGE"}},
		router.Route{Path: "/a", Methods: []string{"DELETE"}, Hosts: []string{"h.test"}},
		router.Route{Path: "/free/{x}"},
	)
	tests := []struct {
		why, method, host, path string
		want                    router.Outcome
		allow                   string
	}{
		{"another path", "GET", "", "/a/b", router.NotFound, ""},
		{"no path", "GET", "", "", router.NotFound, ""},
		{"not a path", "GET", "", "a", router.NotFound, ""},
		{"all patterns count for Allow, sorted", "PUT", "", "/a", router.MethodNotAllowed, "GET, POST, PURGE"},
		{"and all hosts", "PUT", "h.test", "/a", router.MethodNotAllowed, "DELETE, GET, POST, PURGE"},
		{"a method of another host", "DELETE", "", "/a", router.MethodNotAllowed, "GET, POST, PURGE"},
		{"any method", "BREW", "", "/free/x", router.Found, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PURGE, PUT"},
	}
	for _, test := range tests {
		var c router.Captures
		route, o := table.Match([]byte(test.method), []byte(test.host), []byte(test.path), &c)
		if o != test.want || (route >= 0) != (o == router.Found) || o != router.Found && c.Len() != 0 {
			t.Errorf("%s: route %d, outcome %d, %d captures; want outcome %d", test.why, route, o, c.Len(), test.want)
		}
		if got := table.AppendAllow([]byte("Allow: "), []byte(test.host), []byte(test.path)); string(got) != "Allow: "+test.allow {
			t.Errorf("%s: %q, want %q", test.why, got, test.allow)
		}
	}
}

func TestEmptyTableMatchesNothing(t *testing.T) {
	var c router.Captures
	if route, o := compile(t).Match([]byte("GET"), []byte("h"), []byte("/"), &c); route != -1 || o != router.NotFound {
		t.Errorf("route %d, outcome %d", route, o)
	}
}

func TestCaptures(t *testing.T) {
	table := compile(t,
		router.Route{Path: "/users/*"},
		router.Route{Path: "/{a}/x/{b}"},
		router.Route{Path: "/{a}/{b}/*", Methods: []string{"GET"}},
		router.Route{Path: manyCaptures(16)},
		router.Route{Path: "/exact"},
	)
	tests := []struct {
		why, path, want string
	}{
		{"the rest", "/users/42/x", `[] "/42/x"`},
		{"only a slash", "/users/", `[] "/"`},
		{"nothing", "/users", `[] "/"`},
		{"captures", "/long-enough-for-two-words/x/2", `["long-enough-for-two-words" "2"] ""`},
		{"captures of a dead end are gone", "/1/x/2/3", `["1" "x"] "/2/3"`},
		{"sixteen", "/1/2/3/4/5/6/7/8/9/a/b/c/d/e/f/g", `["1" "2" "3" "4" "5" "6" "7" "8" "9" "a" "b" "c" "d" "e" "f" "g"] ""`},
		{"none", "/exact", `[] ""`},
	}
	var c router.Captures
	for _, test := range tests {
		path := []byte(test.path)
		if _, o := table.Match([]byte("GET"), nil, path, &c); o != router.Found {
			t.Errorf("%s: outcome %d", test.why, o)
		}
		values := make([]string, c.Len())
		for i := range values {
			values[i] = string(c.Value(path, i))
		}
		if got := fmt.Sprintf("%q %q", values, c.Rest(path)); got != test.want {
			t.Errorf("%s: %s gives %s, want %s", test.why, test.path, got, test.want)
		}
	}
}

// A pattern may be deep and still fall back to the first segment.
func TestMatchBacktracksFromAnyDepth(t *testing.T) {
	deep := strings.Repeat("/a", 2000)
	table := compile(t, router.Route{Path: "/{x}/*"}, router.Route{Path: deep})
	var c router.Captures
	if route, _ := table.Match([]byte("GET"), nil, []byte(deep), &c); route != 1 {
		t.Errorf("route %d", route)
	}
	route, _ := table.Match([]byte("GET"), nil, []byte(deep+"b"), &c)
	if rest := c.Rest([]byte(deep + "b")); route != 0 || len(rest) != len(deep)-1 {
		t.Errorf("route %d, rest of %d bytes", route, len(rest))
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	table := compile(t,
		router.Route{Path: "/*", Hosts: []string{"*.example.org", "api.example.org"}, Methods: []string{"GET"}},
		router.Route{Path: "/{a}/x/{b}", Methods: []string{"PUT", "PROPFIND"}},
	)
	tests := []struct{ why, method, host, path string }{
		{"exact host, to be lowered", "GET", "API.example.org:443", "/1/x/2"},
		{"fall back to any host", "PROPFIND", "a.b.example.org.", "/1/x/2"},
		{"method not allowed", "POST", "a.example.org", "/1/x/2"},
		{"not found", "GET", "", "/1"},
	}
	var c router.Captures
	allow := make([]byte, 0, 64)
	for _, test := range tests {
		method, host, path := []byte(test.method), []byte(test.host), []byte(test.path)
		if n := testing.AllocsPerRun(100, func() {
			table.Match(method, host, path, &c)
			table.AppendAllow(allow, host, path)
		}); n != 0 {
			t.Errorf("%s: %v allocations", test.why, n)
		}
	}
}
