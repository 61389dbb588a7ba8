package upstream

import (
	"testing"

	"pgregory.net/rapid"
)

func poolOf(t testing.TB, weights ...int) *Pool {
	t.Helper()
	c := Config{Name: "test"}
	for range weights {
		c.Targets = append(c.Targets, TargetConfig{Address: "127.0.0.1:1"})
	}
	for i, w := range weights {
		c.Targets[i].Weight = w
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRoundIsFairAndSmooth: in any whole round each target has exactly its share, and between two turns
// of a target no other one has more turns than its weight asks for.
func TestRoundIsFairAndSmooth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 6).Draw(t, "weights")
		round, err := smoothRound(weights)
		if err != nil {
			t.Fatal(err)
		}
		count := make([]int, len(weights))
		for _, i := range round {
			count[i]++
		}
		for i, w := range weights {
			for j, v := range weights {
				if count[i]*v != count[j]*w {
					t.Fatalf("weights %v give %v", weights, count)
				}
			}
		}
		for i := range weights {
			if count[i] > 0 && longestGap(round, i) > 2*(len(round)/count[i])+1 {
				t.Fatalf("weights %v: target %d waits %d turns in %v", weights, i, longestGap(round, i), round)
			}
		}
	})
}

func longestGap(round []uint16, target int) int {
	gap, longest := 0, 0
	for range 2 {
		for _, i := range round {
			gap++
			if int(i) == target {
				longest = max(longest, gap)
				gap = 0
			}
		}
	}
	return longest
}

func TestRoundRefuses(t *testing.T) {
	if _, err := smoothRound([]int{1, -1}); err == nil {
		t.Error("a negative weight is accepted")
	}
	if _, err := smoothRound([]int{maxSchedule, 1}); err == nil {
		t.Error("a round without bound is accepted")
	}
	if round, err := smoothRound([]int{10 * maxSchedule, 10 * maxSchedule}); err != nil || len(round) != 2 {
		t.Errorf("equal weights need a round of two, not %d: %v", len(round), err)
	}
}

func TestPick(t *testing.T) {
	p := poolOf(t, 1, 2, 0)
	counts := map[*Target]int{}
	for range 300 {
		target, err := p.Pick(nil)
		if err != nil {
			t.Fatal(err)
		}
		counts[target]++
	}
	if counts[p.targets[0]] != 100 || counts[p.targets[1]] != 200 {
		t.Errorf("weights 1 and 2 share 300 requests as %d and %d", counts[p.targets[0]], counts[p.targets[1]])
	}
	for range 10 {
		if target, _ := p.Pick(p.targets[1]); target == p.targets[1] {
			t.Error("the target to avoid was picked, with another one there")
		}
	}
	alone := poolOf(t, 1)
	if target, err := alone.Pick(alone.targets[0]); err != nil || target != alone.targets[0] {
		t.Error("the only target is better than none")
	}
	if _, err := poolOf(t, 0).Pick(nil); err != ErrNoTarget {
		t.Errorf("a drained pool gives %v", err)
	}
}

func TestPickDoesNotAllocate(t *testing.T) {
	p := poolOf(t, 3, 1)
	if n := testing.AllocsPerRun(100, func() { _, _ = p.Pick(nil) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPick(b *testing.B) {
	p := poolOf(b, 3, 2, 1)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = p.Pick(nil)
	}
}
