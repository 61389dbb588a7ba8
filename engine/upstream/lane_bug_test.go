package upstream

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// buggy is a connection that panics when it is read, or written.
type buggy struct {
	net.Conn
	reads, writes bool
}

func (b buggy) Read(p []byte) (int, error) {
	if b.reads {
		panic("a bug in reading")
	}
	return b.Conn.Read(p)
}

func (b buggy) Write(p []byte) (int, error) {
	if b.writes {
		panic("a bug in writing")
	}
	return b.Conn.Write(p)
}

// bugs is a lender whose first connection is buggy.
type bugs struct {
	*pipes
	first   buggy
	dialled atomic.Bool
}

func (b *bugs) Acquire(deadline time.Time) (*Conn, error) {
	c, err := b.pipes.Acquire(deadline)
	if !b.dialled.Swap(true) && err == nil {
		if !b.first.reads && !b.first.writes {
			_ = c.Conn.Close()
			panic("a bug in dialling")
		}
		b.first.Conn = c.Conn
		c.Conn = b.first
	}
	return c, err
}

// TestLaneBug: a bug that is met in a lane costs the requests that are in it, and not the process.
func TestLaneBug(t *testing.T) {
	for intent, first := range map[string]buggy{
		"while it connects": {}, "while it reads": {reads: true}, "while it writes": {writes: true},
	} {
		t.Run(intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLaneTest(8, func(c *pipeEnd) {
					for r := range c.requests {
						if _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n"+r.nonce); err != nil {
							return
						}
					}
				})
				defer l.end()
				l.lanes.lender = &bugs{pipes: l.pipes, first: first}
				told := 0
				l.lanes.panicked = func(any) { told++ }
				if status, _, err := l.ask("GET", "1", time.Time{}); err == nil {
					t.Errorf("answered %d", status)
				} else if e := (*Error)(nil); err != ErrMoved && !errors.As(err, &e) {
					t.Errorf("failed with %v", err)
				}
				synctest.Wait()
				if told != 1 {
					t.Errorf("told %d times", told)
				}
				if status, body, err := l.ask("GET", "2", time.Time{}); status != 200 || body != "2" || err != nil {
					t.Errorf("the next request: %d %q, %v", status, body, err)
				}
			})
		})
	}
}
