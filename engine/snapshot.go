package engine

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/limiter"
	"github.com/sluice-gateway/sluice/router"
)

// snapshot is a configuration, compiled: immutable, and all that a request needs. A reload stores
// another one; exchanges under way keep theirs. What outlives a snapshot hangs from it by pointer and
// is handed on if its part of the configuration has not changed: the pools of upstreams, with their
// connections, breakers and health; the methods of authentication, with what they remember; what limits have
// counted, and the Redis that decides on some; and the certificates. Client connections, tunnels, sockets, the limiter's buckets and the revocations
// belong to the Engine.
type snapshot struct {
	file      *config.File
	loaded    time.Time
	server    serverSettings
	headers   headerTable // of requests
	responses headerTable
	table     *router.Table
	routes    []*route // by the table's indices
	pools     map[string]*pool
	certs     *certificates // nil: no TLS
	methods   map[string]*method
	identity  identityHeaders
	tracing   tracing
	meters    map[string]*meter
	quota     quotaFields
	update    *limiter.Update         // the limits, until the snapshot is live
	plan      *telemetry.Plan         // what is counted, likewise
	access    *telemetry.AccessOutput // likewise; nil: the one that is in use

	limitStore *limitStore // nil: no limit is decided in Redis
}

// serverSettings is [server], as connections and requests use it.
type serverSettings struct {
	headerTimeout   time.Duration
	bodyIdleTimeout time.Duration
	idleTimeout     time.Duration
	maxHeaderBytes  int
	maxConnections  int
	trustedProxies  []netip.Prefix
	ipv6Prefix      int
	slashes         router.SlashPolicy
	requestIDHeader string
	requestIDLower  string
}

func (s *serverSettings) trusts(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	for _, p := range s.trustedProxies {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// clientKey is the address that identifies a client at a: the whole of an IPv4 address, the configured
// prefix of an IPv6 one, for a host has all addresses below it.
func (s *serverSettings) clientKey(a netip.Addr) netip.Addr {
	if !a.Is6() {
		return a
	}
	p, err := a.WithZone("").Prefix(s.ipv6Prefix)
	if err != nil {
		return a
	}
	return p.Addr()
}

// route is a [[route]]: what happens to the requests that its pattern takes.
type route struct {
	counts       *telemetry.Route
	to           *destination
	carriers     []carrier // where credentials may be; none: public
	limits       []*meter
	guards       []*meter // asked before authentication
	rewrite      *router.Rewrite
	timeout      time.Duration
	maxBody      int64 // 0: no limit
	strip        bool
	untraced     bool         // its targets are not told of the trace
	requestDrop  *headerTable // nil: it takes nothing away
	responseDrop *headerTable
	requestSet   []byte // whole field lines
	responseSet  []byte
	scopes       auth.Scopes
	name         string
	pattern      string
}

func (r *route) tooLarge(n int64) bool { return r.maxBody > 0 && n > r.maxBody }

// pool is an upstream's targets with what the engine adds to them.
type pool struct {
	*upstream.Pool
	counts   *telemetry.Upstream
	worker          // its Run
	host     string // Host sent to the targets; empty: the client's
	attempts int    // tries in all
	hashOn   hashOn
	source   poolSource
}

// poolSource is what a pool was built from. A reload keeps the pool while it is the same.
type poolSource struct {
	config *config.Upstream
	files  string // digest of the files that config names
}

// sortedPools iterates over the pools in the order of their names.
func (s *snapshot) sortedPools() iter.Seq2[string, *pool] {
	return func(yield func(string, *pool) bool) {
		for _, name := range slices.Sorted(maps.Keys(s.pools)) {
			if !yield(name, s.pools[name]) {
				return
			}
		}
	}
}
