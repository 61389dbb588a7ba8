package telemetry

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
)

// Nobody waits for an output that stalls: lines for which there is no room are lost, which is told once there is; the
// others come whole and in order, the last ones at the end.
func TestLogBuffer(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	b := NewLogBuffer(out)
	logger := NewLog(b, "json", false).Logger()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.Run(ctx, func(lost uint64) { logger.Warn().Uint64("lost", lost).Msg("lost") })
	}()
	const n = 3 * mostLogLines
	for i := range n { // returns at once, each time: this test's time is up otherwise
		logger.Info().Int("line", i).Msg("some")
		if i == 0 { // the one that stalls: taken later, it would leave room for one that follows others that were lost
			eventually(t, func() bool { return len(b.lines) == 0 })
		}
	}
	close(out.open)
	eventually(t, func() bool { return strings.Contains(strings.Join(out.lines(), ""), `"lost":`) })
	logger.Info().Msg("last")
	cancel()
	<-done
	lines, next := out.lines(), 0
	for _, line := range lines {
		if !strings.Contains(line, `"some"`) {
			continue
		}
		if want := fmt.Sprintf(`"line":%d,`, next); !strings.Contains(line, want) {
			t.Fatalf("%s is not in its place: %s", want, line)
		}
		next++
	}
	if last := lines[len(lines)-1]; !strings.Contains(last, `"last"`) {
		t.Errorf("the last line is %s", last)
	}
	lost := uint64(0)
	for _, line := range lines {
		var some uint64
		if _, rest, ok := strings.Cut(line, `"lost":`); ok {
			_, _ = fmt.Sscan(rest, &some)
			lost += some
		}
	}
	if written := uint64(strings.Count(strings.Join(lines, ""), `"some"`)); written+lost != n {
		t.Errorf("%d lines written and %d told lost, of %d", written, lost, n)
	}
}

// An output that stalls for good holds up the end for a moment only.
func TestLogBufferEndsAlthoughStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &gate{open: make(chan struct{})}
		b := NewLogBuffer(out)
		_, _ = b.Write([]byte("a line\n"))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		b.Run(ctx, func(uint64) {})
		close(out.open)
	})
}
