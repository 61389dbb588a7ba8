package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

// The methods in the check files hold one part of a File against another; what can be
// said of a single value is in its tag.

func (l *loader) checkServer() {
	s, admin := &l.file.Server, &l.file.Admin
	if len(s.Listen) == 0 && s.TLS == nil {
		l.fault("server.listen", "no address to listen on, and no [server.tls]")
	}
	if s.TLS != nil {
		l.checkTLS(s.TLS)
	}
	isOpen := admin.Listen != "" && !isLoopback(admin.Listen) && !l.faulted("admin")
	if isOpen && !admin.Token.IsSet() {
		l.fault("admin.token", "missing: %q can be reached from other machines", admin.Listen)
	}
	l.checkListenTwice()
	if c := l.file.Cluster; c != nil {
		l.checkSecret("cluster.secret", c.Secret)
		l.checkSecret("cluster.previous_secret", c.PreviousSecret)
	}
}

func (l *loader) checkSecret(key string, s Secret) {
	if s.IsSet() && len(s.Reveal()) != 32 {
		l.fault(key, "must be 32 bytes long")
	}
}

func (l *loader) checkTLS(t *ServerTLS) {
	if len(t.Certificates) == 0 && t.ACME == nil && !l.faulted("server.tls.certificates") {
		l.fault("server.tls.certificates", "missing: HTTPS needs a certificate, or [server.tls.acme]")
	}
	if t.ClientAuth != "none" && t.ClientCA == "" {
		l.fault("server.tls.client_ca", "missing: client_auth = %q has nothing to verify certificates against", t.ClientAuth)
	}
	if t.ClientAuth == "none" && t.ClientCA != "" {
		l.fault("server.tls.client_ca", "no client is verified while client_auth = \"none\"")
	}
}

func (l *loader) checkListenTwice() {
	seen := make(map[string]string)
	claim := func(key, address string) {
		if address == "" || strings.HasSuffix(address, ":0") {
			return
		}
		if first, taken := seen[address]; taken {
			l.fault(key, "%q is taken by %s", address, first)
			return
		}
		seen[address] = key
	}
	for i, address := range l.file.Server.Listen {
		claim(elementKey("server.listen", i), address)
	}
	if t := l.file.Server.TLS; t != nil {
		for i, address := range t.Listen {
			claim(elementKey("server.tls.listen", i), address)
		}
	}
	claim("admin.listen", l.file.Admin.Listen)
}

// isLoopback reports whether only this machine can reach a listen address. What systemd opened is not known here, so it counts as reachable.
func isLoopback(listen string) bool {
	if strings.HasPrefix(listen, "unix:") {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// faulted reports whether a key, or something inside it, was found wrong already.
func (l *loader) faulted(key string) bool {
	return slices.ContainsFunc(l.faults, func(f Fault) bool {
		rest, ok := strings.CutPrefix(f.Key, key)
		return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
	})
}

func (l *loader) faultedItself(key string) bool {
	return slices.ContainsFunc(l.faults, func(f Fault) bool { return f.Key == key })
}

func (l *loader) checkAuth() {
	a := &l.file.Auth
	l.checkStore("auth.keys", a.Keys.Store)
	if a.Keys.Store == "file" && a.Keys.File == "" {
		l.fault("auth.keys.file", "must not be empty while store = \"file\"")
	}
	l.checkStore("auth.revocation", a.Revocation.Store)
	for _, name := range sortedKeys(a.JWT) {
		l.checkJWT(childKey("auth.jwt", name), a.JWT[name])
	}
}

// checkOwnHeaders keeps the fields apart in which the gateway says something of its own.
func (l *loader) checkOwnHeaders() {
	id, t := &l.file.Auth.Identity, &l.file.Tracing
	keys := []string{"server.request_id_header", "tracing.trace_header", "auth.identity.user", "auth.identity.scopes", "auth.identity.tier"}
	headers := []string{l.file.Server.RequestIDHeader, t.TraceHeader, id.User, id.Scopes, id.Tier}
	for i, header := range headers {
		if first := indexFold(headers[:i], header); first >= 0 && header != "" {
			l.fault(keys[i], "%q is taken by %s", header, keys[first])
		}
		if indexFold(traceContext(), header) >= 0 {
			l.fault(keys[i], "%q is how services tell each other of traces", header)
		}
	}
}

// traceContext lists the fields of W3C Trace Context, W3C Baggage and B3.
func traceContext() []string {
	return []string{
		"traceparent", "tracestate", "baggage", "b3",
		"x-b3-traceid", "x-b3-spanid", "x-b3-parentspanid", "x-b3-sampled", "x-b3-flags",
	}
}

// checkTracing wants an address to which a path can be added.
func (l *loader) checkTracing() {
	u, err := url.Parse(l.file.Tracing.OTLPEndpoint)
	if err == nil && (u.RawQuery != "" || u.Fragment != "") && !l.faulted("tracing.otlp_endpoint") {
		l.fault("tracing.otlp_endpoint", "must end with its path")
	}
}

// indexFold finds a header's name in a list, in any case; -1: it is not there.
func indexFold(names []string, name string) int {
	return slices.IndexFunc(names, func(other string) bool { return strings.EqualFold(other, name) })
}

// checkStore wants a [redis] table for whoever keeps something there.
func (l *loader) checkStore(table, store string) {
	if store == "redis" && l.file.Redis == nil {
		l.fault(table+".store", "\"redis\" needs a [redis] table")
	}
}

// checkJWT keeps shared secrets and public keys apart: a verifier that accepts both can be made to take
// a public key for the secret.
func (l *loader) checkJWT(key string, j *JWT) {
	shared := slices.ContainsFunc(j.Algorithms, isShared)
	public := slices.ContainsFunc(j.Algorithms, func(a string) bool { return !isShared(a) })
	switch {
	case l.faulted(key + ".algorithms"):
	case shared && public:
		l.fault(key+".algorithms", "HS* and public keys cannot be mixed: make two tables")
	case shared && !j.Secret.IsSet() && !l.faulted(key+".secret"):
		l.fault(key+".secret", "missing: HS* needs a shared key")
	case public && j.Secret.IsSet():
		l.fault(key+".secret", "is used by HS* only")
	case public && j.JWKS == "" && !l.faulted(key+".jwks"):
		l.fault(key+".jwks", "missing: %s needs the issuer's public keys", j.Algorithms[0])
	}
}

func isShared(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

func (l *loader) checkLimits() {
	seen := make(map[string]int)
	for i, limit := range l.file.Limit {
		key := elementKey("limit", i)
		if first, taken := seen[limit.Name]; taken && limit.Name != "" {
			l.fault(key+".name", "%q is taken by %s", limit.Name, elementKey("limit", first))
		} else {
			seen[limit.Name] = i
		}
		l.checkLimit(key, limit)
	}
}

func (l *loader) checkLimit(key string, limit Limit) {
	if limit.Scope == "redis" && l.file.Redis == nil {
		l.fault(key+".scope", "\"redis\" needs a [redis] table")
	}
	if limit.Scope == "cluster" && l.file.Cluster == nil {
		l.fault(key+".scope", "\"cluster\" needs a [cluster] table")
	}
	if limit.BeforeAuth && len(limit.Tiers) > 0 {
		l.fault(key+".tiers", "a guard runs before anybody's tier is known")
	}
	for i, part := range limit.Key {
		if limit.BeforeAuth && (part == "client" || strings.HasPrefix(part, "claim:")) {
			l.fault(elementKey(key+".key", i), "%q is not known before authentication", part)
		}
	}
}
