package engine

import (
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// newMetrics makes the metrics of an engine, which outlive every snapshot.
func newMetrics() *telemetry.Metrics {
	var reasons []string
	for _, f := range Faults() {
		reasons = append(reasons, f.Reason)
	}
	return telemetry.NewMetrics(reasons, runtime.GOMAXPROCS(0))
}

// Metrics answers scrapes of Prometheus.
func (e *Engine) Metrics() http.Handler { return e.exposition }

// MetricNames lists the families of metrics that are the gateway's own, in order.
func MetricNames() []string {
	names := telemetry.Names()
	for _, f := range metricFamilies() {
		names = append(names, "sluice_"+f.Name)
	}
	slices.Sort(names)
	return names
}

// The figures that are asked for when somebody scrapes: those of exchanges are counted by telemetry.
const (
	figureBuild = iota
	figureReady
	figureConfig
	figureConfigLoaded
	figureReloads
	figureConnections
	figureAccepted
	figureCertificateExpiry
	figureRetries
	figureRetriesRefused
	figureBusy
	figureWaiting
	figureUnresolved
	figureTargetPresent
	figureTargetHealthy
	figureTargetBreaker
	figureTargetInFlight
	figureTargetConnections
	figureTargetRequests
	figureTargetFailures
	figureTargetOpened
	figureTargetHalfOpened
	figureTargetClosed
	figureTargetEjections
	figureTargetMoved
	figureLimitRefused
	figureLimitShadowed
	figureLimitDegraded
	figureStoreUp
	figureStoreAsked
	figureStoreFailed
	figureStoreLost
	figureLimiterKeys
	figureLimiterCapacity
	figureLimiterEvictions
	figureLimiterOverflow
	figureQueued
	figurePeers
	figurePeerTrip
	figurePeerLoss
	figurePeerLag
	figureGossipFrames
	figureGossipBytes
	figureGossipDropped
	figureGossipExcess
	figureAuthUsable
	figureAuthKeys
	figureAuthAccepted
	figureAuthRefused
	figureAuthFetched
	figureRevocations
	figureRevocationsKnown
	figureAccessLines
	figureAccessDropped
	figureSpans
	figureOffencesMissed
	figures
)

func metricFamilies() []telemetry.Family {
	target := []string{"upstream", "target", "address"}
	families := [figures]telemetry.Family{
		figureBuild:        {Name: "build_info", Help: "1, for this version.", Labels: []string{"version", "go"}},
		figureReady:        {Name: "ready", Help: "1 while the gateway wants requests, else 0."},
		figureConfig:       {Name: "config_info", Help: "1, for the hash of the live configuration.", Labels: []string{"hash"}},
		figureConfigLoaded: {Name: "config_last_success_timestamp_seconds", Help: "When the live configuration was loaded."},
		figureReloads:      {Name: "config_reloads_total", Help: "Attempts to change the configuration, by result: ok or failed.", Counter: true, Labels: []string{"result"}},

		figureConnections:       {Name: "connections", Help: "Client connections that are open."},
		figureAccepted:          {Name: "connections_total", Help: "Client connections that were accepted.", Counter: true},
		figureCertificateExpiry: {Name: "certificate_expiry_timestamp_seconds", Help: "When the first certificate of a name ends.", Labels: []string{"name"}},

		figureRetries:           {Name: "upstream_retries_total", Help: "Attempts that were not the first of their request.", Counter: true, Labels: target[:1]},
		figureRetriesRefused:    {Name: "upstream_retries_refused_total", Help: "Retries that the budget did not allow.", Counter: true, Labels: target[:1]},
		figureBusy:              {Name: "upstream_busy_total", Help: "Requests for which no target had room at once.", Counter: true, Labels: target[:1]},
		figureWaiting:           {Name: "upstream_waiting", Help: "Requests that wait for a target to have room.", Labels: target[:1]},
		figureUnresolved:        {Name: "upstream_unresolved_names", Help: "Names among the targets that cannot be looked up at present.", Labels: target[:1]},
		figureTargetPresent:     {Name: "target_present", Help: "1 if the target takes part in the choice, 0 if health checks or ejection keep it out.", Labels: target},
		figureTargetHealthy:     {Name: "target_healthy", Help: "1 if active checks find the target healthy, else 0; none without checks.", Labels: target},
		figureTargetBreaker:     {Name: "target_breaker_state", Help: "0: closed, 1: half-open, 2: open.", Labels: target},
		figureTargetInFlight:    {Name: "target_in_flight", Help: "Requests that the target is working on.", Labels: target},
		figureTargetConnections: {Name: "target_connections", Help: "Connections to the target, by state: active or idle.", Labels: append(target[:3:3], "state")},
		figureTargetRequests:    {Name: "target_requests_total", Help: "Attempts that were sent to the target.", Counter: true, Labels: target},
		figureTargetFailures:    {Name: "target_failures_total", Help: "Those of them that were answered 5xx, or not at all.", Counter: true, Labels: target},
		figureTargetOpened:      {Name: "target_breaker_opened_total", Help: "How often the target's breaker opened.", Counter: true, Labels: target},
		figureTargetHalfOpened:  {Name: "target_breaker_half_opened_total", Help: "How often the target's breaker let probes through.", Counter: true, Labels: target},
		figureTargetClosed:      {Name: "target_breaker_closed_total", Help: "How often the target's breaker closed.", Counter: true, Labels: target},
		figureTargetEjections:   {Name: "target_ejections_total", Help: "How often the target was ejected.", Counter: true, Labels: target},
		figureTargetMoved:       {Name: "target_moved_total", Help: "Requests that left a connection they shared, and were sent once more, on one of their own.", Counter: true, Labels: target},

		figureLimitRefused:     {Name: "limit_refused_total", Help: "Requests that the limit refused.", Counter: true, Labels: []string{"limit"}},
		figureLimitShadowed:    {Name: "limit_shadowed_total", Help: "Requests that the limit, a shadow, would have refused.", Counter: true, Labels: []string{"limit"}},
		figureLimitDegraded:    {Name: "limit_degraded_total", Help: "Requests for which the limit's on_store_error held: Redis did not decide.", Counter: true, Labels: []string{"limit"}},
		figureStoreUp:          {Name: "limit_store_up", Help: "1 if Redis decides on the limits that are its, else 0; none without such limits."},
		figureStoreAsked:       {Name: "limit_store_asked_total", Help: "Questions about limits to Redis.", Counter: true},
		figureStoreFailed:      {Name: "limit_store_failed_total", Help: "Those of them that it did not answer in time, or not well.", Counter: true},
		figureStoreLost:        {Name: "limit_store_lost_total", Help: "Requests that Redis was to be given back, and could not be.", Counter: true},
		figureLimiterKeys:      {Name: "limiter_keys", Help: "Buckets that are not full, of all limits."},
		figureLimiterCapacity:  {Name: "limiter_capacity", Help: "Buckets that there is memory for."},
		figureLimiterEvictions: {Name: "limiter_evictions_total", Help: "Buckets, nearly full, that were forgotten to make room.", Counter: true},
		figureLimiterOverflow:  {Name: "limiter_overflow_total", Help: "Requests counted in a shared bucket for want of room.", Counter: true},
		figureQueued:           {Name: "limiter_queued", Help: "Requests that wait for their turn in a leaky bucket."},

		figureAuthUsable:       {Name: "auth_usable", Help: "1 if the method can judge credentials at present, else 0.", Labels: []string{"method"}},
		figureAuthKeys:         {Name: "auth_keys", Help: "Keys that the method knows: an issuer's, or API keys of a file, or those remembered of Redis.", Labels: []string{"method"}},
		figureAuthAccepted:     {Name: "auth_tokens_accepted_total", Help: "Tokens found good, by how: remembered or verified.", Counter: true, Labels: []string{"method", "how"}},
		figureAuthRefused:      {Name: "auth_tokens_refused_total", Help: "Tokens found bad.", Counter: true, Labels: []string{"method"}},
		figureAuthFetched:      {Name: "auth_keys_last_success_timestamp_seconds", Help: "When an issuer's keys were last fetched.", Labels: []string{"method"}},
		figureRevocations:      {Name: "revocations", Help: "Revocations in force."},
		figureAccessLines:      {Name: "access_log_lines_total", Help: "Lines of the access log that were written.", Counter: true},
		figureAccessDropped:    {Name: "access_log_dropped_total", Help: "Lines of the access log that were lost: its output was full or did not keep up.", Counter: true},
		figureRevocationsKnown: {Name: "revocations_known", Help: "0 until a shared store has said who is revoked: nobody is accepted; else 1."},

		figureSpans:          {Name: "trace_spans_total", Help: "Spans of sampled requests, by result: exported, failed or dropped.", Counter: true, Labels: []string{"result"}},
		figureOffencesMissed: {Name: "offences_missed_total", Help: "Refused or slow requests that were left out of the status's offenders.", Counter: true},
	}
	clusterFamilies(&families)
	return families[:]
}

// clusterFamilies are those of a gateway's place among others.
func clusterFamilies(families *[figures]telemetry.Family) {
	peer, direction := []string{"peer"}, []string{"direction"}
	families[figurePeers] = telemetry.Family{Name: "cluster_peers", Help: "Other gateways of the cluster, by state: alive or silent.", Labels: []string{"state"}}
	families[figurePeerTrip] = telemetry.Family{Name: "cluster_peer_round_trip_seconds", Help: "Time to the peer and back.", Labels: peer}
	families[figurePeerLoss] = telemetry.Family{Name: "cluster_peer_loss_ratio", Help: "Share of the peer's packets that did not arrive, of late.", Labels: peer}
	families[figurePeerLag] = telemetry.Family{Name: "cluster_peer_lag_seconds", Help: "Time since the peer was last heard of.", Labels: peer}
	families[figureGossipFrames] = telemetry.Family{Name: "cluster_packets_total", Help: "Packets of gossip, by direction: in or out.", Counter: true, Labels: direction}
	families[figureGossipBytes] = telemetry.Family{Name: "cluster_bytes_total", Help: "Bytes of gossip, by direction: in or out.", Counter: true, Labels: direction}
	families[figureGossipDropped] = telemetry.Family{Name: "cluster_dropped_total", Help: "Packets of gossip that were not taken, by reason.", Counter: true, Labels: []string{"reason"}}
	families[figureGossipExcess] = telemetry.Family{Name: "cluster_excess_tokens_total", Help: "Tokens taken together beyond shared limits, as far as this gateway has seen.", Counter: true}
}

// emit tells one figure.
type emit func(figure int, value float64, labels ...string)

// report tells all figures as they are now.
func (e *Engine) report(tell func(figure int, value float64, labels ...string)) {
	now, snap := time.Now(), e.snapshot.Load()
	ready, _ := e.Ready()
	status := e.configStatus(snap)
	tell(figureBuild, 1, e.options.Version, runtime.Version())
	tell(figureReady, truth(ready))
	tell(figureConfig, 1, status.Hash)
	tell(figureConfigLoaded, seconds(status.Loaded))
	tell(figureReloads, float64(status.Reloads), "ok")
	tell(figureReloads, float64(status.Failures), "failed")
	tell(figureConnections, float64(e.conns.count()))
	tell(figureAccepted, float64(e.connected.Load()))
	if snap.certs != nil {
		for name, end := range snap.certs.NotAfter() {
			tell(figureCertificateExpiry, seconds(end), name)
		}
	}
	reportUpstreams(tell, snap.upstreamStatuses(now.Sub(e.started)))
	e.reportLimits(tell)
	if s := e.clusterStatus(snap.file); s != nil {
		reportCluster(tell, s)
	}
	for _, m := range snap.methodStates(now) {
		reportMethod(tell, m)
	}
	tell(figureRevocations, float64(e.revocations.list.Len()))
	tell(figureRevocationsKnown, truth(!e.revocations.unknown.Load()))
	written, dropped := e.access.Counts()
	tell(figureAccessLines, float64(written))
	tell(figureAccessDropped, float64(dropped))
	tell(figureSpans, float64(e.spans.Exported()), "exported")
	tell(figureSpans, float64(e.spans.Failed()), "failed")
	tell(figureSpans, float64(e.spans.Dropped()), "dropped")
	tell(figureOffencesMissed, float64(e.offenders.Missed()))
}

func reportUpstreams(tell emit, upstreams []UpstreamStatus) {
	for _, u := range upstreams {
		tell(figureRetries, float64(u.Retries), u.Name)
		tell(figureRetriesRefused, float64(u.Refused), u.Name)
		tell(figureBusy, float64(u.Busy), u.Name)
		tell(figureWaiting, float64(u.Waiting), u.Name)
		tell(figureUnresolved, float64(len(u.Names)), u.Name)
		for _, t := range u.Targets {
			tell(figureTargetPresent, truth(t.Present), u.Name, t.Name, t.Address)
			if t.Health != "" {
				tell(figureTargetHealthy, truth(t.Health == "healthy"), u.Name, t.Name, t.Address)
			}
			tell(figureTargetBreaker, map[string]float64{"half-open": 1, "open": 2}[t.Breaker], u.Name, t.Name, t.Address)
			tell(figureTargetInFlight, float64(t.InFlight), u.Name, t.Name, t.Address)
			tell(figureTargetConnections, float64(t.Connections-t.Idle), u.Name, t.Name, t.Address, "active")
			tell(figureTargetConnections, float64(t.Idle), u.Name, t.Name, t.Address, "idle")
			tell(figureTargetRequests, float64(t.Requests), u.Name, t.Name, t.Address)
			tell(figureTargetFailures, float64(t.Failures), u.Name, t.Name, t.Address)
			tell(figureTargetOpened, float64(t.Opened), u.Name, t.Name, t.Address)
			tell(figureTargetHalfOpened, float64(t.HalfOpened), u.Name, t.Name, t.Address)
			tell(figureTargetClosed, float64(t.Closed), u.Name, t.Name, t.Address)
			tell(figureTargetEjections, float64(t.Ejections), u.Name, t.Name, t.Address)
			tell(figureTargetMoved, float64(t.Moved), u.Name, t.Name, t.Address)
		}
	}
}

func (e *Engine) reportLimits(tell emit) {
	for _, l := range e.Limits() {
		tell(figureLimitRefused, float64(l.Refused), l.Name)
		tell(figureLimitShadowed, float64(l.WouldRefuse), l.Name)
		tell(figureLimitDegraded, float64(l.Degraded), l.Name)
	}
	if s := e.LimitStore(); s != nil {
		tell(figureStoreUp, truth(s.Up))
		tell(figureStoreAsked, float64(s.Asked))
		tell(figureStoreFailed, float64(s.Failed))
		tell(figureStoreLost, float64(s.Lost))
	}
	table := e.LimitTable()
	tell(figureLimiterKeys, float64(table.Live))
	tell(figureLimiterCapacity, float64(table.Capacity))
	tell(figureLimiterEvictions, float64(table.Evictions))
	tell(figureLimiterOverflow, float64(table.Overflowed))
	tell(figureQueued, float64(e.turns.waiting.Load()))
}

func reportCluster(tell emit, s *ClusterStatus) {
	states := map[string]int{"alive": 0, "silent": 0}
	for _, p := range s.Peers {
		states[p.State]++
		tell(figurePeerTrip, p.RTT/1e3, p.Name)
		tell(figurePeerLoss, p.Loss, p.Name)
		tell(figurePeerLag, p.Lag/1e3, p.Name)
	}
	for _, state := range []string{"alive", "silent"} {
		tell(figurePeers, float64(states[state]), state)
	}
	tell(figureGossipFrames, float64(s.FramesIn), "in")
	tell(figureGossipFrames, float64(s.FramesOut), "out")
	tell(figureGossipBytes, float64(s.BytesIn), "in")
	tell(figureGossipBytes, float64(s.BytesOut), "out")
	for reason, n := range s.Dropped {
		tell(figureGossipDropped, float64(n), reason)
	}
	tell(figureGossipExcess, float64(s.Excess))
}

func reportMethod(tell emit, m MethodState) {
	tell(figureAuthUsable, truth(m.Usable), m.Name)
	tell(figureAuthKeys, float64(m.Keys), m.Name)
	tell(figureAuthAccepted, float64(m.Remembered), m.Name, "remembered")
	tell(figureAuthAccepted, float64(m.Verified), m.Name, "verified")
	tell(figureAuthRefused, float64(m.Refused), m.Name)
	if !m.LastSuccess.IsZero() {
		tell(figureAuthFetched, seconds(m.LastSuccess), m.Name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a moment as Prometheus writes it.
func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1e3 }
