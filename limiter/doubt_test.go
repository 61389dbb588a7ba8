package limiter

import (
	"testing"
	"time"
)

// A peer that tells of a client by another rate than the client has gives it nothing: that is another bucket, of tokens
// that are worth less.
func TestDoubtIsOfOneBucket(t *testing.T) {
	l, rules := newFleet(t, 2, sharedSpec(10, 1000))
	own, other := Rate{10, second}, Rate{1000, second}
	charges, verdicts := []Charge{{Rule: rules[0], Key: 7, Own: own}}, make([]Verdict, 1)
	now, passed := time.Hour, 0
	l.Fleet(now, alive(2))
	l.Take(now, charges, verdicts)
	name := drainAll(l, now)[0].Rule
	tell := func(rate Rate, units uint32) []Delta {
		return []Delta{{Key: 7, Rule: name, Own: rate, Units: units, Demand: 180_000}}
	}
	for range 2 {
		l.Restore(now, 0, tell(own, 1100))
	}
	for i := range uint32(1200) {
		for range 10 {
			if l.Take(now, charges, verdicts) {
				passed++
			}
		}
		now += 50 * time.Millisecond
		l.Acknowledge(now, drainAll(l, now))
		l.Merge(now, 0, 0, tell(own, i%2))
		records := &l.book.Load().records
		if records.all[records.find(7, name)].doubted {
			l.Resolve(now, 0, tell(other, 900))
		} else {
			l.Restore(now, 0, tell(other, 2000))
		}
	}
	if passed > 60*10 {
		t.Errorf("%d passed in a minute of an empty bucket, of 10 a second", passed)
	}
}

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
		l.Resolve(now, 0, tell(900_000, 0))
	}
	if passed > 0 {
		t.Errorf("within %v, %d requests passed of an empty bucket", now-time.Hour, passed)
	}
}
