package gossip

import (
	"slices"

	"github.com/sluice-gateway/sluice/limiter"
)

// sorter puts deltas of a rule and window beside each other, and keeps their order otherwise.
type sorter struct {
	groups []limiter.Delta // one of each
	counts []int
	which  []uint8
	sorted []limiter.Delta
}

// maxGroups is how many rules and windows are told apart; those beyond cost a head each time they alternate.
const maxGroups = 64

func (s *sorter) sort(deltas []limiter.Delta) []limiter.Delta {
	s.groups, s.counts, s.which = s.groups[:0], s.counts[:0], s.which[:0]
	at := 0
	for i := range deltas {
		d := &deltas[i]
		if at >= len(s.groups) || !alike(&s.groups[at], d) {
			at = s.find(d)
		}
		s.counts[at]++
		s.which = append(s.which, uint8(at))
	}
	if len(s.groups) < 2 {
		return deltas
	}
	sum := 0
	for i, n := range s.counts {
		s.counts[i] = sum
		sum += n
	}
	s.sorted = slices.Grow(s.sorted[:0], len(deltas))[:len(deltas)]
	for i := range deltas {
		s.sorted[s.counts[s.which[i]]] = deltas[i]
		s.counts[s.which[i]]++
	}
	return s.sorted
}

func (s *sorter) find(d *limiter.Delta) int {
	for i := range s.groups {
		if alike(&s.groups[i], d) {
			return i
		}
	}
	if len(s.groups) == maxGroups {
		return maxGroups - 1
	}
	s.groups = append(s.groups, limiter.Delta{Rule: d.Rule, Window: d.Window, Own: d.Own})
	s.counts = append(s.counts, 0)
	return len(s.groups) - 1
}
