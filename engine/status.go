package engine

import (
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/upstream"
)

// Status is a picture of the engine at one moment.
type Status struct {
	Version      string               `json:"version"`
	State        string               `json:"state"` // starting, serving, unready or draining
	Config       ConfigStatus         `json:"config"`
	Started      time.Time            `json:"started"`
	Uptime       float64              `json:"uptime_seconds"`
	Connections  int                  `json:"connections"`
	Requests     uint64               `json:"requests"`
	Responses    map[string]uint64    `json:"responses"` // by class, such as 2xx
	Traffic      Traffic              `json:"traffic"`   // of all routes, and what no route took
	Routes       []RouteStatus        `json:"routes"`
	Upstreams    []UpstreamStatus     `json:"upstreams"`
	Auth         []MethodState        `json:"auth,omitempty"`
	Revocations  RevocationStatus     `json:"revocations"`
	Limits       []LimitSummary       `json:"limits"`
	LimitStore   *LimitStore          `json:"limit_store,omitempty"`  // nil: no limit is decided in Redis
	Certificates map[string]time.Time `json:"certificates,omitempty"` // when each name's ends
	Offenders    Offenders            `json:"offenders"`
	Cluster      *ClusterStatus       `json:"cluster,omitempty"` // nil: this gateway is on its own
}

// ConfigStatus tells which configuration is live and how the attempts to change it went.
type ConfigStatus struct {
	Path        string     `json:"path"`
	Hash        string     `json:"hash"`
	Loaded      time.Time  `json:"loaded"`
	Reloads     uint64     `json:"reloads"`
	Failures    uint64     `json:"reload_failures"`
	LastFailure *time.Time `json:"last_failure,omitempty"`
	LastError   string     `json:"last_error,omitempty"`
}

// RevocationStatus is how the list of revoked credentials stands.
type RevocationStatus struct {
	InForce int  `json:"in_force"` // entries
	Known   bool `json:"known"`    // a shared store has been heard; until then, no credential is accepted
}

// RouteStatus is a route as configured.
type RouteStatus struct {
	Name    string   `json:"name"`
	Hosts   []string `json:"hosts,omitempty"`
	Methods []string `json:"methods,omitempty"`
	Path    string   `json:"path"`
	Auth    []string `json:"auth"`
	To      string   `json:"to"`
	Traffic Traffic  `json:"traffic"`
}

// UpstreamStatus is an upstream and its targets.
type UpstreamStatus struct {
	Name    string         `json:"name"`
	Targets []TargetStatus `json:"targets"`
	Retries uint64         `json:"retries"`
	Refused uint64         `json:"retries_refused"` // by the budget
	Busy    uint64         `json:"busy"`            // requests for which no target had room at once
	Waiting int            `json:"waiting"`         // that wait for room now
	Names   []NameStatus   `json:"names,omitempty"` // those that cannot be looked up
}

// NameStatus is a name among an upstream's targets that cannot be looked up at present.
type NameStatus struct {
	Name    string `json:"name"`
	Targets int    `json:"targets"` // its last addresses, which stay
	Error   string `json:"error"`
}

// TargetStatus is a target and its connections.
type TargetStatus struct {
	Name        string  `json:"name"`    // as configured; each address of a name is a target
	Address     string  `json:"address"` // where it is
	TLS         bool    `json:"tls"`
	Weight      int     `json:"weight"`
	Connections int     `json:"connections"`
	Idle        int     `json:"idle"`
	Present     bool    `json:"present"`                   // takes part in the choice
	Health      string  `json:"health,omitempty"`          // by active checks: healthy or unhealthy
	LastCheck   string  `json:"last_check,omitempty"`      // why the last one failed
	InFlight    int     `json:"in_flight"`                 // requests
	Breaker     string  `json:"breaker"`                   // closed, open or half-open
	Reopens     float64 `json:"reopens_seconds,omitempty"` // until an open breaker lets somebody through
	Requests    uint64  `json:"requests"`                  // that were sent to it
	Failures    uint64  `json:"failures"`                  // of them: answered 5xx, or not at all
	Opened      uint64  `json:"opened"`                    // how often its breaker came to this state
	HalfOpened  uint64  `json:"half_opened"`
	Closed      uint64  `json:"closed"`
	Ejections   uint64  `json:"ejections"`
	Moved       uint64  `json:"moved,omitempty"` // requests that left a shared connection, and were asked once more
}

// reloads is how the attempts to change the configuration went.
type reloads struct {
	mu     sync.Mutex
	status ConfigStatus
}

func (r *reloads) ended(now time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err == nil {
		r.status.Reloads++
		return
	}
	r.status.Failures++
	r.status.LastFailure = &now
	r.status.LastError = err.Error()
}

// Ready says whether the engine wants new requests; if not, why.
func (e *Engine) Ready() (ready bool, state string) {
	state = [...]string{"starting", "serving", "unready", "draining"}[e.phase.Load()]
	return e.phase.Load() == phaseServing, state
}

// Admin is the live [admin] table.
func (e *Engine) Admin() config.Admin { return e.snapshot.Load().file.Admin }

// Status describes the engine at now.
func (e *Engine) Status(now time.Time) Status {
	snap := e.snapshot.Load()
	_, state := e.Ready()
	s := Status{
		Version: e.options.Version, State: state, Started: e.started, Uptime: now.Sub(e.started).Seconds(),
		Connections: e.conns.count(), Responses: map[string]uint64{}, Config: e.configStatus(snap),
		Traffic: newTraffic(e.metrics.Total()), Routes: e.routeStatuses(snap), Upstreams: snap.upstreamStatuses(now.Sub(e.started)), Limits: e.Limits(),
		LimitStore: e.LimitStore(),
	}
	s.Auth = snap.methodStates(now)
	s.Revocations = RevocationStatus{InForce: e.revocations.list.Len(), Known: !e.revocations.unknown.Load()}
	var classes [6]uint64
	s.Requests, classes = e.metrics.Responses()
	for class := 1; class < len(classes); class++ {
		s.Responses[className(class)] = classes[class]
	}
	s.Offenders = newOffenders(e.offenders, now)
	s.Cluster = e.clusterStatus(snap.file)
	if snap.certs != nil {
		s.Certificates = snap.certs.NotAfter()
	}
	return s
}

func (e *Engine) configStatus(snap *snapshot) ConfigStatus {
	e.reloads.mu.Lock()
	defer e.reloads.mu.Unlock()
	c := e.reloads.status
	c.Path, c.Hash, c.Loaded = e.options.Path, snap.file.Hash(), snap.loaded
	return c
}

func (e *Engine) routeStatuses(snap *snapshot) []RouteStatus {
	counts := make(map[string]*telemetry.Route, len(snap.routes))
	for _, r := range snap.routes {
		counts[r.name] = r.counts
	}
	routes := make([]RouteStatus, len(snap.file.Route))
	for i, r := range snap.file.Route {
		routes[i] = RouteStatus{
			Name: r.Name, Hosts: r.Hosts, Methods: r.Methods, Path: r.Path, Auth: r.Auth, To: r.To,
			Traffic: newTraffic(e.metrics.Traffic(counts[r.Name])),
		}
	}
	return routes
}

func (s *snapshot) upstreamStatuses(now time.Duration) []UpstreamStatus {
	all := []UpstreamStatus{}
	for name, p := range s.sortedPools() {
		counts := p.Counts()
		u := UpstreamStatus{Name: name, Retries: counts.Retries, Refused: counts.Refused, Busy: counts.Busy, Waiting: p.Waiting()}
		for _, t := range p.Targets() {
			open, idle := t.Connections()
			state, left := t.Breaker(now)
			present, health, lastCheck := targetHealth(t)
			served := t.Counts()
			u.Targets = append(u.Targets, TargetStatus{
				Name: t.Name(), Address: t.Address(), TLS: t.TLS(), Weight: t.Weight(),
				Connections: open, Idle: idle, Present: present, Health: health, LastCheck: lastCheck,
				InFlight: t.InFlight(), Breaker: state.String(), Reopens: left.Seconds(),
				Requests: served.Requests, Failures: served.Failures, Ejections: served.Ejections,
				Opened: served.Opened, HalfOpened: served.HalfOpened, Closed: served.Closed,
				Moved: served.Moved,
			})
		}
		for _, n := range p.Names() {
			if n.Err != nil {
				u.Names = append(u.Names, NameStatus{Name: n.Name, Targets: n.Addresses, Error: n.Err.Error()})
			}
		}
		all = append(all, u)
	}
	return all
}

func (s *snapshot) methodStates(now time.Time) (states []MethodState) {
	for _, name := range slices.Sorted(maps.Keys(s.methods)) {
		m := s.methods[name]
		state := MethodState{Usable: true}
		if m.state != nil {
			state = m.state(now)
		}
		state.Name = name
		states = append(states, state)
	}
	return states
}

func targetHealth(t *upstream.Target) (present bool, health, lastCheck string) {
	present, last, checked := t.Health()
	if !checked {
		return present, "", ""
	}
	if last.Err != nil {
		lastCheck = last.Err.Error()
	}
	if last.Healthy {
		return present, "healthy", lastCheck
	}
	return present, "unhealthy", lastCheck
}
