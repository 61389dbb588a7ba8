package engine

import (
	"io"
	"runtime"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/telemetry"
)

// newAccessLog makes the access log of an engine, which outlives every snapshot.
func (e *Engine) newAccessLog() *telemetry.AccessLog {
	return telemetry.NewAccessLog(telemetry.AccessOptions{
		Random: e.random, Processors: runtime.GOMAXPROCS(0), Report: e.logAccessTrouble,
	})
}

// openAccessLog opens what a file of configuration wants to log to, if that is not what last has open.
func (e *Engine) openAccessLog(last *snapshot, file *config.File) (*telemetry.AccessOutput, error) {
	if last != nil && last.file.Log.Access == file.Log.Access {
		return nil, nil
	}
	stdout := e.options.Stdout
	if stdout == nil {
		stdout = io.Discard
	}
	return telemetry.OpenAccessOutput(file.Log.Access, stdout)
}

// ReopenLogs opens the access log again if it is a file, as after that was renamed.
func (e *Engine) ReopenLogs() { e.access.Reopen() }

func (e *Engine) logAccessTrouble(t telemetry.AccessTrouble, dropped uint64) {
	switch {
	case t.Err != nil:
		e.log.Error().Err(t.Err).Uint64("dropped", dropped).Msg("access log: trouble")
	case t.Stalled:
		e.log.Error().Uint64("dropped", dropped).Msg("access log: its output does not keep up, lines are dropped")
	default:
		e.log.Info().Uint64("dropped", dropped).Msg("access log: written again")
	}
}
