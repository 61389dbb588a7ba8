package upstream

import (
	"io"
	"testing"
	"time"
)

// TestInTime: an answer that is there when its time is over counts, though nobody had a processor to read it before; one
// that is not there does not, and one that comes in dribs not for ever.
func TestInTime(t *testing.T) {
	for _, row := range []struct {
		intent, there string
		ok            bool
	}{
		{"all of it is there", goodAnswer, true},
		{"nothing is there", "", false},
		{"a part of it is there", goodAnswer[:20], false},
	} {
		below, far := polledPair(t)
		defer far.Close()
		if _, err := io.WriteString(far, row.there); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool { return row.there == "" || !below.Quiet() })
		c := newConn(below, below, &readers{})
		if _, err := c.Receive([]byte("GET"), time.Now().Add(-time.Second)); row.ok != (err == nil) || !row.ok && !isTimeout(err) {
			t.Errorf("%s: %v", row.intent, err)
		}
		_ = c.Close()
	}
}
