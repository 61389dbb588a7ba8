//go:build !race

package engine

import (
	"runtime"
	"testing"
)

// TestAuthenticatedAllocations holds an exchange with a key or a token that is remembered to no more than a
// public one.
func TestAuthenticatedAllocations(t *testing.T) {
	g, requests := authenticated(t)
	for name, request := range requests {
		t.Run(name, func(t *testing.T) {
			client := dial(t, g.address)
			answer := make([]byte, expectPasses(t, client, request))
			run := func(n int) {
				for range n {
					if err := client.exchange(request, answer); err != nil {
						t.Fatal(err)
					}
				}
			}
			run(200)
			const rounds = 2000
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			run(rounds)
			runtime.ReadMemStats(&after)
			if per := float64(after.Mallocs-before.Mallocs) / rounds; per > 0.1 {
				t.Errorf("%.2f allocations per request", per)
			}
		})
	}
}
