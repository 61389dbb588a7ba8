package router_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/router"
)

// githubRoutes reads the 203 routes of the GitHub API, version 3, that router benchmarks have in
// common.
func githubRoutes(tb testing.TB) []router.Route {
	tb.Helper()
	text, err := os.ReadFile("testdata/github.txt")
	if err != nil {
		tb.Fatal(err)
	}
	var routes []router.Route
	for line := range strings.Lines(string(text)) {
		method, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		routes = append(routes, router.Route{Name: line, Methods: []string{method}, Path: path})
	}
	return routes
}

// generatedRoutes makes n routes, twenty for each of n/20 services of a made-up company.
// bench/versus makes the same.
func generatedRoutes(n int) []router.Route {
	teams := [...]string{"billing", "catalog", "search", "shipping", "identity", "media", "reports", "pricing"}
	routes := make([]router.Route, 0, n)
	add := func(path string, methods ...string) {
		for _, method := range methods {
			routes = append(routes, router.Route{Name: method + " " + path, Methods: []string{method}, Path: path})
		}
	}
	for service := 0; len(routes) < n; service++ {
		base := fmt.Sprintf("/%s-%d", teams[service%len(teams)], service/len(teams))
		for _, resource := range [...]string{"/v1/orders", "/v2/customers"} {
			add(base+resource, "GET", "POST")
			add(base+resource+"-export", "GET")
			add(base+resource+"/{id}", "GET", "PUT", "DELETE")
			add(base+resource+"/{id}/items", "GET", "POST")
			add(base+resource+"/{id}/items/{item}", "GET", "DELETE")
		}
	}
	return routes[:n]
}

type request struct{ method, path []byte }

// requestsFor makes one request for each route, with its captures filled in, in an order that no
// branch predictor knows. They lie in memory in that order: a gateway has just read the request it
// routes, so the request is no part of the cost.
func requestsFor(routes []router.Route) []request {
	rng := rand.New(rand.NewPCG(1, 2))
	requests := make([]request, len(routes))
	var all []byte
	for i, r := range rng.Perm(len(routes)) {
		all = append(all, routes[r].Methods[0]...)
		path := len(all)
		for segment := range strings.SplitSeq(routes[r].Path[1:], "/") {
			all = append(all, '/')
			if strings.HasPrefix(segment, "{") {
				all = strconv.AppendInt(all, rng.Int64N(1_000_000), 10)
			} else {
				all = append(all, segment...)
			}
		}
		start := path - len(routes[r].Methods[0])
		requests[i] = request{all[start:path:path], all[path:len(all):len(all)]}
	}
	return requests
}

func BenchmarkMatch(b *testing.B) {
	sets := []struct {
		name   string
		routes []router.Route
	}{
		{"github203", githubRoutes(b)},
		{"generated100", generatedRoutes(100)},
		{"generated1k", generatedRoutes(1_000)},
		{"generated10k", generatedRoutes(10_000)},
		{"generated100k", generatedRoutes(100_000)},
	}
	for _, set := range sets {
		b.Run(set.name, func(b *testing.B) {
			table, err := router.Compile(set.routes)
			if err != nil {
				b.Fatal(err)
			}
			requests := requestsFor(set.routes)
			host := []byte("api.example.com")
			var c router.Captures
			b.ReportAllocs()
			b.ResetTimer()
			for i := 0; b.Loop(); i++ {
				if i == len(requests) {
					i = 0
				}
				if _, o := table.Match(requests[i].method, host, requests[i].path, &c); o != router.Found {
					b.Fatalf("%s %s: %v", requests[i].method, requests[i].path, o)
				}
			}
		})
	}
}

// What choosing among hosts adds to a match.
func BenchmarkMatchHost(b *testing.B) {
	table := compile(b,
		router.Route{Path: "/users/{id}", Hosts: []string{"api.example.com"}},
		router.Route{Path: "/users/{id}", Hosts: []string{"*.example.com"}},
		router.Route{Path: "/users/{id}"},
	)
	method, path := []byte("GET"), []byte("/users/42")
	for _, host := range []string{"api.example.com", "API.example.com:8443", "a.b.example.com", "other.org"} {
		b.Run(host, func(b *testing.B) {
			host := []byte(host)
			var c router.Captures
			b.ReportAllocs()
			for b.Loop() {
				if _, o := table.Match(method, host, path, &c); o != router.Found {
					b.Fatal(o)
				}
			}
		})
	}
}
