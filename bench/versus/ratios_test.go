package versus

import (
	"os"
	"slices"
	"testing"
)

const (
	rounds = 5

	// The goals of the router: times faster than httprouter on the GitHub routes, and times slower with
	// a hundred thousand routes than with a hundred. slack forgives a noisy machine.
	fasterThanHTTPRouter = 2.0
	slowerWithAllRoutes  = 3.0
	slack                = 1.15
)

// contender is one library loaded with one set, and its times in nanoseconds per lookup.
type contender struct {
	library, set string
	find         lookup
	requests     []request
	times        []float64
}

func (c *contender) median() float64 {
	sorted := slices.Sorted(slices.Values(c.times))
	return sorted[len(sorted)/2]
}

// TestRatios times all contenders in rounds, each of them once a round, so that a busy machine slows all
// alike, and prints medians. It runs if SLUICE_RATIOS is "print" or "assert".
func TestRatios(t *testing.T) {
	mode := os.Getenv("SLUICE_RATIOS")
	if mode == "" {
		t.Skip("set SLUICE_RATIOS to print or assert")
	}
	contenders := loadContenders(t)
	for range rounds {
		for _, c := range contenders {
			result := testing.Benchmark(func(b *testing.B) { timeLookups(b, c.find, c.requests) })
			c.times = append(c.times, float64(result.T.Nanoseconds())/float64(result.N))
		}
	}
	medians := map[[2]string]float64{}
	for _, c := range contenders {
		medians[[2]string{c.library, c.set}] = c.median()
	}
	for _, c := range contenders {
		ours := medians[[2]string{"sluice", c.set}]
		t.Logf("%-15s %-14s %8.1f ns  %5.2f times sluice", c.library, c.set, c.median(), c.median()/ours)
	}
	faster := medians[[2]string{"httprouter", "github"}] / medians[[2]string{"sluice", "github"}]
	slower := medians[[2]string{"sluice", "generated100k"}] / medians[[2]string{"sluice", "generated100"}]
	t.Logf("GitHub routes: %.2f times as fast as httprouter (goal: at least %.1f)", faster, fasterThanHTTPRouter)
	t.Logf("100k routes: %.2f times the time of 100 routes (goal: at most %.1f)", slower, slowerWithAllRoutes)
	if mode == "assert" && (faster*slack < fasterThanHTTPRouter || slower > slowerWithAllRoutes*slack) {
		t.Error("a goal is missed")
	}
}

func loadContenders(t *testing.T) (all []*contender) {
	t.Helper()
	for _, s := range loadSets(t) {
		for _, l := range libraries() {
			if l.holds(s) {
				all = append(all, &contender{library: l.name, set: s.name, find: load(t, l, s), requests: s.requests})
			}
		}
	}
	return all
}
