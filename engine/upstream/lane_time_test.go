package upstream

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLaneDepth: no connection has more in flight than it may have, and there are no more than that takes.
func TestLaneDepth(t *testing.T) {
	for _, row := range []struct{ depth, requests, connections int }{{1, 5, 5}, {4, 10, 3}, {8, 8, 1}, {8, 9, 2}} {
		synctest.Test(t, func(t *testing.T) {
			got := make(chan int, 100)
			l := newLaneTest(row.depth, func(c *pipeEnd) {
				time.Sleep(10 * time.Millisecond)
				got <- len(c.requests)
				well(c)
			})
			for _, o := range l.together(row.requests) {
				if o.err != nil {
					t.Error(o.err)
				}
			}
			l.end()
			close(got)
			var counts []int
			for n := range got {
				counts = append(counts, n)
			}
			if len(counts) != row.connections || slices.Max(counts) > row.depth {
				t.Errorf("%+v: connections had %v requests", row, counts)
			}
		})
	}
}

// TestLaneLeft: who leaves, or is late, does not get his answer, and nobody else gets it.
func TestLaneLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(8, slowly(10*time.Millisecond))
		results := make(chan string, 4)
		ask := func(name string, deadline time.Duration, leave bool) {
			p := l.place(0)
			if leave {
				time.AfterFunc(5*time.Millisecond, p.Tether().Cut)
			}
			var by time.Time
			if deadline > 0 {
				by = time.Now().Add(deadline)
			}
			status, _, err := l.askBy(p, "GET", name, by)
			results <- name + " " + outcome{status: status, err: err}.String()
		}
		begun := time.Now()
		for i, ask := range []func(){
			func() { ask("n0", 0, false) }, func() { ask("n1", 0, true) }, func() { ask("n2", 25*time.Millisecond, false) }, func() { ask("n3", 0, false) },
		} {
			time.Sleep(time.Duration(i) * time.Microsecond)
			go ask()
		}
		var got []string
		for range 4 {
			got = append(got, fmt.Sprintf("%s@%d", <-results, time.Since(begun).Milliseconds()))
		}
		if want := []string{"n1 failed@5", "n0 200@10", "n2 late@25", "n3 200@40"}; !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		l.end()
		if l.opened != 1 {
			t.Errorf("%d connections were opened", l.opened)
		}
	})
}

// TestLaneLeftAlone: who waits alone for a slow answer, and leaves, takes the connection along.
func TestLaneLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(8, slowly(time.Minute))
		p := l.place(0)
		time.AfterFunc(time.Second, p.Tether().Cut)
		begun := time.Now()
		if _, _, err := l.askBy(p, "GET", "n", time.Time{}); !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		l.work.Wait()
		if took := time.Since(begun); took != time.Second {
			t.Errorf("the connection was closed after %v", took)
		}
		l.end()
	})
}

// TestLaneCutBefore: a place that is cut before the request is in a lane sends none.
func TestLaneCutBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(8, well)
		p := l.place(0)
		p.Tether().Cut()
		p.Tether().Cut()
		if _, _, err := l.askBy(p, "GET", "n", time.Time{}); err == nil || p.Reusable() || l.opened > 0 {
			t.Errorf("%v, reusable %v, %d connections", err, p.Reusable(), l.opened)
		}
		l.end()
	})
}

// TestLaneCutTooLate: a place that found no lane is its exchange's alone, whoever cuts it meanwhile.
func TestLaneCutTooLate(t *testing.T) {
	l := newLaneTest(8, well)
	l.end()
	p := l.place(0)
	if _, err := p.Ask(request("GET", "n"), false, time.Time{}); err != ErrMoved {
		t.Fatal(err)
	}
	var cut sync.WaitGroup
	cut.Go(p.Tether().Cut)
	if !p.Reusable() {
		t.Error("the place is lost")
	}
	cut.Wait()
}

// TestLaneStray: bytes that follow a body whose end was waited for are seen, however few they are.
func TestLaneStray(t *testing.T) {
	for _, stray := range []string{"", "x"} {
		synctest.Test(t, func(t *testing.T) {
			l := newLaneTest(8, func(c *pipeEnd) {
				answer := answerTo(<-c.requests, 1)
				_, _ = c.Write(answer[:len(answer)-1])
				time.Sleep(10 * lateAnswer)
				_, _ = c.Write(append(answer[len(answer)-1:], stray...))
				for range c.requests {
				}
			})
			p := l.place(0)
			r, err := p.Ask(request("GET", "n"), false, time.Time{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(&r.Body); err != nil {
				t.Error(err)
			}
			if got := p.Reusable(); got != (stray == "") {
				t.Errorf("%q: reusable %v", stray, got)
			}
			p.end(nil, false)
			l.end()
		})
	}
}

// TestLaneIdle: a lane ends when nobody has used it for a while, and when the target sends what nobody asked for, or
// closes it.
func TestLaneIdle(t *testing.T) {
	for _, row := range []struct {
		intent string
		then   func(c *pipeEnd)
		after  time.Duration
	}{
		{"nothing happens", func(*pipeEnd) {}, idleConnection},
		{"unasked bytes", func(c *pipeEnd) { time.Sleep(time.Second); _, _ = c.Write([]byte(plainAnswer)) }, time.Second},
		{"a close", func(c *pipeEnd) { time.Sleep(time.Second); c.Close() }, time.Second},
		{"unasked bytes, at once", func(c *pipeEnd) { _, _ = c.Write([]byte(plainAnswer)) }, 0},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLaneTest(8, firstly(func(c *pipeEnd) {
				_, _ = c.Write(answerTo(<-c.requests, 1))
				row.then(c)
			}))
			if o := l.together(1)[0]; o.err != nil {
				t.Fatal(o.err)
			}
			begun := time.Now()
			l.served.Wait()
			if took := time.Since(begun); took != row.after {
				t.Errorf("%s: closed after %v", row.intent, took)
			}
			synctest.Wait()
			if n := l.open(); n != 0 {
				t.Errorf("%s: %d lanes", row.intent, n)
			}
			if o := l.together(1)[0]; o.err != nil || o.body != "n0 " {
				t.Errorf("%s: then %v", row.intent, o)
			}
			l.end()
		})
	}
}

// TestLaneRetire: retired lanes take nobody in, give the answers that are still to come, and end.
func TestLaneRetire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(2, slowly(10*time.Millisecond))
		time.AfterFunc(5*time.Millisecond, l.retire)
		for _, o := range l.together(3) {
			if o.err != nil {
				t.Error(o.err)
			}
		}
		if o := l.together(1)[0]; o.err != ErrMoved {
			t.Errorf("after the end: %v", o)
		}
		l.end()
		if len(l.released) != 2 {
			t.Errorf("%d connections were given back", len(l.released))
		}
	})
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(2, well)
		l.together(1)
		begun := time.Now()
		l.end()
		if took := time.Since(begun); took > 0 {
			t.Errorf("an idle lane took %v to end", took)
		}
	})
}

// TestLaneConnect: all who wait for a connection that cannot be had are told so.
func TestLaneConnect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(4, well)
		l.refuse = true
		for _, o := range l.together(6) {
			var e *Error
			if !errors.As(o.err, &e) || e.Phase != PhaseConnect || !errors.Is(e, io.ErrClosedPipe) {
				t.Error(o.err)
			}
		}
		l.refuse = false
		if o := l.together(1)[0]; o.err != nil {
			t.Error(o.err)
		}
		l.end()
	})
}

// TestLaneShortDeadline: who cannot wait for a lane to connect does not, but opens it for others: one at a time.
func TestLaneShortDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(4, well)
		l.dialling = 100 * time.Millisecond
		for range 3 {
			if _, _, err := l.ask("GET", "n", time.Now().Add(50*time.Millisecond)); err != ErrMoved {
				t.Error(err)
			}
		}
		time.Sleep(200 * time.Millisecond)
		if _, _, err := l.ask("GET", "n", time.Now().Add(50*time.Millisecond)); err != nil || l.opened != 1 {
			t.Errorf("%v, %d connections", err, l.opened)
		}
		l.end()
	})
}

// TestLaneUnkept: where no idle connections are kept, no lane is.
func TestLaneUnkept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLaneTest(4, well)
		l.keep = 0
		for range 3 {
			if o := l.together(1)[0]; o.err != nil {
				t.Error(o.err)
			}
			synctest.Wait()
		}
		l.end()
		if l.opened != 3 || len(l.released) > 0 {
			t.Errorf("%d connections for 3 requests, %d kept", l.opened, len(l.released))
		}
	})
}

// TestLaneSuspension: a target that is slow as a rule is asked twice now and then only, ever more seldom; one that has
// become quick is trusted again.
func TestLaneSuspension(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pause atomic.Int64
		pause.Store(int64(50 * time.Millisecond))
		l := newLaneTest(4, func(c *pipeEnd) {
			for r := range c.requests {
				time.Sleep(time.Duration(pause.Load()))
				if _, err := c.Write(answerTo(r, 1)); err != nil {
					return
				}
			}
		})
		begun, asked := time.Now(), 0
		for time.Since(begun) < 10*time.Minute {
			if l.credit.spent() {
				time.Sleep(time.Second)
				continue
			}
			l.together(4)
			asked += 4
		}
		if moved := int(l.credit.moved.Load()); moved == 0 || asked > 200 {
			t.Errorf("in ten minutes lanes were used for %d requests, of which %d moved", asked, moved)
		}
		pause.Store(0)
		time.Sleep(longSuspension)
		before := l.credit.moved.Load()
		for range 1000 {
			l.together(4)
		}
		if moved := l.credit.moved.Load(); moved > before || l.credit.spent() {
			t.Errorf("%d requests were moved of a quick target", moved-before)
		}
		l.end()
	})
}
