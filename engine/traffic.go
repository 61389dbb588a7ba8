package engine

import (
	"time"

	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// Traffic is what passed through a route since the start; reloads do not reset it.
type Traffic struct {
	Requests uint64            `json:"requests"` // that ended, each counted once
	InFlight int64             `json:"in_flight"`
	BytesIn  uint64            `json:"bytes_in"`  // from clients, heads included
	BytesOut uint64            `json:"bytes_out"` // to clients, heads included
	Statuses map[string]uint64 `json:"statuses"`  // by class, such as 2xx
	Refusals map[string]uint64 `json:"refusals"`  // answered by the gateway itself, by reason
	Duration Percentiles       `json:"duration"`  // of the last minute, from head to end of answer
	Upstream Percentiles       `json:"upstream"`  // the share of the upstream
	Overhead Percentiles       `json:"overhead"`  // the share of the gateway
}

// Percentiles are in milliseconds.
type Percentiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// newTraffic is the form in which a status tells of traffic.
func newTraffic(t telemetry.Traffic) Traffic {
	told := Traffic{
		Requests: t.Requests, InFlight: t.InFlight, BytesIn: t.BytesIn, BytesOut: t.BytesOut,
		Statuses: map[string]uint64{}, Refusals: t.Refusals,
		Duration: newPercentiles(t.Duration), Upstream: newPercentiles(t.Upstream), Overhead: newPercentiles(t.Overhead),
	}
	for class, n := range t.Statuses {
		if n > 0 {
			told.Statuses[className(class)] = n
		}
	}
	return told
}

func newPercentiles(p telemetry.Percentiles) Percentiles {
	milliseconds := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	return Percentiles{milliseconds(p.P50), milliseconds(p.P95), milliseconds(p.P99)}
}

// className is what statuses are called together: 2xx.
func className(class int) string { return string(rune('0'+class)) + "xx" }

// Offenders are who was most limited, refused and slow, each list in falling order: of the last five to ten minutes.
// Counts are what is certain, of a sketch that never grows.
type Offenders struct {
	Limited []telemetry.Offender `json:"limited"` // 429
	Refused []telemetry.Offender `json:"refused"` // 401, 403
	Slow    []telemetry.Offender `json:"slow"`    // milliseconds spent on their slow requests
}

// toldOffenders is how many of a list are told.
const toldOffenders = 20

func newOffenders(o *telemetry.Offenders, now time.Time) Offenders {
	return Offenders{o.Limited(now, toldOffenders), o.Refused(now, toldOffenders), o.Slow(now, toldOffenders)}
}

// ClusterStatus is how this gateway stands with its peers.
type ClusterStatus struct {
	Name      string            `json:"name"`
	Peers     []PeerStatus      `json:"peers"`
	FramesIn  uint64            `json:"frames_in"`
	FramesOut uint64            `json:"frames_out"`
	BytesIn   uint64            `json:"bytes_in"`
	BytesOut  uint64            `json:"bytes_out"`
	Dropped   map[string]uint64 `json:"dropped"`  // packets, by reason
	Excess    uint64            `json:"excess"`   // tokens taken together beyond shared limits, as far as it was seen here
	Strange   uint64            `json:"strange"`  // what peers told of limits that are not ours, or not the same
	Repaired  uint64            `json:"repaired"` // packets that had to be sent again
	Rules     []string          `json:"rules"`    // the limits that are shared
}

// PeerStatus is another gateway of the cluster.
type PeerStatus struct {
	Name    string  `json:"name"`
	Address string  `json:"address"`
	State   string  `json:"state"`  // alive, silent or gone
	RTT     float64 `json:"rtt_ms"` // round trip
	Loss    float64 `json:"loss"`   // share of its frames that had to be sent again
	Lag     float64 `json:"lag_ms"` // age of what was last heard of it
	Error   string  `json:"error,omitempty"`
}
