package upstream

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// outcome is how a request of a laneTest ended, and when.
type outcome struct {
	status int
	body   string
	err    error
	took   time.Duration
}

// together asks n times, a microsecond apart, so that the requests are in one lane in their order.
func (l *laneTest) together(n int) []outcome {
	all := make([]outcome, n)
	begun := time.Now()
	done := make(chan struct{})
	for i := range n {
		go func() {
			time.Sleep(time.Duration(i) * time.Microsecond)
			o := &all[i]
			o.status, o.body, o.err = l.ask("GET", fmt.Sprintf("n%d", i), time.Time{})
			o.took = time.Since(begun).Truncate(5 * time.Millisecond)
			done <- struct{}{}
		}()
	}
	for range n {
		<-done
	}
	return all
}

// firstly serves the first connection by a script, and all others well.
func firstly(script func(c *pipeEnd)) func(c *pipeEnd) {
	first := make(chan struct{}, 1)
	first <- struct{}{}
	return func(c *pipeEnd) {
		select {
		case <-first:
			time.Sleep(time.Millisecond) // they are all there
			script(c)
			for range c.requests { // until the gateway closes it
			}
		default:
			well(c)
		}
	}
}

// TestLaneRows: what becomes of requests that are in a lane together, whose connection does what each row says.
func TestLaneRows(t *testing.T) {
	write := func(c *pipeEnd, p []byte) { _, _ = c.Write(p) }
	for _, row := range []struct {
		intent string
		script func(c *pipeEnd)
		ends   string // "200", "cut", "moved", "raced", "failed", "malformed", "late", each with when, in milliseconds, if not at once
		kept   int    // connections that were given back for others
	}{
		{"all are answered", func(c *pipeEnd) {
			for range 3 {
				write(c, answerTo(<-c.requests, 1))
			}
		}, "200 200 200", 0},
		{"the second is slow: the third does not wait for it", func(c *pipeEnd) {
			write(c, answerTo(<-c.requests, 1))
			r := <-c.requests
			time.Sleep(200 * time.Millisecond)
			write(c, answerTo(r, 1))
		}, "200 200@200 moved@20", 0},
		{"the third is slow: nobody waits for it", func(c *pipeEnd) {
			write(c, answerTo(<-c.requests, 1))
			write(c, answerTo(<-c.requests, 1))
			r := <-c.requests
			time.Sleep(200 * time.Millisecond)
			write(c, answerTo(r, 1))
		}, "200 200 200@200", 1},
		{"the second is never answered", func(c *pipeEnd) { write(c, answerTo(<-c.requests, 1)) }, "200 late@5000 moved@20", 0},
		{"the first body stops half way: it streams alone", func(c *pipeEnd) {
			answer := answerTo(<-c.requests, 10)
			write(c, answer[:len(answer)-10])
			time.Sleep(100 * time.Millisecond)
			write(c, answer[len(answer)-10:])
		}, "200@100 moved@20 moved@40", 0},
		{"each answer takes a while, but not long", func(c *pipeEnd) {
			for range 3 {
				r := <-c.requests
				time.Sleep(15 * time.Millisecond)
				write(c, answerTo(r, 1))
			}
		}, "200@15 200@30 200@45", 0},
		{"the first is large", func(c *pipeEnd) { write(c, answerTo(<-c.requests, 50_000)) }, "200 moved moved", 0},
		{"the last is large", func(c *pipeEnd) {
			write(c, answerTo(<-c.requests, 1))
			write(c, answerTo(<-c.requests, 1))
			write(c, answerTo(<-c.requests, 50_000))
		}, "200 200 200", 1},
		{"the last is chunked", func(c *pipeEnd) {
			write(c, answerTo(<-c.requests, 1))
			write(c, answerTo(<-c.requests, 1))
			write(c, chunkedTo(<-c.requests))
		}, "200 200 200", 1},
		{"the first says that it is the last", func(c *pipeEnd) {
			write(c, []byte(strings.Replace(string(answerTo(<-c.requests, 1)), "X-", "Connection: close\r\nX-", 1)))
		}, "200 moved moved", 0},
		{"the first is of HTTP/1.0", func(c *pipeEnd) {
			write(c, []byte(strings.Replace(string(answerTo(<-c.requests, 1)), "1.1", "1.0", 1)))
		}, "200 moved moved", 0},
		{"it closes before it answers", func(c *pipeEnd) { <-c.requests; c.Close() }, "failed moved moved", 0},
		{"it closes after the first answer", func(c *pipeEnd) { write(c, answerTo(<-c.requests, 1)); c.Close() }, "200 raced moved", 0},
		{"it closes in the second head", func(c *pipeEnd) {
			write(c, answerTo(<-c.requests, 1))
			write(c, answerTo(<-c.requests, 1)[:20])
			c.Close()
		}, "200 failed moved", 0},
		{"it closes in the second body", func(c *pipeEnd) {
			write(c, answerTo(<-c.requests, 1))
			a := answerTo(<-c.requests, 1)
			write(c, a[:len(a)-1])
			c.Close()
		}, "200 cut moved", 0},
		{"the second is no answer", func(c *pipeEnd) {
			write(c, answerTo(<-c.requests, 1))
			write(c, []byte("SSH-2.0-x\r\n\r\n"))
		}, "200 malformed moved", 0},
		{"hints without end", func(c *pipeEnd) { write(c, []byte(manyInterim())) }, "malformed moved moved", 0},
		{"an answer after hints", func(c *pipeEnd) {
			for range 3 {
				write(c, []byte("HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n"))
				write(c, answerTo(<-c.requests, 1))
			}
		}, "200 200 200", 0},
		{"it switches protocols unasked", func(c *pipeEnd) {
			<-c.requests
			write(c, []byte("HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n"))
		}, "101 moved moved", 0},
	} {
		t.Run(row.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLaneTest(8, firstly(row.script))
				all := l.together(3)
				synctest.Wait()
				kept := len(l.released)
				l.end()
				var ends []string
				for _, o := range all {
					ends = append(ends, o.String())
				}
				if got := strings.Join(ends, " "); got != row.ends || kept != row.kept {
					t.Errorf("ended as %q, %d kept; want %q, %d\n%v", got, kept, row.ends, row.kept, all)
				}
			})
		})
	}
}

func (o outcome) String() string {
	end := fmt.Sprint(o.status)
	var e *Error
	switch {
	case o.err == nil:
	case o.err == ErrMoved:
		end = "moved"
	case errors.Is(o.err, io.ErrUnexpectedEOF) && o.status > 0:
		end = "cut"
	case !errors.As(o.err, &e):
		end = o.err.Error()
	case e.Timeout():
		end = "late"
	case e.Malformed():
		end = "malformed"
	case errors.Is(o.err, errRaced):
		end = "raced"
	default:
		end = "failed"
	}
	if o.took > 0 {
		end += fmt.Sprintf("@%d", o.took.Milliseconds())
	}
	return end
}
