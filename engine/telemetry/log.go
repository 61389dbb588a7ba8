// Package telemetry is what the gateway tells of itself: its own log, and of every exchange, once, a Record, from which
// metrics, the access log, traces and the lists of offenders are made. It knows nothing of the gateway's other rooms.
package telemetry

import (
	"fmt"
	"io"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"
)

// Log is the gateway's own log. Its level can be changed while loggers made from it are in use.
type Log struct {
	out   zerolog.LevelWriter
	level atomic.Int32
}

// NewLog writes to w in the format of [log]: one JSON object a line, or text for people, colored if
// color.
func NewLog(w io.Writer, format string, color bool) *Log {
	if format == "console" {
		w = zerolog.ConsoleWriter{Out: w, NoColor: !color, TimeFormat: time.RFC3339}
	}
	return &Log{out: zerolog.MultiLevelWriter(w)}
}

// SetLevel sets the least severity written: debug, info, warn or error.
func (l *Log) SetLevel(level string) error {
	parsed, err := zerolog.ParseLevel(level)
	if err != nil {
		return fmt.Errorf("cannot set log level %q: %w", level, err)
	}
	l.level.Store(int32(parsed))
	return nil
}

// Logger makes a logger that writes to this log. It is safe for concurrent use.
func (l *Log) Logger() zerolog.Logger {
	return zerolog.New(l).With().Timestamp().Logger()
}

// Write writes a line that has no level.
func (l *Log) Write(p []byte) (int, error) { return l.out.Write(p) }

// WriteLevel writes a line if its level is severe enough.
func (l *Log) WriteLevel(level zerolog.Level, p []byte) (int, error) {
	if int32(level) < l.level.Load() {
		return len(p), nil
	}
	return l.out.WriteLevel(level, p)
}
