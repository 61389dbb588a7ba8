package limiter

import (
	"sync/atomic"
	"testing"
	"time"
)

// Who has found a slot, and is overtaken by somebody who takes it over, leaves it alone.
func TestDrawFromSlotThatChangedHands(t *testing.T) {
	l, rules := newWithRules(t, 10, bucket("x", 100))
	takeOne(l, rules[0], 1, 0)
	old := l.table.place(rules[0].base, 1)
	s, tag := old.find()
	now := int64(time.Hour)
	for k := Key(2); s.tag.Load() == tag; k++ { // until somebody gets the slot
		takeOne(l, rules[0], k*0x9e3779b97f4a7c15, time.Duration(now))
	}
	word, renamed := s.word.Load(), s.tag.Load()
	v := Verdict{plan: rules[0].base, now: now}
	if v.draw(s, tag, now) || v.taken || s.word.Load() != word || s.tag.Load() != renamed {
		t.Errorf("a token was taken from a stranger")
	}
	v = Verdict{plan: rules[0].base, policy: rules[0].base.policy.Load(), now: now, taken: true, slot: s, tag: tag, value: word, cost: 1}
	if l.GiveBack(time.Duration(now), []Verdict{v}); s.word.Load() != word {
		t.Errorf("a token was given to a stranger")
	}
}

// Who has chosen a slot, and is overtaken by somebody who leaves it with the same word, does not take it.
func TestClaimOfSlotThatChangedHands(t *testing.T) {
	l, rules := newWithRules(t, 10, bucket("x", 100))
	mine := l.table.place(rules[0].base, 1)
	seen := l.table.candidate(&mine, 0)
	takeOne(l, rules[0], 2, 0) // two rows: the same slots for both, in the same order
	if seen.slot.tag.Load() == seen.tag {
		t.Fatal("nobody else came to the slot")
	}
	seen.word = seen.slot.word.Load()
	word, tag := seen.word, seen.slot.tag.Load()
	if _, ok := l.table.claim(&mine, seen, 12345, 0, true); ok || seen.slot.word.Load() != word || seen.slot.tag.Load() != tag {
		t.Errorf("a slot was claimed from somebody who was not looked at")
	}
}

// A bucket that somebody has in hand by mistake, and is about to give back, is not begun a second time.
func TestClaimBesideBucketInHand(t *testing.T) {
	for _, patient := range []bool{true, false} {
		l, rules := newWithRules(t, 10, bucket("x", 100))
		takeOne(l, rules[0], 1, 0)
		mine := l.table.place(rules[0].base, 1)
		s, tag := mine.find()
		word := s.word.Swap(owned)
		c := l.table.candidate(&mine, 0)
		if c.slot == nil || c.slot == s {
			t.Fatal("there is no other slot to claim")
		}
		if _, ok := l.table.claim(&mine, c, 12345, 0, patient); ok {
			t.Errorf("patient %t: the key has two buckets", patient)
		}
		s.word.Store(word)
		if now, at := mine.find(); now != s || at != tag {
			t.Errorf("patient %t: the bucket is lost", patient)
		}
		checkTable(t, l)
	}
}

// A sweep that saw the bucket of a rule that is gone leaves alone whoever came to its slot since, though
// his word is the same.
func TestSweepOfSlotThatChangedHands(t *testing.T) {
	l, rules := newWithRules(t, 10, bucket("x", 100))
	takeOne(l, rules[0], 1, 0)
	mine := l.table.place(rules[0].base, 1)
	s, tag := mine.find()
	word := s.word.Load()
	if s.own(tag+1<<versionShift, word) || s.word.Load() != word || s.tag.Load() != tag {
		t.Error("a slot was taken from somebody who was not looked at")
	}
	if s.own(tag, word+1) || s.word.Load() != word {
		t.Error("a slot was taken though its bucket had changed")
	}
	if !s.own(tag, word) || s.word.Load() != owned {
		t.Error("a slot that is as it was seen cannot be taken")
	}
}

// Of many who claim slots for one key, and have lost all patience with each other, one gets it or none.
func TestImpatientClaims(t *testing.T) {
	const goroutines = 8
	procs(t, goroutines)
	l, rules := newWithRules(t, 10, bucket("x", 100))
	won := 0
	for round := range scaled(20_000) {
		at := l.table.place(rules[0].base, Key(round+1)*0x9e3779b97f4a7c15)
		var winners atomic.Int64
		together(goroutines, func(i int) {
			for range 3 {
				s := &at.rows[i%2][(i/2+round)%8]
				c, kind := l.table.classify(s, int64(round)*int64(time.Hour))
				if kind != slotEmpty && kind != slotSpent {
					continue
				}
				word := uint64(round)*uint64(time.Hour) + uint64(second)
				if _, ok := l.table.claim(&at, c, word, 0, false); ok {
					winners.Add(1)
				}
			}
		})
		if n := winners.Load(); n > 1 {
			t.Fatalf("round %d: %d claims succeeded", round, n)
		}
		won += int(winners.Load())
		checkTable(t, l)
	}
	if won == 0 {
		t.Errorf("nobody ever got a slot")
	}
}

// A key's two rows are never the same, wherever it falls.
func TestPlaces(t *testing.T) {
	l, rules := newWithRules(t, 10, bucket("x", 100))
	for _, capacity := range []int{0, 1, 10, 100, 5000} {
		l.table = newTable(capacity, l.plans)
		for k := range uint64(2000) {
			at := l.table.place(rules[0].base, Key(k*0x9e3779b97f4a7c15))
			if at.rows[0] == at.rows[1] {
				t.Fatalf("%d rows: key %d has one row", len(l.table.rows), k)
			}
		}
	}
}
