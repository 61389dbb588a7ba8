package upstream

import (
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestLaneDoubt: a target that answers nobody for a while is asked little twice, and its lane stays; as soon as it
// answers others, all leave the one answer that is slow.
func TestLaneDoubt(t *testing.T) {
	for _, row := range []struct {
		intent string
		stall  time.Duration
		others bool // are answered meanwhile
		moved  string
		opened int
	}{
		{"it answers nobody", 50 * time.Millisecond, false, "moved@20 moved@40 moved@40", 1},
		{"and for long", 200 * time.Millisecond, false, "moved@20 moved@40 moved@40 moved@60 moved@60 moved@60 moved@60", 2},
		{"it answers others", 200 * time.Millisecond, true, "moved@20 moved@20 moved@20 moved@20 moved@20 moved@20 moved@20", 2},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLaneTest(8, firstly(func(c *pipeEnd) {
				time.Sleep(row.stall - time.Millisecond)
				for r := range c.requests {
					_, _ = c.Write(answerTo(r, 1))
				}
			}))
			if row.others {
				time.AfterFunc(22*time.Millisecond, func() { l.answers.Add(1) })
			}
			var moved []string
			for i, o := range l.together(8) {
				switch {
				case o.err == ErrMoved:
					moved = append(moved, o.String())
				case o.err != nil || i == 0 && o.took != row.stall:
					t.Errorf("%s: %d: %v", row.intent, i, o)
				}
			}
			if o := l.together(1)[0]; o.err != nil {
				t.Errorf("%s: then %v", row.intent, o)
			}
			l.end()
			if got := strings.Join(moved, " "); got != row.moved || l.opened != row.opened {
				t.Errorf("%s: %q of %d connections", row.intent, got, l.opened)
			}
		})
	}
}

// TestLaneDoubtTakesNobody: who comes while the answer at the front of a lane is late is served by another lane, and
// that shows that the target answers others; when the answer has come, the lane takes newcomers again.
func TestLaneDoubtTakesNobody(t *testing.T) {
	for _, row := range []struct {
		intent string
		comes  time.Duration
		served time.Duration
		opened int
		moved  int // of those who came first
	}{
		{"before it is late", 15 * time.Millisecond, 35 * time.Millisecond, 1, 1},
		{"while it is late", 30 * time.Millisecond, 30 * time.Millisecond, 2, 2},
		{"after it has come", 37 * time.Millisecond, 37 * time.Millisecond, 1, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLaneTest(8, firstly(func(c *pipeEnd) {
				time.Sleep(34 * time.Millisecond)
				for r := range c.requests {
					_, _ = c.Write(answerTo(r, 1))
				}
			}))
			begun := time.Now()
			var newcomer string
			var at time.Duration
			var opened int
			var all sync.WaitGroup
			all.Go(func() {
				time.Sleep(row.comes)
				o := l.together(1)[0]
				newcomer, at, opened = o.String(), time.Since(begun), l.opened
			})
			moved := 0
			for _, o := range l.together(3) {
				if o.err == ErrMoved {
					moved++
				}
			}
			all.Wait()
			l.end()
			if !strings.HasPrefix(newcomer, "200") || at != row.served || opened != row.opened || moved != row.moved {
				t.Errorf("%s: %s at %v by one of %d lanes, and %d were moved", row.intent, newcomer, at, opened, moved)
			}
		})
	}
}
