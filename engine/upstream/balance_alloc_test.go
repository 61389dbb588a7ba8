//go:build !race

package upstream

import (
	"testing"
	"time"
)

func TestPickPolicyAllocations(t *testing.T) {
	for _, p := range policies() {
		for _, avoid := range []int{-1, 3} {
			tb := crowded(t, p, 16, true)
			for i := range 12 {
				tb.seats[i].leave()
				if i%2 == 0 {
					tb.seats[i].comeBack(time.Hour)
				}
			}
			if n := testing.AllocsPerRun(500, func() { tb.choose(time.Hour+time.Second, avoid) }); n != 0 {
				t.Errorf("%s, avoiding %d: %v allocations", p, avoid, n)
			}
		}
	}
}
