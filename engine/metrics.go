package engine

import (
	"runtime"

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
