package limiter

import (
	"testing"
	"time"
)

// Of a rate of some tokens a day, of which requests cost many, it takes months to know that a node gets too little.
func TestDoubtTakesItsTime(t *testing.T) {
	spec := Spec{Name: "s", Rate: Rate{1, 24 * time.Hour}, Burst: 1_000_000, Cost: 10_000, Shared: true}
	l, rules := newFleet(t, 7, spec)
	now, passed := time.Hour, 0
	l.Fleet(now, alive(7))
	name := rules[0].base.policy.Load().rule
	tell := func(units, demand uint32) []Delta {
		return []Delta{{Key: 7, Rule: name, Units: units, Demand: demand}}
	}
	l.Restore(now, 0, tell(1_000_000, 0))
	for i := range 4000 {
		for range 3 {
			if !takeOne(l, rules[0], 7, now).Refused {
				passed++
			}
		}
		now += 50 * time.Millisecond
		l.Acknowledge(now, drainAll(l, now))
		units := uint32(0) // so that the peer's use is at times averaged to what the rate grants
		if i%200 == 0 {
			units = 1
		}
		l.Merge(now, 0, 0, tell(units, 180_000))
		l.Restore(now, 0, tell(900_000, 0))
	}
	if passed > 0 {
		t.Errorf("within %v, %d requests passed of an empty bucket", now-time.Hour, passed)
	}
}
