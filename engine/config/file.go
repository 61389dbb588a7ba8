// Package config reads gateway.toml: plain structs, their defaults, and every fault of a file at once, each with its line.
package config

import (
	"net/netip"
	"time"
)

// File is one configuration, with a field for every table a user can write.
//
// The struct tags of this package are the manual and the first half of the rules; the loader and
// Schema read the same ones, so that neither can say something else:
//
//	toml      the key
//	doc       what it means, its unit and what empty or 0 stands for
//	enum      the words it accepts, separated by "|"; one that ends in ":" is followed by a NAME
//	min, max  the smallest and largest value accepted
//	kind      the syntax of a string: see checkKind
//	required  it must be there, and not be empty
//
// A File is data: nobody writes to it once Load has returned it, so any number of goroutines may read it.
type File struct {
	Server   Server               `toml:"server" doc:"the listeners, and what holds for every client connection"`
	Admin    Admin                `toml:"admin" doc:"status page, /metrics, /livez, /readyz and the control API"`
	Log      Log                  `toml:"log" doc:"the gateway's own log and the access log"`
	Tracing  Tracing              `toml:"tracing" doc:"spans and the trace id"`
	Redis    *Redis               `toml:"redis" doc:"a Redis for those parts that name it; absent: none is used"`
	Cluster  *Cluster             `toml:"cluster" doc:"gossip with other gateways; absent: this gateway stands alone"`
	Auth     Auth                 `toml:"auth" doc:"the ways a client can prove who it is"`
	Limit    []Limit              `toml:"limit" doc:"rate limits, used by the routes that name them"`
	Limits   Limits               `toml:"limits" doc:"what holds for all rate limits"`
	Upstream map[string]*Upstream `toml:"upstream" kind:"name" doc:"groups of servers that answer alike, by name"`
	Split    map[string]*Split    `toml:"split" kind:"name" doc:"destinations that share requests by weight, by name"`
	Switch   map[string]*Switch   `toml:"switch" kind:"name" doc:"destinations chosen by a header, by name"`
	Defaults Defaults             `toml:"defaults" doc:"what a route gets when it does not say otherwise"`
	Route    []*Route             `toml:"route" doc:"what is served, and how"`

	source source
}

// Server is [server]: the listeners, and what holds for every client connection.
type Server struct {
	Listen          []string       `toml:"listen" kind:"listen" doc:"addresses for plain HTTP: HOST:PORT, unix:PATH or systemd:NAME (socket activation)"`
	Drain           time.Duration  `toml:"drain" doc:"on SIGTERM, how long requests in flight may still take"`
	ReadyDelay      time.Duration  `toml:"ready_delay" doc:"how long /readyz is red before the listeners close"`
	HeaderTimeout   time.Duration  `toml:"header_timeout" min:"1ms" doc:"a request's head must be complete by then; else 408 and close"`
	BodyIdleTimeout time.Duration  `toml:"body_idle_timeout" min:"1ms" doc:"longest pause between two reads of a request body"`
	IdleTimeout     time.Duration  `toml:"idle_timeout" min:"1ms" doc:"how long a kept-alive connection may be silent between requests"`
	MaxHeaderBytes  Size           `toml:"max_header_bytes" min:"1KiB" doc:"largest request head; else 431"`
	MaxBodyBytes    Size           `toml:"max_body_bytes" doc:"largest request body, for routes without their own; else 413; \"0\": no limit"`
	MaxConnections  int            `toml:"max_connections" min:"0" doc:"most client connections at once; 0: no limit"`
	TrustedProxies  []netip.Prefix `toml:"trusted_proxies" doc:"whose X-Forwarded-For and Forwarded are believed, read from right to left"`
	IPv6Prefix      int            `toml:"ipv6_prefix" min:"1" max:"128" doc:"how many leading bits of an IPv6 address identify a client"`
	EncodedSlash    string         `toml:"encoded_slash" enum:"reject|keep" doc:"what %2F and %5C in a path do: reject (400) or keep"`
	RequestIDHeader string         `toml:"request_id_header" kind:"own-header" doc:"header that carries the request id, to upstreams and back; empty: none"`
	TLS             *ServerTLS     `toml:"tls" doc:"present: HTTPS on its own addresses"`
}

// ServerTLS is [server.tls]: HTTPS, beside or instead of plain HTTP.
type ServerTLS struct {
	Listen       []string      `toml:"listen" kind:"listen" required:"true" doc:"addresses for HTTPS, written as in [server]"`
	Certificates []Certificate `toml:"certificates" doc:"chosen by SNI, the first is the fallback; reloaded when the files change"`
	StrictSNI    bool          `toml:"strict_sni" doc:"refuse a handshake whose server name no certificate covers"`
	MinVersion   string        `toml:"min_version" enum:"1.2|1.3" doc:"oldest TLS version accepted"`
	ClientAuth   string        `toml:"client_auth" enum:"none|request|require" doc:"whether clients show a certificate"`
	ClientCA     string        `toml:"client_ca" kind:"path" doc:"PEM bundle that client certificates are verified against"`
	HTTP2        bool          `toml:"http2" doc:"offer HTTP/2 by ALPN"`
	ACME         *ACME         `toml:"acme" doc:"present: certificates come from an ACME authority"`
}

// Certificate is a certificate chain and its private key, both PEM files.
type Certificate struct {
	Cert string `toml:"cert" kind:"path" required:"true" doc:"PEM file with the chain, leaf first"`
	Key  string `toml:"key" kind:"path" required:"true" doc:"PEM file with the private key"`
}

// ACME is [server.tls.acme]: certificates that are ordered and renewed by the gateway.
type ACME struct {
	Domains   []string `toml:"domains" kind:"host" required:"true" doc:"names to order certificates for"`
	Email     string   `toml:"email" doc:"where the authority sends warnings; empty: nowhere"`
	Directory string   `toml:"directory" kind:"url" required:"true" doc:"the authority's directory URL"`
	Storage   string   `toml:"storage" kind:"path" required:"true" doc:"folder for account and certificates"`
}

// Admin is [admin]: the listener that operators and probes talk to.
type Admin struct {
	Listen string `toml:"listen" kind:"listen" doc:"one address, written as in [server]; empty: no admin listener"`
	Token  Secret `toml:"token" doc:"bearer token; mandatory when listen can be reached from other machines"`
}

// Log is [log]: the gateway's own log, always on standard error, and the access log.
type Log struct {
	Level  string  `toml:"level" enum:"debug|info|warn|error" doc:"least severity written to the gateway's own log"`
	Format string  `toml:"format" enum:"json|console" doc:"one JSON object per line, or text for people"`
	Access string  `toml:"access" kind:"log" required:"true" doc:"access log: stdout, off, or a file's path (reopened on SIGUSR1)"`
	Sample float64 `toml:"sample" min:"0" max:"1" doc:"share of successful requests logged; errors and rejections always are"`
}

// Tracing is [tracing]: spans for OTLP, and the trace id in a header.
type Tracing struct {
	OTLPEndpoint string  `toml:"otlp_endpoint" kind:"url" doc:"OTLP over HTTP, such as http://127.0.0.1:4318; empty: no export"`
	Sample       float64 `toml:"sample" min:"0" max:"1" doc:"share of traces started here; a sampled traceparent from outside is honoured"`
	TraceHeader  string  `toml:"trace_header" kind:"own-header" doc:"header that carries the trace id, to upstreams and back; empty: none"`
}

// Redis is [redis]: one server, sentinel group or cluster, for whatever asks for it by store or scope = "redis".
type Redis struct {
	URL     Secret        `toml:"url" kind:"redis" required:"true" doc:"redis://, rediss://, redis-sentinel:// or redis-cluster://; a secret, as it may hold a password"`
	Timeout time.Duration `toml:"timeout" min:"1ms" doc:"longest one operation on the request path may take"`
	Prefix  string        `toml:"prefix" doc:"what all our keys begin with"`
}

// Cluster is [cluster]: gossip between gateways over UDP.
type Cluster struct {
	Listen    string   `toml:"listen" kind:"address" required:"true" doc:"UDP address for packets from peers"`
	Advertise string   `toml:"advertise" kind:"peer" doc:"address that peers send to; empty: found from the interface"`
	Peers     []string `toml:"peers" kind:"peer" doc:"addresses of other gateways; any one suffices to join"`
	Secret    Secret   `toml:"secret" required:"true" doc:"32 bytes that encrypt and authenticate every packet, the same on all gateways"`
	// PreviousSecret is Secret's key with the other duty: it opens packets, and seals none.
	PreviousSecret Secret        `toml:"previous_secret" doc:"accepted too, while gateways change from one secret to another; empty: none"`
	Interval       time.Duration `toml:"interval" min:"1ms" max:"1s" doc:"how often deltas are sent"`
	Name           string        `toml:"name" doc:"what peers call this gateway; empty: the host name"`
}
