package main

import (
	"fmt"
	"strings"
)

// scenario is one kind of traffic and what is asked of the gateway for it.
type scenario struct {
	name        string
	connections int
	path        string
	headers     []string // "Name: value"
	body        int      // bytes of a POST; 0: GET
	status      int      // that every answer has
	length      int      // of every answer's body; -1: as the gateway likes
	features    features
	quiet       bool // measured beside Sluice without any of the features, not beside others
}

func (s scenario) label() string { return s.name }

// features is what a gateway does beside forwarding.
type features struct {
	keys    bool // an API key is looked up, and the client's name is sent upstream
	limit   int  // requests a second of a client; 0: no limit
	strip   bool // the first segment of the path is removed
	log     bool // a line for each request, to a file
	metrics bool
	traces  bool // of one request in a hundred, sent to the upstream, which takes anything
	routes  int  // that are there beside the one that is asked for
}

// apiKey is known to every gateway. It has the form of Sluice's keys, which are imported.
const apiKey = "bench-0123456789abcdef0123456789abcdef"

func allScenarios() []scenario {
	full := features{keys: true, limit: 1_000_000, strip: true, log: true, metrics: true}
	keyed := []string{"X-API-Key: " + apiKey}
	refused := features{keys: true, limit: 1}
	s := []scenario{
		{name: "bare", connections: 64, path: "/api/users/42", status: 200, length: len(smallBody)},
		{name: "full", connections: 64, path: "/api/users/42", headers: keyed, status: 200, length: len(smallBody), features: full},
		{name: "refused", connections: 64, path: "/api/users/42", headers: keyed, status: 429, length: -1, features: refused},
		{name: "routes-10k", connections: 64, path: "/api/users/42", status: 200, length: len(smallBody), features: features{routes: 10_000}},
		{name: "post-4KiB", connections: 64, path: "/api/users/42", body: 4 << 10, status: 200, length: len(smallBody)},
	}
	// What telling costs: Sluice without a log against Sluice with everything on.
	s = append(s, scenario{name: "telemetry", connections: 64, path: "/api/users/42", status: 200, length: len(smallBody),
		features: features{log: true, metrics: true, traces: true}, quiet: true})
	for _, c := range []int{16, 256, 1024} {
		s = append(s, scenario{name: fmt.Sprintf("bare-%d", c), connections: c, path: "/api/users/42", status: 200, length: len(smallBody)})
	}
	for _, b := range []struct {
		name string
		size int
	}{{"1KiB", 1 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}} {
		s = append(s, scenario{name: "body-" + b.name, connections: 64, path: fmt.Sprintf("/bytes/%d", b.size), status: 200, length: b.size})
	}
	return s
}

// script is the request in wrk's words; a script is needed only for bodies and for counting statuses.
func (s scenario) script() string {
	var b strings.Builder
	if s.body > 0 {
		fmt.Fprintf(&b, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", %d)\n", s.body)
	}
	return b.String()
}
