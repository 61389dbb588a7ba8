package engine

// tracing is [tracing], as requests use it.
type tracing struct {
	share  uint64 // of telemetry.Share
	header string // that carries the trace id; empty: none does
}
