//go:build !race

package upstream

import (
	"runtime"
	"testing"
)

// TestLaneAlloc holds an exchange in a lane to no allocation.
func TestLaneAlloc(t *testing.T) {
	all, _ := startLanes(t, 64)
	request, body := []byte(laneRequest), make([]byte, 16)
	all.flood(t, 8, 2000)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 2000
	for range rounds {
		if err := all.exchange(0, request, body); err != nil && err != ErrMoved {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if per := float64(after.Mallocs-before.Mallocs) / rounds; per > 0.1 {
		t.Errorf("%.2f allocations per exchange", per)
	}
}
