package telemetry

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"time"
)

// mostLogLines is how many lines of the gateway's own log wait to be written.
const mostLogLines = 1024

// LogBuffer is between a Log and an output that may stall: a client whose requests fail makes lines, and must not
// make anybody wait for a pipe that nobody reads. Lines for which there is no room are lost and counted. It is safe
// for concurrent use.
type LogBuffer struct {
	out   io.Writer
	lines chan []byte
	lost  atomic.Uint64
}

// NewLogBuffer makes a buffer before out. Nothing is written before Run or Flush.
func NewLogBuffer(out io.Writer) *LogBuffer {
	return &LogBuffer{out: out, lines: make(chan []byte, mostLogLines)}
}

// Write takes a line, or loses it. It never waits and never fails.
func (b *LogBuffer) Write(line []byte) (int, error) {
	select {
	case b.lines <- bytes.Clone(line):
	default:
		b.lost.Add(1)
	}
	return len(line), nil
}

// Run writes lines as they come until ctx ends, and then what is left, unless the output has stalled. report is told,
// one call at a time, how many lines were lost since the last; it may log.
func (b *LogBuffer) Run(ctx context.Context, report func(lost uint64)) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		b.run(ctx, report)
	}()
	<-ctx.Done()
	select {
	case <-ended:
	case <-time.After(flushTime): // it ends with the process
	}
}

func (b *LogBuffer) run(ctx context.Context, report func(lost uint64)) {
	for {
		select {
		case line := <-b.lines:
			_, _ = b.out.Write(line) // there is nowhere to complain
		case <-ctx.Done():
			b.Flush()
			b.tell(report)
			b.Flush()
			return
		}
		if len(b.lines) < mostLogLines/2 { // else what is reported would be lost too
			b.tell(report)
		}
	}
}

func (b *LogBuffer) tell(report func(lost uint64)) {
	if n := b.lost.Swap(0); n > 0 {
		report(n)
	}
}

// Flush writes what waits. It is for when nobody runs the buffer.
func (b *LogBuffer) Flush() {
	for {
		select {
		case line := <-b.lines:
			_, _ = b.out.Write(line)
		default:
			return
		}
	}
}
