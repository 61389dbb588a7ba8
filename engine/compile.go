package engine

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/socket"
	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/limiter"
	"github.com/sluice-gateway/sluice/router"
)

// compiler turns a file into a snapshot. It changes nothing outside of what it builds, and collects
// every fault on its way instead of stopping at the first.
type compiler struct {
	file *config.File
	origin
	faults config.Faults
	snap   *snapshot

	// What routes have in common, by names: lists of their own for ten thousand would not fit into a processor's cache.
	carrierLists map[string][]carrier
	meterLists   map[string]meterLists
}

// origin is what a snapshot is built upon.
type origin struct {
	last    *snapshot        // whose parts are kept where nothing changed; nil at the start
	limiter *limiter.Limiter // that has the buckets
	metrics *telemetry.Metrics
	spans   *telemetry.TraceCounts
	version string         // of the program
	log     zerolog.Logger // of what works in the background for the snapshot
	epoch   time.Time      // when the engine's monotonic time is zero
	random  func() uint64
	// resolver looks up the names of targets; nil: the system's.
	resolver upstream.Resolver
	poller   *socket.Poller // nil: nothing is connected to
	alone    bool           // the gateway is not a member of a cluster
}

// lookedAt is the origin of a configuration that will not be used.
func lookedAt() origin {
	return origin{
		limiter: limiter.New(limiter.Options{Capacity: 16}), metrics: newMetrics(), spans: &telemetry.TraceCounts{}, log: zerolog.Nop(),
		random: func() uint64 { return 0 },
	}
}

// compile builds the snapshot of a file. known are the faults that loading found: the parts they
// concern are not looked at again. The snapshot is fit for use only if there are no faults, neither
// known nor returned.
func compile(file *config.File, known config.Faults, from origin, now time.Time) (*snapshot, config.Faults) {
	c := &compiler{
		file: file, origin: from, faults: slices.Clone(known),
		carrierLists: map[string][]carrier{}, meterLists: map[string]meterLists{},
	}
	c.snap = &snapshot{file: file, loaded: now, pools: map[string]*pool{}, plan: from.metrics.Prepare(tiersOf(file))}
	c.server()
	c.tracing()
	c.upstreams()
	c.certificates()
	c.cluster()
	c.limits()
	c.limitStore()
	c.methods()
	c.withholdCredentials()
	c.routes()
	return c.snap, c.faults
}

// Check compiles the file at path as a start or reload would, and listens nowhere. No faults means
// that it would be accepted.
func Check(path string) config.Faults {
	file, faults := config.Load(path)
	if file == nil {
		return faults
	}
	_, faults = compile(file, faults, lookedAt(), time.Now())
	return faults
}

func (c *compiler) fault(key, format string, args ...any) {
	c.faults = append(c.faults, c.file.FaultAt(key, format, args...))
}

// sound says whether no fault is known below key.
func (c *compiler) sound(key string) bool {
	return !slices.ContainsFunc(c.faults, func(f config.Fault) bool {
		return f.Key == key || strings.HasPrefix(f.Key, key+".") || strings.HasPrefix(f.Key, key+"[")
	})
}

func (c *compiler) server() {
	s := &c.file.Server
	c.snap.server = serverSettings{
		headerTimeout:   s.HeaderTimeout,
		bodyIdleTimeout: s.BodyIdleTimeout,
		idleTimeout:     s.IdleTimeout,
		maxHeaderBytes:  int(s.MaxHeaderBytes),
		maxConnections:  s.MaxConnections,
		trustedProxies:  s.TrustedProxies,
		ipv6Prefix:      s.IPv6Prefix,
		requestIDHeader: s.RequestIDHeader,
		requestIDLower:  strings.ToLower(s.RequestIDHeader),
	}
	if s.EncodedSlash == "keep" {
		c.snap.server.slashes = router.KeepEncodedSlash
	}
	id := c.file.Auth.Identity
	c.snap.identity = identityHeaders{id.User, id.Scopes, id.Tier}
	traceHeader := c.file.Tracing.TraceHeader
	c.snap.headers = requestHeaders(s.RequestIDHeader, traceHeader, id.User, id.Scopes, id.Tier)
	c.snap.responses = responseHeaders(s.RequestIDHeader, traceHeader)
}

func (c *compiler) upstreams() {
	for _, name := range slices.Sorted(maps.Keys(c.file.Upstream)) {
		key := "upstream." + name
		if !c.sound(key) {
			continue
		}
		p, err := c.pool(name, c.file.Upstream[name])
		if err != nil {
			c.fault(key, "%v", err)
			continue
		}
		c.snap.pools[name] = p
	}
}

// tiersOf are the tiers that metrics tell apart: those that some limit names.
func tiersOf(f *config.File) []string {
	named := map[string]bool{}
	for _, l := range f.Limit {
		for tier := range l.Tiers {
			named[tier] = true
		}
	}
	return slices.Sorted(maps.Keys(named))
}

// pool builds an upstream's pool, or takes over the last one's if nothing about it changed.
func (c *compiler) pool(name string, u *config.Upstream) (*pool, error) {
	tlsConfig, digest, err := upstreamTLS(&u.TLS)
	if err != nil {
		return nil, err
	}
	counts := c.snap.plan.Upstream(name)
	if c.last != nil {
		if old := c.last.pools[name]; old != nil && old.source.files == digest && reflect.DeepEqual(old.source.config, u) {
			return old, nil
		}
	}
	uc := upstream.Config{
		Name: name, MaxIdle: u.MaxIdleConnections, MaxInFlight: u.MaxInFlight, Pipeline: u.Pipeline, TLS: tlsConfig,
		Resolve: u.Resolve, Resolver: c.resolver, Resolved: c.nameResolved(name),
		Timeouts: upstream.Timeouts(u.Timeouts), Balance: upstream.Policy(u.Balance), Budget: u.Retry.Budget, Epoch: c.epoch,
		Changed: c.breakerChanged(name), Present: c.presenceChanged(name), Random: c.random,
		Panicked: func(r any) { logPanic(&c.log, r) }, Poller: c.poller,
	}
	if h := u.Health; h != nil {
		uc.Health = &upstream.HealthConfig{
			Path: h.Path, Host: u.Host, Interval: h.Interval, Timeout: h.Timeout, Healthy: h.Healthy, Unhealthy: h.Unhealthy,
			Expect: h.Expect.Contains,
		}
	}
	if b := u.Breaker; b != nil {
		uc.Breaker = &upstream.BreakerConfig{
			FailureRatio: b.FailureRatio, MinRequests: b.MinRequests, Window: b.Window, OpenFor: b.OpenFor, Probes: b.Probes,
		}
	}
	for _, t := range u.Targets {
		uc.Targets = append(uc.Targets, targetConfig(t))
	}
	targets, err := upstream.New(uc)
	if err != nil {
		return nil, err
	}
	return &pool{Pool: targets, counts: counts, host: u.Host, attempts: u.Retry.Attempts, hashOn: newHashOn(u), source: poolSource{u, digest}}, nil
}

// breakerChanged logs what becomes of the breakers of an upstream's targets.
func (c *compiler) breakerChanged(name string) func(target string, from, to upstream.BreakerState) {
	log := c.log
	return func(target string, from, to upstream.BreakerState) {
		event := log.Warn()
		if to == upstream.BreakerClosed {
			event = log.Info()
		}
		event.Str("upstream", name).Str("target", target).Stringer("from", from).Stringer("to", to).Msg("circuit breaker")
	}
}

// presenceChanged logs which targets of an upstream come and go.
func (c *compiler) presenceChanged(name string) func(target string, present bool, why error) {
	log := c.log
	return func(target string, present bool, why error) {
		if present {
			log.Info().Str("upstream", name).Str("target", target).Msg("target back")
			return
		}
		log.Warn().Err(why).Str("upstream", name).Str("target", target).Msg("target out")
	}
}

// nameResolved logs what becomes of the names among an upstream's targets.
func (c *compiler) nameResolved(upstream string) func(name string, addresses []string, err error) {
	log := c.log
	return func(name string, addresses []string, err error) {
		event, message := log.Info(), "name looked up"
		if err != nil {
			event, message = log.Warn().Err(err), "name not looked up: its last addresses stay"
		}
		event.Str("upstream", upstream).Str("name", name).Strs("targets", addresses).Msg(message)
	}
}

func targetConfig(t config.Target) upstream.TargetConfig {
	if t.URL.Scheme == "unix" {
		return upstream.TargetConfig{Address: "unix:" + t.URL.Opaque, Weight: t.Weight}
	}
	secure := t.URL.Scheme == "https"
	address := t.URL.Host
	if t.URL.Port() == "" {
		port := "80"
		if secure {
			port = "443"
		}
		address += ":" + port
	}
	return upstream.TargetConfig{Address: address, TLS: secure, Weight: t.Weight}
}

// upstreamTLS reads the files of [upstream.NAME.tls]. The digest tells whether they have changed.
func upstreamTLS(u *config.UpstreamTLS) (*tls.Config, string, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: u.ServerName}
	sum := sha256.New()
	if u.CA != "" {
		pem, err := os.ReadFile(u.CA)
		if err != nil {
			return nil, "", fmt.Errorf("cannot read tls.ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, "", fmt.Errorf("tls.ca %q holds no certificate in PEM form", u.CA)
		}
		sum.Write(pem)
	}
	if u.Cert != "" {
		pair, err := tls.LoadX509KeyPair(u.Cert, u.Key)
		if err != nil {
			return nil, "", fmt.Errorf("cannot load tls.cert and tls.key: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
		for _, der := range pair.Certificate {
			sum.Write(der)
		}
	}
	return c, hex.EncodeToString(sum.Sum(nil)), nil
}

// destinations builds the graph of upstreams, splits and switches. Names that lead nowhere were
// refused by the loader; here they simply stay unresolved.
func (c *compiler) destinations() map[string]*destination {
	all := make(map[string]*destination)
	for name, p := range c.snap.pools {
		all[name] = &destination{name: name, pool: p}
	}
	for name := range c.file.Split {
		all[name] = &destination{name: name}
	}
	for name := range c.file.Switch {
		all[name] = &destination{name: name}
	}
	for name, s := range c.file.Split {
		all[name].split = compileSplit(name, s, all)
	}
	for name, s := range c.file.Switch {
		hs := &headerSwitch{header: strings.ToLower(s.Header), cases: map[string]*destination{}, fallback: all[s.Default]}
		for value, to := range s.Cases {
			hs.cases[value] = all[to]
		}
		all[name].headerSwitch = hs
	}
	return all
}

func compileSplit(name string, s *config.Split, all map[string]*destination) *split {
	sp := newSplit(name, s.Weights, all)
	kind, parameter, _ := strings.Cut(s.Sticky, ":")
	switch kind {
	case "client":
		sp.sticky = stickyClient
	case "ip":
		sp.sticky = stickyAddress
	case "header":
		sp.sticky, sp.header = stickyHeader, strings.ToLower(parameter)
	case "cookie":
		sp.sticky, sp.cookie = stickyCookie, parameter
	}
	return sp
}

func (c *compiler) routes() {
	destinations := c.destinations()
	var patterns []router.Route
	var indices []int // of the file's routes
	for i, r := range c.file.Route {
		key := fmt.Sprintf("route[%d]", i)
		if !c.sound(key+".path") || !c.sound(key+".hosts") || !c.sound(key+".methods") || r.Path == "" {
			continue
		}
		patterns = append(patterns, router.Route{Name: r.Name, Hosts: r.Hosts, Methods: r.Methods, Path: r.Path})
		indices = append(indices, i)
		c.snap.routes = append(c.snap.routes, c.route(key, r, destinations[r.To]))
	}
	table, err := router.Compile(patterns)
	var faults router.Errors
	if errors.As(err, &faults) {
		for _, f := range faults {
			c.fault(fmt.Sprintf("route[%d].%s", indices[f.Route], f.Field), "%v", f.Err)
		}
	}
	c.snap.table = table
}

func (c *compiler) route(key string, r *config.Route, to *destination) *route {
	var err error
	compiled := &route{
		name:         r.Name,
		pattern:      r.Path,
		counts:       c.snap.plan.Route(r.Name, r.Limits),
		to:           to,
		strip:        r.StripPrefix,
		timeout:      r.Timeout,
		maxBody:      int64(r.MaxBodyBytes),
		requestDrop:  dropTable(r.RequestHeaders.Remove, r.RequestHeaders.Set),
		requestSet:   fieldLines(r.RequestHeaders.Set),
		responseDrop: dropTable(r.ResponseHeaders.Remove, r.ResponseHeaders.Set),
		responseSet:  fieldLines(r.ResponseHeaders.Set),
	}
	compiled.untraced = compiled.requestDrop.lists([]byte("traceparent"))
	compiled.carriers = once(c.carrierLists, r.Auth, c.carriers)
	if compiled.scopes, err = auth.NewScopes(r.Scopes); err != nil {
		c.fault(key+".scopes", "%v", err)
	}
	c.checkLimits(key+".limits", r)
	meters := once(c.meterLists, r.Limits, c.meters)
	compiled.guards, compiled.limits = meters.guards, meters.limits
	if r.Rewrite != "" && c.sound(key+".rewrite") {
		if compiled.rewrite, err = router.CompileRewrite(r.Rewrite, r.Path); err != nil {
			c.fault(key+".rewrite", "%v", err)
		}
	}
	return compiled
}

// once makes a value of names, if it has not been made before.
func once[T any](made map[string]T, names []string, make func(names []string) T) T {
	key := strings.Join(names, "\x00")
	value, ok := made[key]
	if !ok {
		value = make(names)
		made[key] = value
	}
	return value
}

func fieldLines(set map[string]string) []byte {
	var lines []byte
	for _, name := range slices.Sorted(maps.Keys(set)) {
		lines = appendField(lines, []byte(name), []byte(set[name]))
	}
	return lines
}
