package config

import (
	"net/url"
	"time"
)

// Upstream is [upstream.NAME]: a group of servers that answer alike.
type Upstream struct {
	Targets            []Target      `toml:"targets" required:"true" doc:"the servers: \"http://HOST:PORT\", \"https://HOST:PORT\", \"unix:/PATH\" or { url = …, weight = … }"`
	Balance            string        `toml:"balance" enum:"p2c|round_robin|least_conn|hash" doc:"how a target is picked; p2c: of two at random, the one with fewer requests in flight"`
	HashOn             string        `toml:"hash_on" enum:"client|ip|header:|cookie:|path" doc:"what balance = \"hash\" hashes"`
	Host               string        `toml:"host" kind:"hostport" doc:"Host sent upstream; empty: the client's"`
	MaxIdleConnections int           `toml:"max_idle_connections" min:"0" doc:"idle connections kept per target; 0: every request dials"`
	MaxInFlight        int           `toml:"max_in_flight" min:"0" doc:"requests in flight on each target at most, others wait; 0: no limit"`
	Resolve            time.Duration `toml:"resolve" min:"1s" doc:"how often DNS names are looked up again"`
	Protocol           string        `toml:"protocol" enum:"http1|h2|h2c" doc:"what is spoken to the targets; h2c: HTTP/2 without TLS"`
	Pipeline           int           `toml:"pipeline" min:"0" doc:"most GET, HEAD and OPTIONS requests in flight on one connection; 0: connections are not shared"`
	Timeouts           Timeouts      `toml:"timeouts" doc:"how long each step may take"`
	Retry              Retry         `toml:"retry" doc:"idempotent requests, or such as were not sent yet, tried on another target"`
	Health             *Health       `toml:"health" doc:"present: every target is probed"`
	Breaker            *Breaker      `toml:"breaker" doc:"when a failing target is left alone; on by default"`
	TLS                UpstreamTLS   `toml:"tls" doc:"for https:// targets"`
}

// Target is one server of an upstream; in the file a URL, or a table when it has a weight.
type Target struct {
	URL    *url.URL `toml:"url" required:"true" doc:"http:// or https://, host and port, no path; or unix:/PATH"`
	Weight int      `toml:"weight" min:"1" max:"1000" doc:"its share of the requests, against the other targets' weights"`
}

// Timeouts is [upstream.NAME.timeouts]: how long each step of a forward may take.
type Timeouts struct {
	Connect  time.Duration `toml:"connect" min:"1ms" doc:"until the connection stands, TLS included"`
	Response time.Duration `toml:"response" min:"1ms" doc:"from the request's end to the response's head"`
	Idle     time.Duration `toml:"idle" min:"1ms" doc:"longest pause in a response body or an upgraded stream"`
}

// Retry is [upstream.NAME.retry]: how often a failed forward is tried again; never after response bytes.
type Retry struct {
	Attempts int     `toml:"attempts" min:"1" max:"10" doc:"tries in all; 1: no retry"`
	Budget   float64 `toml:"budget" min:"0" max:"1" doc:"most retries at once, as a share of the requests in flight, but at least 3"`
}

// Health is [upstream.NAME.health]: active probes of every target.
type Health struct {
	Path      string        `toml:"path" kind:"route-path" doc:"what is fetched"`
	Interval  time.Duration `toml:"interval" min:"10ms" doc:"time between two probes of a target"`
	Timeout   time.Duration `toml:"timeout" min:"1ms" doc:"a probe that takes longer has failed"`
	Healthy   int           `toml:"healthy" min:"1" doc:"consecutive passes to come back"`
	Unhealthy int           `toml:"unhealthy" min:"1" doc:"consecutive failures to leave"`
	Expect    StatusRange   `toml:"expect" doc:"statuses that pass"`
}

// Breaker is [upstream.NAME.breaker]: when a failing target is left alone, and how it comes back.
type Breaker struct {
	FailureRatio float64       `toml:"failure_ratio" min:"0.01" max:"1" doc:"opens at this share of statuses 500-599, resets and timeouts"`
	MinRequests  int           `toml:"min_requests" min:"1" doc:"and at least this many requests in the window"`
	Window       time.Duration `toml:"window" min:"100ms" doc:"how far back requests are counted"`
	OpenFor      time.Duration `toml:"open_for" min:"1ms" doc:"how long the target is then not touched: 503 with Retry-After"`
	Probes       int           `toml:"probes" min:"1" doc:"successes in a row that close it again"`
}

// UpstreamTLS is [upstream.NAME.tls]: how https:// targets are verified, and what they are shown.
type UpstreamTLS struct {
	CA         string `toml:"ca" kind:"path" doc:"PEM bundle that targets are verified against; empty: the system's"`
	Cert       string `toml:"cert" kind:"path" doc:"PEM file with the gateway's own certificate; empty: none is shown"`
	Key        string `toml:"key" kind:"path" doc:"PEM file with its private key"`
	ServerName string `toml:"server_name" kind:"host" doc:"name sent by SNI and verified; empty: the target's host"`
}

// Split is [split.NAME]: destinations that share requests by weight.
type Split struct {
	Weights map[string]int `toml:"weights" min:"0" required:"true" doc:"destination and its share; 0 drains it"`
	Sticky  string         `toml:"sticky" enum:"|client|ip|header:|cookie:" doc:"what keeps a client on the same side; empty: every request is drawn anew"`
}

// Switch is [switch.NAME]: destinations chosen by a request header.
type Switch struct {
	Header  string            `toml:"header" kind:"header" required:"true" doc:"the header that decides"`
	Cases   map[string]string `toml:"cases" required:"true" doc:"the header's value and the destination it leads to"`
	Default string            `toml:"default" doc:"destination of all other values; empty: 404"`
}
