package limiter

import (
	"testing"
	"time"
)

// A debt that is told again, or late, is the debt that was told: what was refilled since is not owed once more. A node
// that believes to owe more than the others would get nothing for as long as all are at their limit.
func TestRestoreAgain(t *testing.T) {
	const told = 10 * second
	for name, spec := range algorithms(300) {
		spec.Shared = true
		a, as := newFleet(t, 0, spec)
		for range 200 {
			takeOne(a, as[0], 5, told)
		}
		a.Fleet(told, alive(1))
		debts, _ := a.Snapshot(told, 0, make([]Delta, 0, 8))
		b, bs := newFleet(t, 1, spec)
		for i, age := range []time.Duration{0, 100 * time.Millisecond, 100 * time.Millisecond, second, 5 * second} {
			b.Restore(told+age, age, debts)
			want, got := peek(a, as[0], 5, told+age, 300), peek(b, bs[0], 5, told+age, 300)
			if got < want-1 || got > want {
				t.Errorf("%s: told for the %d. time, after %v: %d tokens are left, want %d", name, i+1, age, got, want)
			}
		}
	}
}

// peek is what a bucket holds.
func peek(l *Limiter, r *Rule, k Key, now time.Duration, full int64) int64 {
	for _, s := range l.Inspect(r, k, now) {
		return s.Remaining
	}
	return full
}
