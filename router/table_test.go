package router_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/router"
)

func TestCompileRefusesBadRoutes(t *testing.T) {
	tests := []struct {
		route router.Route
		field string
		want  string // in the message
	}{
		// Paths.
		{router.Route{Path: ""}, "path", `does not start with "/"`},
		{router.Route{Path: "users"}, "path", `does not start with "/"`},
		{router.Route{Path: "/a/*/b"}, "path", `must be the whole last segment`},
		{router.Route{Path: "/a*"}, "path", `must be the whole last segment`},
		{router.Route{Path: "/v{n}/x"}, "path", `must be a whole segment`},
		{router.Route{Path: "/{f}.json"}, "path", `must be a whole segment`},
		{router.Route{Path: "/{a"}, "path", `must be a whole segment`},
		{router.Route{Path: "/{a}{b}"}, "path", `must be a whole segment`},
		{router.Route{Path: "/{}"}, "path", `has no name`},
		{router.Route{Path: "/{1a}"}, "path", `letters, digits and _`},
		{router.Route{Path: "/{a-b}"}, "path", `letters, digits and _`},
		{router.Route{Path: "/{a}/{a}"}, "path", `two captures named "a"`},
		{router.Route{Path: manyCaptures(17)}, "path", `17 captures, more than 16`},
		{router.Route{Path: "/" + strings.Repeat("a", 9000)}, "path", `longer than 8191 bytes`},

		// Paths that no normalised request has.
		{router.Route{Path: "/a//b"}, "path", `unreachable`},
		{router.Route{Path: "//*"}, "path", `unreachable`},
		{router.Route{Path: "/a/../b"}, "path", `unreachable`},
		{router.Route{Path: "/a/..;x"}, "path", `unreachable`},
		{router.Route{Path: "/a%2fb"}, "path", `which makes "/a%2Fb" of "/a%2fb"`}, // lower-case escape
		{router.Route{Path: "/%41"}, "path", `which makes "/A" of "/%41"`},         // needless escape
		{router.Route{Path: "/a b"}, "path", `which makes "/a%20b" of "/a b"`},     // missing escape
		{router.Route{Path: "/a?b"}, "path", `unreachable`},                        // a query is no path

		// Hosts.
		{router.Route{Path: "/", Hosts: []string{""}}, "hosts", `is empty`},
		{router.Route{Path: "/", Hosts: []string{"a..b"}}, "hosts", `is empty`},
		{router.Route{Path: "/", Hosts: []string{"a.b."}}, "hosts", `is empty`},
		{router.Route{Path: "/", Hosts: []string{"a.b:80"}}, "hosts", `has no port`},
		{router.Route{Path: "/", Hosts: []string{"*"}}, "hosts", `leave hosts empty`},
		{router.Route{Path: "/", Hosts: []string{"a.*.b"}}, "hosts", `whole first label`},
		{router.Route{Path: "/", Hosts: []string{"*a.b"}}, "hosts", `whole first label`},
		{router.Route{Path: "/", Hosts: []string{"-a.b"}}, "hosts", `hyphen`},
		{router.Route{Path: "/", Hosts: []string{"ä.b"}}, "hosts", `punycode`},
		{router.Route{Path: "/", Hosts: []string{"\u212A.b"}}, "hosts", `punycode`}, // a Kelvin sign is no k
		{router.Route{Path: "/", Hosts: []string{"a_b/c"}}, "hosts", `may not hold`},
		{router.Route{Path: "/", Hosts: []string{"[::01]"}}, "hosts", `shortest form`},
		{router.Route{Path: "/", Hosts: []string{"[1.2.3.4]"}}, "hosts", `IPv6`},
		{router.Route{Path: "/", Hosts: []string{strings.Repeat("a", 64) + ".b"}}, "hosts", `longer than 63 bytes`},
		{router.Route{Path: "/", Hosts: []string{strings.Repeat("a.", 130) + "b"}}, "hosts", `longer than 253 bytes`},
		{router.Route{Path: "/", Hosts: []string{"a.b", "A.b"}}, "hosts", `given twice`},

		// Methods.
		{router.Route{Path: "/", Methods: []string{"GET", "GET"}}, "methods", `given twice`},
		{router.Route{Path: "/", Methods: []string{"CONNECT"}}, "methods", `always refused`},
		{router.Route{Path: "/", Methods: []string{"TRACE"}}, "methods", `always refused`},
		{router.Route{Path: "/", Methods: []string{""}}, "methods", `not a token`},
		{router.Route{Path: "/", Methods: []string{"GET POST"}}, "methods", `not a token`},
		{router.Route{Path: "/", Methods: manyMethods(25)}, "methods", `room for 24`},
	}
	for _, test := range tests {
		test.route.Name = "bad"
		_, err := router.Compile([]router.Route{{Name: "good", Path: "/good"}, test.route})
		faults, _ := err.(router.Errors)
		if len(faults) != 1 {
			t.Errorf("%+v: %v, want one fault", test.route, err)
			continue
		}
		f := faults[0]
		if f.Route != 1 || f.Other != -1 || f.Field != test.field || !strings.Contains(f.Error(), test.want) || !strings.Contains(f.Error(), `route "bad"`) {
			t.Errorf("%+v: %+v, want field %s and %q", test.route, f, test.field, test.want)
		}
	}
}

func manyCaptures(n int) (path string) {
	for i := range n {
		path += fmt.Sprintf("/{c%d}", i)
	}
	return path
}

func manyMethods(n int) (methods []string) {
	for i := range n {
		methods = append(methods, fmt.Sprintf("M%d", i))
	}
	return methods
}

func TestCompileFindsCollisions(t *testing.T) {
	get, post := []string{"GET"}, []string{"POST"}
	tests := []struct {
		why    string
		routes []router.Route
		route  int // at fault, -1 if none
		other  int
		want   string
	}{
		{"same path, any method", []router.Route{{Path: "/a"}, {Path: "/a"}}, 1, 0, "both take any method of /a"},
		{"same shape, other names", []router.Route{{Path: "/{x}/b"}, {Path: "/{y}/b"}}, 1, 0, "conflicts"},
		{"methods meet", []router.Route{{Path: "/a", Methods: []string{"GET", "PUT"}}, {Path: "/a", Methods: []string{"PUT", "POST"}}}, 1, 0, "both take PUT /a"},
		{"hosts meet, in any case", []router.Route{{Path: "/a", Hosts: []string{"x.y", "h.i"}}, {Path: "/a", Hosts: []string{"H.I"}}}, 1, 0, "h.i/a"},
		{"methods differ", []router.Route{{Path: "/a", Methods: get}, {Path: "/a", Methods: post}}, -1, 0, ""},
		{"a named method beats any", []router.Route{{Path: "/a"}, {Path: "/a", Methods: post}}, -1, 0, ""},
		{"a host beats any host", []router.Route{{Path: "/a"}, {Path: "/a", Hosts: []string{"h.i"}}}, -1, 0, ""},
		{"a name beats a wildcard", []router.Route{{Path: "/a", Hosts: []string{"*.i"}}, {Path: "/a", Hosts: []string{"h.i"}}}, -1, 0, ""},
		{"a slash makes another path", []router.Route{{Path: "/a"}, {Path: "/a/"}, {Path: "/a/*"}}, -1, 0, ""},

		{"nothing is left of /*", []router.Route{{Path: "/*"}, {Path: "/"}, {Path: "/{x}/*"}}, 0, 2, "unreachable"},
		{"nor of /a/*", []router.Route{{Path: "/a"}, {Path: "/a/"}, {Path: "/a/{x}/*"}, {Path: "/a/*"}}, 3, 2, "unreachable"},
		{"/a is left", []router.Route{{Path: "/a/"}, {Path: "/a/{x}/*"}, {Path: "/a/*"}}, -1, 0, ""},
		{"/a/ is left", []router.Route{{Path: "/a"}, {Path: "/a/{x}/*"}, {Path: "/a/*"}}, -1, 0, ""},
		{"/a/x/y is left", []router.Route{{Path: "/a"}, {Path: "/a/"}, {Path: "/a/{x}"}, {Path: "/a/{x}/"}, {Path: "/a/*"}}, -1, 0, ""},
		{"POST is left", []router.Route{{Path: "/", Methods: get}, {Path: "/{x}/*"}, {Path: "/*", Methods: []string{"GET", "POST"}}}, -1, 0, ""},
		{"GET is not left", []router.Route{{Path: "/", Methods: get}, {Path: "/{x}/*"}, {Path: "/*", Methods: get}}, 2, 1, "unreachable"},
		{"methods no one names are left", []router.Route{{Path: "/", Methods: get}, {Path: "/{x}/*"}, {Path: "/*"}}, -1, 0, ""},
		{"another host is left", []router.Route{{Path: "/", Hosts: []string{"h.i"}}, {Path: "/{x}/*", Hosts: []string{"h.i"}}, {Path: "/*", Hosts: []string{"h.i", "k.i"}}}, -1, 0, ""},
	}
	for _, test := range tests {
		for i := range test.routes {
			test.routes[i].Name = fmt.Sprintf("r%d", i)
		}
		_, err := router.Compile(test.routes)
		if test.route < 0 {
			if err != nil {
				t.Errorf("%s: %v", test.why, err)
			}
			continue
		}
		faults, _ := err.(router.Errors)
		if len(faults) != 1 || faults[0].Route != test.route || faults[0].Other != test.other {
			t.Errorf("%s: %v, want one fault of route %d with %d", test.why, err, test.route, test.other)
			continue
		}
		for _, want := range []string{test.want, fmt.Sprintf(`route "r%d"`, test.route), fmt.Sprintf(`route "r%d"`, test.other)} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", test.why, err, want)
			}
		}
	}
}

// All faults are told at once, in the order of the routes.
func TestCompileListsEveryFault(t *testing.T) {
	_, err := router.Compile([]router.Route{
		{Name: "first", Path: "/a"},
		{Name: "three faults", Path: "b", Hosts: []string{"*"}, Methods: []string{"TRACE"}},
		{Name: "same", Path: "/a"},
		{Path: "/{}"},
		{Name: "slash", Path: "/"},
		{Name: "below", Path: "/{x}/*"},
		{Name: "hidden", Path: "/*"},
	})
	var got []string
	for _, f := range err.(router.Errors) {
		got = append(got, fmt.Sprintf("%d %d %s", f.Route, f.Other, f.Field))
	}
	want := "1 -1 path, 1 -1 hosts, 1 -1 methods, 2 0 path, 3 -1 path, 6 5 path"
	if strings.Join(got, ", ") != want {
		t.Errorf("faults %v, want %v", got, want)
	}
	if lines := strings.Count(err.Error(), "\n") + 1; lines != 6 {
		t.Errorf("%d lines in %q", lines, err)
	}
}

func TestCompileCopiesRoutes(t *testing.T) {
	routes := []router.Route{{Name: "a", Path: "/{x}/{y}", Methods: []string{"GET"}}}
	table, err := router.Compile(routes)
	if err != nil {
		t.Fatal(err)
	}
	routes[0].Methods[0] = "PUT"
	routes[0] = router.Route{Path: "/other"}
	if got := table.Explain([]byte("GET"), nil, []byte("/1/2")); !got[0].Matched {
		t.Errorf("the table changed with the caller's slice: %+v", got)
	}
	if got := fmt.Sprint(table.Params(0)); got != "[x y]" {
		t.Errorf("Params: %s", got)
	}
}
