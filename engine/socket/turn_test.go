package socket

import (
	"os"
	"testing"
	"time"
)

// TestTurn: bytes that have been taken are told from those that were taken before somebody looked, also if they were
// taken in several turns, and if turns took nothing meanwhile.
func TestTurn(t *testing.T) {
	one, other := both(t, startPoller(t), "tcp")
	buffer := make([]byte, 16)
	take := func(pieces ...string) {
		t.Helper()
		for _, piece := range pieces {
			if _, err := other.Write([]byte(piece)); err != nil {
				t.Fatal(err)
			}
			if n, err := one.Read(buffer); string(buffer[:n]) != piece || err != nil {
				t.Fatalf("%q, %v", buffer[:n], err)
			}
		}
	}
	if one.Taken() != 0 {
		t.Error("taken before anything came")
	}
	for range 3 {
		before := one.Turn()
		take("a", "b")
		between := one.Turn()
		take("c")
		if at := one.Taken(); at <= before || at > between {
			t.Errorf("taken in turn %d, want one after %d, and up to %d", at, before, between)
		}
		if at := one.Taken(); at != 0 {
			t.Errorf("taken in turn %d, and nothing was read", at)
		}
		_ = one.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := one.Read(buffer); !os.IsTimeout(err) {
			t.Fatal(err)
		}
		_ = one.SetReadDeadline(time.Time{})
		if at := one.Taken(); at != 0 {
			t.Errorf("taken in turn %d, and nothing came", at)
		}
	}
}
