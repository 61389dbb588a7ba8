package limiter

import (
	"testing"
	"time"
)

// held is a node with three peers, one of which uses a bucket and then falls silent.
type held struct {
	*Limiter
	t       *testing.T
	rule    *Rule
	now     time.Duration
	members []Member
}

// newHeld lets the peers 1 and 2 take so many tokens a second each, for two seconds, of 1000 a second and a burst of
// 3000, of which 2700 are gone.
func newHeld(t *testing.T, first, second uint32) *held {
	t.Helper()
	h := &held{t: t, now: time.Hour, members: alive(3)}
	l, rules := newFleet(t, 3, sharedSpec(1000, 3000))
	h.Limiter, h.rule = l, rules[0]
	h.Fleet(h.now, h.members)
	h.tell(2, 2700, 0)
	for range 40 {
		h.tell(1, first/20, 0)
		h.tell(2, second/20, 0)
		h.pass(50 * time.Millisecond)
	}
	return h
}

// tell merges what a peer let pass, whose clients ask for 1000 a second.
func (h *held) tell(from int, units uint32, age time.Duration) {
	h.Merge(h.now, from, age, []Delta{{Key: 7, Rule: h.rule.base.policy.Load().rule, Units: units, Demand: 60_000}})
}

// pass lets time pass, in which nobody tells anything.
func (h *held) pass(d time.Duration) {
	for end := h.now + d; h.now < end; {
		h.now += 50 * time.Millisecond
		h.Drain(h.now, make([]Delta, 0, 8))
	}
}

func (h *held) become(peer int, s MemberState, missed bool) {
	h.members[peer].State, h.members[peer].Missed = s, missed
	h.Fleet(h.now, h.members)
}

// lacks is what the bucket lacks, and what of it is not about to be given back.
func (h *held) lacks() (all, told int64) {
	w, _, _ := ptr(h.book.Load().place(h.rule.base, 7)).findWide()
	policy := h.rule.base.policy.Load()
	room, unit := policy.room(w.word.Load()&valueMask, int64(h.now))
	debts, _ := h.Snapshot(h.now, 0, make([]Delta, 0, 8))
	return 3000 - room/unit, units(debts)
}

// What was taken for a peer that was silent is given back when it is back and took less, but not if it will never tell
// what it took.
func TestHeldIsGivenBack(t *testing.T) {
	for _, c := range []struct {
		intent    string
		took      uint32 // and tells when it is back
		early     bool   // before it is called alive
		missed    bool
		want, off int64 // that the bucket lacks more than if all had been told at once
	}{
		{"it took nothing", 0, false, false, 0, 15},
		{"it took half of it", 125, false, false, 0, 15},
		{"it took all of it", 250, false, false, 0, 15},
		{"it took more", 400, false, false, 0, 15},
		{"it was busy, and tells before it is called alive", 250, true, false, 0, 15},
		{"it took nothing that it will tell of", 0, false, true, 208, 30},
	} {
		h := newHeld(t, 500, 500)
		before, _ := h.lacks()
		at := h.now
		h.become(1, Silent, false)
		h.pass(500 * time.Millisecond)
		if lacks, _ := h.lacks(); lacks < before-500+200 {
			t.Errorf("%s: silent for half a second: the bucket lacks %d, and %d before", c.intent, lacks, before)
		}
		if c.early {
			h.tell(1, c.took, 0)
		}
		h.become(1, Alive, c.missed)
		if !c.early {
			h.tell(1, c.took, 100*time.Millisecond)
		}
		_, told := h.lacks()
		h.pass(700 * time.Millisecond)
		refilled := int64((h.now - at) / time.Millisecond)
		want := max(before+int64(c.took)-refilled, 0) + c.want
		lacks, after := h.lacks()
		if d := lacks - want; d < -c.off || d > c.off {
			t.Errorf("%s: the bucket lacks %d, want %d", c.intent, lacks, want)
		}
		if d := told - 700 - after; !c.missed && (d < -20 || d > 20) {
			t.Errorf("%s: who joined when it came back was told %d, and 700 ms later %d", c.intent, told, after)
		}
	}
}

// A silent peer is taken to use its share, though it got less of late, if its clients ask for as much; and what it used,
// if that was more.
func TestHeldIsTheShare(t *testing.T) {
	for _, c := range []struct {
		intent    string
		used      uint32
		asks      uint32 // a minute
		low, high int64  // tokens in half a second
	}{
		{"it got nothing, for others had too much", 0, 60_000, 200, 240},
		{"it got its share", 400, 60_000, 200, 240},
		{"it had more", 900, 60_000, 380, 470},
		{"its clients ask for less", 100, 6_000, 40, 80},
	} {
		h := newHeld(t, c.used, 1000-c.used)
		h.Merge(h.now, 1, 0, []Delta{{Key: 7, Rule: h.rule.base.policy.Load().rule, Demand: c.asks}})
		before, _ := h.lacks()
		h.become(1, Silent, false)
		h.pass(500 * time.Millisecond)
		after, _ := h.lacks()
		if n := after - before + 500; n < c.low || n > c.high {
			t.Errorf("%s: %d tokens are held in half a second, want %d to %d", c.intent, n, c.low, c.high)
		}
	}
}

// What is told late is charged for when it was taken, and held from then on.
func TestHeldSinceItWasTold(t *testing.T) {
	h := newHeld(t, 500, 500)
	h.pass(500 * time.Millisecond)
	before, _ := h.lacks()
	h.tell(1, 10, 450*time.Millisecond) // it came out of a queue
	h.become(1, Silent, false)
	h.pass(50 * time.Millisecond)
	if after, _ := h.lacks(); after-before < 150 {
		t.Errorf("%d tokens are held of half a second that nothing is known of", after-before+50)
	}
}

// What came in anew since it was taken is not given back once more.
func TestHeldIsForgottenByAFullBucket(t *testing.T) {
	h := newHeld(t, 500, 500)
	h.become(1, Silent, false)
	h.pass(4500 * time.Millisecond) // some 1900 tokens are held, of 4500 that come in
	h.become(1, Alive, false)
	h.tell(2, 2900, 0)
	before, _ := h.lacks()
	h.pass(700 * time.Millisecond)
	if after, _ := h.lacks(); after < before-700-100 {
		t.Errorf("the bucket lacked %d, and %d after 700 ms: more was given back than was missing", before, after)
	}
}

// Windows begin anew: what was taken from one is not given back to the next.
func TestHeldOfWindowsStays(t *testing.T) {
	for name, spec := range algorithms(1000) {
		p := newPolicy(&spec, spec.Rate, 0)
		now := int64(time.Hour)
		value, lent := p.lend(0, now, now, 100)
		if lent != 100 {
			t.Errorf("%s: %d of 100 units are charged", name, lent)
		}
		back, returned := p.lend(value, now, now, -100)
		if p.window != 0 && (back != value || returned != 0) {
			t.Errorf("%s: %d units are given back to a window", name, -returned)
		}
		if p.window == 0 && !p.spent(back, now) {
			t.Errorf("%s: a bucket that got all back is not full", name)
		}
	}
}
