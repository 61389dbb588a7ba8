package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"
)

// TestPatience: writes to a peer that takes some now and then go on, for any number of times their patience; they give up
// once the peer takes nothing, and not before their patience is over. What a peer takes need not make room for more: the
// system tells of that only when there is much.
func TestPatience(t *testing.T) {
	const patience = 250 * time.Millisecond
	for _, row := range []struct {
		intent, network string
		takes           int
		write, take     int // bytes at once
	}{
		{"it takes nothing", "tcp", 0, 4 << 20, 0},
		{"each time it takes something there is room", "tcp", 10, 4 << 20, 256 << 10},
		{"there is room, of which nothing tells", "unix", 10, 1 << 10, 4 << 10},
	} {
		t.Run(row.intent, func(t *testing.T) {
			c, far := pair(t, row.network)
			_ = far.(interface{ SetReadBuffer(bytes int) error }).SetReadBuffer(32 << 10)
			c.SetPatience(patience)
			gaveUp := make(chan time.Time, 1)
			go func() {
				var err error
				for piece := make([]byte, row.write); err == nil; {
					_, err = c.Write(piece)
				}
				gaveUp <- time.Now()
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error(err)
				}
			}()
			last := time.Now() // not after it last took something
			for i := 0; i < row.takes && len(gaveUp) == 0; i++ {
				<-time.After(patience / 4)
				last = time.Now()
				if _, err := io.CopyN(io.Discard, far, int64(row.take)); err != nil {
					t.Fatal(err)
				}
			}
			if waited := (<-gaveUp).Sub(last); waited < patience {
				t.Errorf("it gave up %v after the peer took something", waited)
			}
		})
	}
}

// TestBear: a write that has waited too long goes on if the peer has taken some since that was last looked at, be it too
// little for more to be sent.
func TestBear(t *testing.T) {
	for _, takes := range []bool{false, true} {
		c, far := pair(t, "tcp")
		c.SetPatience(time.Millisecond)
		if _, err := c.Write(make([]byte, 8<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		c.SetPatience(time.Minute)
		s := stall{queued: c.queued(), since: time.Now().Add(-time.Hour)}
		for end := time.Now().Add(10 * time.Second); takes && c.queued() >= s.queued; {
			if _, err := io.CopyN(io.Discard, far, 1<<10); err != nil || time.Now().After(end) {
				t.Fatal("nothing is taken: ", err)
			}
		}
		if c.bear(&s) != takes {
			t.Errorf("takes %v: the write goes on %v", takes, !takes)
		}
	}
}

// TestPatienceAndDeadlines: each replaces the other, and what was for one write is not for the next.
func TestPatienceAndDeadlines(t *testing.T) {
	full := make([]byte, 8<<20)
	for _, row := range []struct {
		intent string
		do     func(c *Conn, far net.Conn)
		ends   bool
	}{
		{"patience for a deadline that has passed", func(c *Conn, _ net.Conn) {
			_ = c.SetWriteDeadline(time.Unix(1, 0))
			c.SetPatience(time.Hour)
		}, false},
		{"a deadline for patience", func(c *Conn, _ net.Conn) {
			c.SetPatience(time.Hour)
			_ = c.SetWriteDeadline(time.Unix(1, 0))
		}, true},
		{"no patience", func(c *Conn, far net.Conn) {
			c.SetPatience(time.Millisecond)
			_, _ = c.Write(full)
			c.SetPatience(0)
		}, false},
		{"another patience for one that is over", func(c *Conn, far net.Conn) {
			c.SetPatience(time.Millisecond)
			_, _ = c.Write(full)
			c.SetPatience(time.Hour)
		}, false},
		{"a look that comes after its write", func(c *Conn, _ net.Conn) {
			c.SetPatience(time.Hour)
			_ = c.out.until(time.Unix(1, 0))
		}, false},
	} {
		t.Run(row.intent, func(t *testing.T) {
			c, far := pair(t, "tcp")
			row.do(c, far)
			go func() { _, _ = io.Copy(io.Discard, far) }()
			if _, err := c.Write([]byte("x")); row.ends != errors.Is(err, os.ErrDeadlineExceeded) || !row.ends && err != nil {
				t.Errorf("a write after it: %v", err)
			}
		})
	}
}
