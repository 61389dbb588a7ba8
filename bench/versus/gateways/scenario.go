package main

import (
	"fmt"
	"strings"
)

// scenario is what some gateways do side by side, and how it is measured.
type scenario struct {
	name        string
	connections int
	entries     []entry // in the order of the table; ratios are against the first
	method      method
	needs       string // lines for Sluice's [upstream] that its binary has to accept; else the scenario is left out
	missing     string // why nothing can be measured at all; empty: it can
}

func (s scenario) label() string { return s.name }

// entry is a gateway in a scenario.
type entry struct {
	name    string // in tables: the rival's, unless it is there twice
	rival   string // a rival's name, or direct
	traffic traffic
	cores   string // that it may use; empty: gatewayCore
}

// direct is nobody: the origin is asked itself. It shows what the load generator and the machine add.
const direct = "direct"

// traffic is what is asked, and what is asked of the gateway for it.
type traffic struct {
	path     string
	headers  []string // "Name: value"
	body     int      // bytes of a POST; 0: GET
	status   int      // that every answer has
	features features
	script   string // for wrk, in place of one fixed request
	warm     int    // requests to be made before anything is measured
}

// features is what a gateway does beside forwarding.
type features struct {
	keys    bool // an API key is looked up, and the client's name is sent upstream
	jwt     bool // the same by a token, RS256
	limit   int  // requests a second of a client; 0: no limit
	clients bool // the limit counts by X-Client, and nothing comes back to a bucket while it is measured
	strip   bool // the first segment of the path is removed
	log     bool // a line for each request, to a file
	metrics bool
	traces  bool // of one request in a hundred, sent to the upstream, which takes anything
	routes  int  // that are there beside the one that is asked for
	tls     bool // 1.3
	upgrade bool // connections become tunnels
	lanes   int  // requests in flight on a connection to the upstream; 0: one
}

// apiKey is known to every gateway. It has the form of Sluice's keys, which are imported.
const apiKey = "bench-0123456789abcdef0123456789abcdef"

// client is whom the key and the token name.
const client = "bench"

const smallPath = "/api/users/42"

func bareTraffic() traffic { return traffic{path: smallPath, status: 200} }

func (t traffic) with(f features) traffic {
	t.features = f
	return t
}

func fullTraffic() traffic {
	return traffic{path: smallPath, headers: []string{"X-API-Key: " + apiKey}, status: 200,
		features: features{keys: true, limit: 1_000_000, strip: true, log: true, metrics: true}}
}

// each gives every rival the same traffic.
func each(t traffic, rivals ...string) (all []entry) {
	for _, r := range rivals {
		all = append(all, entry{name: r, rival: r, traffic: t})
	}
	return all
}

// nginxBare is what others are held against: nginx, and nothing on.
const nginxBare = "nginx bare"

func besideBare(entries []entry) []entry {
	return append(entries, entry{name: nginxBare, rival: "nginx", traffic: bareTraffic()})
}

func allScenarios(token string) []scenario {
	serious := []string{"sluice", "nginx", "haproxy"}
	all := append(serious[:3:3], "caddy", "traefik")
	full := fullTraffic()
	refused := traffic{path: smallPath, headers: full.headers, status: 429, features: features{keys: true, limit: 1}}
	s := []scenario{
		{name: "bare", connections: 64, entries: each(bareTraffic(), append(all[:5:5], "fasthttp")...)},
		{name: "full", connections: 64, entries: besideBare(each(full, all...))},
		{name: "jwt", connections: 64, entries: besideBare(each(tokenTraffic(token), "sluice", "haproxy"))},
		{name: "refused", connections: 64, entries: each(refused, all...)},
		{name: "routes-10k", connections: 64, entries: each(bareTraffic().with(features{routes: manyRoutes}), serious...)},
		manyClients(),
		{name: "post-4KiB", connections: 64, entries: each(traffic{path: smallPath, body: 4 << 10, status: 200}, serious...)},
		telemetryCost(),
	}
	for _, c := range []int{16, 256, 1024} {
		s = append(s, scenario{name: fmt.Sprintf("bare-%d", c), connections: c, entries: each(bareTraffic(), serious...)})
	}
	s = append(s, scenario{name: "full-256", connections: 256, entries: besideBare(each(full, serious...))})
	s = append(s, lanes(64), lanes(256))
	for _, b := range []struct {
		name string
		size int
	}{{"1KiB", 1 << 10}, {"64KiB", 64 << 10}, {"1MiB", 1 << 20}} {
		t := traffic{path: fmt.Sprintf("/bytes/%d", b.size), status: 200}
		s = append(s, scenario{name: "body-" + b.name, connections: 64, entries: each(t, serious...)})
	}
	s = append(s, overTLS(all)...)
	upgraded := traffic{path: "/api/echo", status: 101, features: features{upgrade: true}}
	return append(s,
		scenario{name: "websocket", connections: 64, method: webSockets, entries: each(upgraded, all...)},
		scenario{name: "http2", missing: "Sluice does not speak HTTP/2 yet"},
		twoCores(),
		latency("latency-bare", bareTraffic()), latency("latency-full", full),
		scenario{name: "idle", connections: 8000, method: idleConnections, entries: besideBare(each(full, serious...))},
	)
}

// tokenTraffic is the full one with a token in place of the key.
func tokenTraffic(token string) traffic {
	t := fullTraffic()
	t.headers = []string{"Authorization: Bearer " + token}
	t.features.keys, t.features.jwt = false, true
	return t
}

// telemetryCost is what telling costs: Sluice without a log against Sluice with everything on.
func telemetryCost() scenario {
	told := bareTraffic().with(features{log: true, metrics: true, traces: true})
	return scenario{name: "telemetry", connections: 64, entries: []entry{
		{name: "sluice", rival: "sluice", traffic: told}, {name: "sluice quiet", rival: "sluice", traffic: bareTraffic()},
	}}
}

func overTLS(rivals []string) []scenario {
	kept := bareTraffic().with(features{tls: true})
	once := kept
	once.headers = []string{"Connection: close"}
	return []scenario{
		{name: "tls", connections: 64, entries: each(kept, rivals...)},
		{name: "tls-handshakes", connections: 64, entries: each(once, rivals...)},
	}
}

// lanes is many clients over few connections to the upstream.
func lanes(connections int) scenario {
	t := fullTraffic()
	t.features.lanes = max(64, connections/2)
	return scenario{name: fmt.Sprintf("lanes-%d", connections), connections: connections, needs: laneLines(t.features),
		entries: besideBare([]entry{{name: "sluice", rival: "sluice", traffic: t}, {name: "sluice without lanes", rival: "sluice", traffic: fullTraffic()}})}
}

// twoCores compares what a second core brings. The load and the upstream stay on that second core, and share it.
func twoCores() scenario {
	var entries []entry
	for _, r := range []string{"sluice", "nginx"} {
		entries = append(entries, entry{name: r, rival: r, traffic: fullTraffic()},
			entry{name: r + " on two", rival: r, traffic: fullTraffic(), cores: gatewayCore + "," + loadCore})
	}
	return scenario{name: "two-cores", connections: 256, entries: entries}
}

// latency is measured at a rate that no serious rival is troubled by.
func latency(name string, t traffic) scenario {
	entries := each(t, "sluice", "nginx", "haproxy", "caddy", "traefik")
	if t.features != (features{}) {
		entries = besideBare(entries)
	}
	return scenario{name: name, connections: 64, method: fixedRate,
		entries: append(entries, entry{name: direct, rival: direct, traffic: bareTraffic()})}
}

const (
	manyRoutes = 10_000
	allClients = 1_000_000
)

// manyClients asks for all of many routes on behalf of many clients, and for one route on behalf of one.
func manyClients() scenario {
	t := func(routes, clients int) traffic {
		t := fullTraffic()
		t.features.clients, t.features.strip = true, false
		t.features.routes, t.script = max(routes, 1), clientScript(routes, clients)
		t.path = "/s0/v1/things0/7"
		t.headers = append(t.headers, "X-Client: 0")
		if clients > 1 {
			t.warm = clients
		}
		return t
	}
	return scenario{name: "clients-1M", connections: 64, entries: []entry{
		{name: "sluice", rival: "sluice", traffic: t(manyRoutes, allClients)},
		{name: "sluice with one", rival: "sluice", traffic: t(1, 1)},
	}}
}

// clientScript makes wrk name another client and another route in each request: the clients in a row, again and
// again, the routes at a stride.
func clientScript(routes, clients int) string {
	return fmt.Sprintf(`local n = START
request = function()
  n = n + 1
  local route = (n * 7919) %% %d
  return "GET /s" .. (route %% 100) .. "/v1/things" .. route .. "/7 HTTP/1.1\r\nHost: " .. wrk.headers["Host"] .. "\r\nX-API-Key: %s\r\nX-Client: " .. (n %% %d) .. "\r\n\r\n"
end
`, routes, apiKey, clients)
}

// wrkScript is the traffic in wrk's words; without one wrk sends a GET.
func (t traffic) wrkScript() string {
	if t.body == 0 {
		return t.script
	}
	var b strings.Builder
	fmt.Fprintf(&b, "wrk.method = \"POST\"\nwrk.body = string.rep(\"x\", %d)\n", t.body)
	return b.String()
}
