package config

import (
	"reflect"
	"time"
)

// Default returns the configuration of an empty file: no routes, and every default the manual names.
//
// The numbers are below, one method per table. Tables that a user names or repeats get theirs when the
// loader meets one.
func Default() *File {
	f := new(File)
	setDefaults(reflect.ValueOf(f).Elem())
	return f
}

// defaulter is a table with defaults; the loader calls it before it reads what the file says.
type defaulter interface{ setDefaults() }

// setDefaults fills a table and the tables inside it, those behind a nil pointer excepted: they are absent.
func setDefaults(v reflect.Value) {
	if v.Kind() != reflect.Struct {
		return
	}
	if d, ok := v.Addr().Interface().(defaulter); ok {
		d.setDefaults()
	}
	for _, f := range tableFields(v.Type()) {
		setDefaults(v.FieldByIndex(f.Index))
	}
}

func (s *Server) setDefaults() {
	s.Listen = []string{":8080"}
	s.Drain = 30 * time.Second           // a route's default timeout: what was accepted in time can end
	s.ReadyDelay = 0                     // only those behind a probing balancer need one
	s.HeaderTimeout = 10 * time.Second   // ample for a phone on a bad line, short for a slowloris
	s.BodyIdleTimeout = 30 * time.Second // a lost cell takes this long to come back
	s.IdleTimeout = 75 * time.Second     // above the 60 s of common balancers, so that they close first
	s.MaxHeaderBytes = 16 * KiB          // a few fat cookies and a JWT
	s.MaxBodyBytes = 10 * MiB            // APIs, not uploads
	s.MaxConnections = 0                 // the limit on open files holds in any case
	s.IPv6Prefix = 64                    // what one subscriber is given at the least
	s.EncodedSlash = "reject"            // two readers of such a path disagree about it
	s.RequestIDHeader = "X-Request-ID"   // what most services log already
}

func (t *ServerTLS) setDefaults() {
	t.Listen = []string{":8443"}
	t.StrictSNI = false   // old clients and probes send no name
	t.MinVersion = "1.2"  // below it is broken (RFC 8996)
	t.ClientAuth = "none" // routes authenticate clients
	t.HTTP2 = true        // one connection per client in place of six
}

func (a *ACME) setDefaults() {
	a.Directory = "https://acme-v02.api.letsencrypt.org/directory"
	a.Storage = "acme"
}

func (a *Admin) setDefaults() {
	a.Listen = "127.0.0.1:9901" // loopback: it can stop the gateway, so it is not for the network unasked
}

func (l *Log) setDefaults() {
	l.Level = "info"
	l.Format = "json"
	l.Access = "stdout"
	l.Sample = 1 // all of them, until someone finds that too many
}

func (t *Tracing) setDefaults() {
	t.Sample = 0.01 // enough to see a trend, too few to cost
	t.TraceHeader = "X-Trace-ID"
}

func (r *Redis) setDefaults() {
	r.Timeout = 20 * time.Millisecond // some forty round trips in one data centre; longer is an outage to clients
	r.Prefix = "sluice:"
}

func (c *Cluster) setDefaults() {
	c.Listen = ":7946"                 // the port memberlist made usual
	c.Interval = 50 * time.Millisecond // bounds over-admission to what arrives in it
}

func (k *Keys) setDefaults() {
	k.Header = "X-API-Key"
	k.Store = "file"
	k.File = "keys.toml"
	k.CacheTTL = 5 * time.Minute     // a missed revocation lives no longer
	k.NegativeTTL = 5 * time.Second  // a key works this soon after it was created
	k.StaleIfError = 5 * time.Minute // a restart of the store goes unnoticed
}

func (j *JWT) setDefaults() {
	j.Algorithms = []string{"RS256"} // what issuers use unless told otherwise
	j.Header = "Authorization"
	j.Leeway = 30 * time.Second // clocks without NTP
	j.Require = []string{"exp"} // a token that never expires cannot be waited out
	j.Client = "sub"
	j.JWKSRefresh = 10 * time.Minute // rotations announce a key earlier than this
	j.JWKSStaleMax = 24 * time.Hour  // an issuer's bad day is not ours
	j.Cache = 100_000                // some 70 MB, with tokens of 260 bytes
}

func (i *Introspection) setDefaults() {
	i.CacheTTL = 30 * time.Second // how late a revocation is noticed
}

func (r *Revocation) setDefaults() {
	r.Store = "memory"
	r.File = "revoked.log"
}

func (i *Identity) setDefaults() {
	i.User = "X-User-ID"
	i.Scopes = "X-User-Scopes"
	i.Tier = "X-Client-Tier"
}

func (l *Limit) setDefaults() {
	l.Key = []string{"client"}
	l.Algorithm = "token_bucket"
	l.Scope = "local"
	l.Cost = 1
	l.MaxWait = time.Second // longer, and clients give up while they queue
	l.Mode = "enforce"
	l.OnStoreError = "local"
}

func (l *Limits) setDefaults() {
	l.Headers = []string{"x-ratelimit", "ietf"}
	l.Capacity = 1 << 20 // a million clients at once
}

func (u *Upstream) setDefaults() {
	u.Balance = "p2c"
	u.HashOn = "client"
	u.MaxIdleConnections = 512   // below common file limits, above common concurrency
	u.Resolve = 30 * time.Second // the shortest TTL in wide use
	u.Protocol = "http1"
	u.Pipeline = 0 // one slow answer would hold up those behind it
	u.Breaker = new(Breaker)
	u.Breaker.setDefaults()
}

func (t *Target) setDefaults() {
	t.Weight = 1
}

func (t *Timeouts) setDefaults() {
	t.Connect = time.Second       // one lost SYN is sent again after exactly 1 s; a retry elsewhere is sooner
	t.Response = 10 * time.Second // below a route's 30 s, so that a second try fits in
	t.Idle = 60 * time.Second     // streams are expected to send a heartbeat
}

func (r *Retry) setDefaults() {
	r.Attempts = 2 // one bad target is common, two at once are an outage
	r.Budget = 0.2 // an overloaded upstream gets at most a fifth more
}

func (h *Health) setDefaults() {
	h.Path = "/healthz"
	h.Interval = 5 * time.Second
	h.Timeout = 2 * time.Second
	h.Healthy = 2   // one pass may be luck
	h.Unhealthy = 3 // 15 s at the default interval: longer than a pause for GC or a restart
	h.Expect = StatusRange{First: 200, Last: 399}
}

func (b *Breaker) setDefaults() {
	b.FailureRatio = 0.5
	b.MinRequests = 20 // fewer say nothing about a ratio
	b.Window = 10 * time.Second
	b.OpenFor = 5 * time.Second // a crashed process is back by then
	b.Probes = 3
}

func (r *Route) setDefaults() {
	r.Timeout = 30 * time.Second // what browsers and balancers bear with
}

func (c *CORS) setDefaults() {
	c.MaxAge = 10 * time.Minute // the most that Chromium long remembered
}
