// Package versus times the router of Sluice beside those of others, in one process and on the same
// requests. It is a module of its own, so that the rivals never enter the gateway's dependencies.
//
//	go test -bench Router .                                 every library on every set
//	SLUICE_RATIOS=print go test -count 1 -run Ratios -v .   medians of interleaved rounds, and their ratios
//	SLUICE_RATIOS=assert go test -count 1 -run Ratios -v .  the same, failing when a goal is missed
package versus

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
)

// route is one method and pattern, as Sluice writes patterns: "/users/{id}".
type route struct{ method, pattern string }

// request is one request, in both forms that the libraries want.
type request struct {
	method, path           string
	methodBytes, pathBytes []byte
}

// set is a list of routes and one request for each of them.
type set struct {
	name     string
	routes   []route
	requests []request
}

// sets are all sets, small ones first.
func sets() ([]set, error) {
	github, err := githubRoutes("../../router/testdata/github.txt")
	if err != nil {
		return nil, err
	}
	all := []set{{name: "github", routes: github}}
	for _, size := range []struct {
		name   string
		routes int
	}{{"generated100", 100}, {"generated10k", 10_000}, {"generated100k", 100_000}} {
		all = append(all, set{name: size.name, routes: generatedRoutes(size.routes)})
	}
	for i := range all {
		all[i].requests = requestsFor(all[i].routes)
	}
	return all, nil
}

func githubRoutes(file string) ([]route, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var routes []route
	for line := range strings.Lines(string(text)) {
		method, path, _ := strings.Cut(strings.TrimSpace(line), " ")
		routes = append(routes, route{method, path})
	}
	return routes, nil
}

// generatedRoutes makes n routes, twenty for each of n/20 services of a made-up company. The router's
// own benchmark makes the same.
func generatedRoutes(n int) []route {
	teams := [...]string{"billing", "catalog", "search", "shipping", "identity", "media", "reports", "pricing"}
	routes := make([]route, 0, n)
	add := func(pattern string, methods ...string) {
		for _, method := range methods {
			routes = append(routes, route{method, pattern})
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

// requestsFor makes one request for each route, with its captures filled in, in an order that no
// branch predictor knows. They lie in memory in that order: a gateway has just read the request it
// routes, so the request is no part of the cost.
func requestsFor(routes []route) []request {
	rng := rand.New(rand.NewPCG(1, 2))
	requests := make([]request, len(routes))
	var all []byte
	type span struct{ method, path, end int }
	spans := make([]span, len(routes))
	for i, r := range rng.Perm(len(routes)) {
		spans[i].method = len(all)
		all = append(all, routes[r].method...)
		spans[i].path = len(all)
		for segment := range strings.SplitSeq(routes[r].pattern[1:], "/") {
			all = append(all, '/')
			if strings.HasPrefix(segment, "{") {
				all = strconv.AppendInt(all, rng.Int64N(1_000_000), 10)
			} else {
				all = append(all, segment...)
			}
		}
		spans[i].end = len(all)
	}
	text := string(all)
	for i, s := range spans {
		requests[i] = request{
			method: text[s.method:s.path], path: text[s.path:s.end],
			methodBytes: all[s.method:s.path:s.path], pathBytes: all[s.path:s.end:s.end],
		}
	}
	return requests
}
