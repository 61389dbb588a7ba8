package socket

import (
	"io"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sendUrgent sends a byte that the peer is to read before all others, and that reads leave out.
func sendUrgent(t *testing.T, c *Conn) {
	t.Helper()
	var err error
	if c.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte{'!'}, unix.MSG_OOB, nil) }) != nil || err != nil {
		t.Fatal("cannot send an urgent byte: ", err)
	}
}

// TestUrgent: a read stops at an urgent byte, with more to read behind it, and is not taken for one that read all there
// was: not by who reads on, nor by who asks whether the connection is silent.
func TestUrgent(t *testing.T) {
	p := startPoller(t)
	t.Run("read", func(t *testing.T) {
		for range 100 {
			one, other := both(t, p, "tcp")
			_ = one.SetReadDeadline(time.Now().Add(20 * time.Second))
			for _, piece := range []string{"ab", "cd", "ef"} {
				if _, err := other.Write([]byte(piece)); err != nil {
					t.Fatal(err)
				}
				sendUrgent(t, other)
			}
			if _, err := other.Write([]byte("g")); err != nil {
				t.Fatal(err)
			}
			for got, buffer := 0, make([]byte, 64); got < len("abcdefg"); {
				n, err := one.Read(buffer)
				if err != nil {
					t.Fatalf("after %d bytes: %v", got, err)
				}
				got += n
			}
		}
	})
	t.Run("quiet", func(t *testing.T) {
		one, other := both(t, p, "tcp")
		busy, far := both(t, p, "tcp")
		_, _ = other.Write([]byte("ab"))
		sendUrgent(t, other)
		_, _ = other.Write([]byte("cd"))
		if n, err := one.Read(make([]byte, 64)); n != 2 || err != nil {
			t.Fatal(n, err)
		}
		at := p.asked.Load() + 1
		for p.told.Load() < at { // a poller that nothing is told to does not look
			if _, err := far.Write([]byte("z")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(busy, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		if one.Quiet() {
			t.Error("it is taken for quiet, with bytes unread")
		}
	})
}
