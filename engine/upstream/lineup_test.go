package upstream

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// Whatever a resolver says, in whatever order: the targets are the last good answer, a target lives as long as its
// address is in the answers without a break, and one that ended is drained.
func TestLineupIsItsAnswers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := newDirectory("users")
		p, err := New(Config{Name: "u", Resolver: d, Balance: rapid.SampledFrom(policies()).Draw(t, "policy"), Targets: []TargetConfig{
			{Address: "127.0.0.1:1", Weight: 1}, {Address: "users:80", Weight: 2}, {Address: "unix:/a", Weight: 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		fixed := [2]*Target{p.Targets()[0], p.Targets()[1]}
		alive := map[string]*Target{}
		for range rapid.IntRange(1, 12).Draw(t, "lookups") {
			answer := rapid.SliceOfN(rapid.IntRange(1, 5), 0, 6).Draw(t, "answer")
			var addresses, want []string
			for _, n := range answer {
				addresses = append(addresses, fmt.Sprintf("10.0.0.%d", n))
				want = append(want, fmt.Sprintf("10.0.0.%d:80", n))
			}
			d.set(nil, "users", addresses...)
			fails := rapid.Bool().Draw(t, "fails")
			if fails {
				d.set(errors.New("down"), "")
			}
			last := slices.Clone(p.Targets())
			came := p.lookUp(t.Context(), p.servers[1])

			now := p.Targets()
			if now[0] != fixed[0] || now[len(now)-1] != fixed[1] {
				t.Fatal("what is not looked up has changed")
			}
			if fails || len(want) == 0 {
				if !slices.Equal(now, last) || len(came) > 0 {
					t.Fatalf("no answer made %v of %v", addressesOf(p), last)
				}
				continue
			}
			slices.Sort(want)
			if got := addressesOf(p); !slices.Equal(got[1:len(got)-1], slices.Compact(want)) {
				t.Fatalf("%v made %v", addresses, got)
			}
			next := map[string]*Target{}
			for _, target := range now[1 : len(now)-1] {
				next[target.Address()] = target
				if old := alive[target.Address()]; (old == target) == slices.Contains(came, target) || old != nil && old != target || target.retired.Load() {
					t.Fatalf("%s: a new one %v, drained %v", target.Address(), slices.Contains(came, target), target.retired.Load())
				}
			}
			for address, target := range alive {
				if next[address] == nil && !target.retired.Load() {
					t.Fatalf("%s left and is not drained", address)
				}
			}
			alive = next
		}
	})
}

// lineRun is a pool with little room, those who have it, and those who wait for it, one step at a time.
type lineRun struct {
	pool    *Pool
	passes  []Pass
	waiters []*Waiter // in the order they came
}

// Nobody sleeps while there is room: after every step somebody in line is awake, or there is none.
func TestLineSleepsOnlyWithoutRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p, err := New(Config{Name: "u", Balance: LeastConn, MaxInFlight: rapid.IntRange(1, 2).Draw(t, "most"), Targets: []TargetConfig{
			{Address: "127.0.0.1:1", Weight: 1}, {Address: "127.0.0.1:2", Weight: 1},
		}})
		if err != nil {
			t.Fatal(err)
		}
		r := &lineRun{pool: p}
		t.Repeat(map[string]func(*rapid.T){
			"come":  r.come,
			"leave": r.leave,
			"look":  r.look,
			"quit":  r.quit,
			"out":   func(*rapid.T) { p.presence.judge(p.Targets()[0], false, nil, 0) },
			"back":  func(*rapid.T) { p.presence.judge(p.Targets()[0], true, nil, 0) },
			"":      r.check,
		})
	})
}

func (r *lineRun) room() bool {
	return slices.ContainsFunc(r.pool.Targets(), func(t *Target) bool { return t.ready(0) })
}

func (r *lineRun) come(t *rapid.T) {
	room := r.room() && len(r.waiters) == 0
	pass, _, err := r.pool.Admit(Choice{})
	if room != (err == nil) {
		t.Fatalf("with %d in line: %v", len(r.waiters), err)
	}
	if err == nil {
		r.passes = append(r.passes, pass)
		return
	}
	w := &Waiter{}
	asleep, most := 0, 2*r.pool.config.MaxInFlight
	for _, w := range r.waiters {
		if !woken(w) {
			asleep++
		}
	}
	first, ok := r.pool.Join(w)
	if ok != (asleep < most && len(r.waiters) < 2*most) || first != (ok && len(r.waiters) == 0) {
		t.Fatalf("behind %d, of whom %d sleep: first %v, %v", len(r.waiters), asleep, first, ok)
	}
	if ok {
		r.waiters = append(r.waiters, w)
	}
	if first {
		r.retake(0)
	}
}

func (r *lineRun) leave(t *rapid.T) {
	if len(r.passes) == 0 {
		t.Skip("nobody has room")
	}
	i := rapid.IntRange(0, len(r.passes)-1).Draw(t, "who")
	r.pool.Leave(&r.passes[i], Succeeded, 0)
	r.passes = slices.Delete(r.passes, i, i+1)
}

func (r *lineRun) look(t *rapid.T) {
	i := slices.IndexFunc(r.waiters, woken)
	if i < 0 {
		t.Skip("nobody is awake")
	}
	<-r.waiters[i].Ready()
	r.retake(i)
}

func (r *lineRun) retake(i int) {
	pass, _, err := r.pool.Retake(r.waiters[i], Choice{})
	if err != nil {
		return
	}
	r.passes = append(r.passes, pass)
	r.pool.Quit(r.waiters[i])
	r.waiters = slices.Delete(r.waiters, i, i+1)
}

func (r *lineRun) quit(t *rapid.T) {
	if len(r.waiters) == 0 {
		t.Skip("nobody waits")
	}
	i := rapid.IntRange(0, len(r.waiters)-1).Draw(t, "who")
	r.pool.Quit(r.waiters[i])
	r.waiters = slices.Delete(r.waiters, i, i+1)
}

func (r *lineRun) check(t *rapid.T) {
	if r.pool.Waiting() != len(r.waiters) || r.pool.InFlight() != len(r.passes) {
		t.Fatalf("%d wait, not %d; %d in flight, not %d", r.pool.Waiting(), len(r.waiters), r.pool.InFlight(), len(r.passes))
	}
	if r.room() && len(r.waiters) > 0 && !slices.ContainsFunc(r.waiters, woken) {
		t.Fatal("all sleep while there is room")
	}
}
