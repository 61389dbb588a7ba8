package upstream

import (
	"math/rand/v2"
	"testing"
	"time"
)

// TestSpan: the deadline that is set is never later than the one that is wanted, nor much earlier, and what gives up
// before its time goes on until then.
func TestSpan(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	now := time.Unix(1_800_000_000, 0)
	var s span
	var set time.Time // as the socket has it
	moves := 0
	for range 100_000 {
		now = now.Add(time.Duration(random.IntN(int(2 * time.Millisecond))))
		wanted := now.Add(10 * time.Second)
		switch random.IntN(1000) {
		case 0:
			wanted = time.Time{}
		case 1:
			wanted = now.Add(time.Duration(random.IntN(int(time.Second))))
		}
		if s.until(wanted) {
			set = wanted
			moves++
		}
		switch {
		case set.IsZero() != wanted.IsZero():
			t.Fatalf("set %v, wanted %v", set, wanted)
		case set.After(wanted):
			t.Fatalf("set %v later than wanted", set.Sub(wanted))
		case wanted.Sub(set) > spanSlack:
			t.Fatalf("set %v earlier than wanted", wanted.Sub(set))
		}
		if before := set.Equal(wanted); s.early(set) == before {
			t.Fatalf("set as wanted: %v, and told otherwise", before)
		}
		set = s.set
		if s.early(wanted) {
			t.Fatal("goes on after its time")
		}
	}
	if moves > 20_000 {
		t.Errorf("moved %d times", moves)
	}
}
