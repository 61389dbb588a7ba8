package upstream

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// narrow is a pool whose targets take most requests at once, each.
func narrow(t testing.TB, most, targets int, p Policy) *Pool {
	t.Helper()
	c := Config{Name: "u", Balance: p, MaxInFlight: most}
	for i := range targets {
		c.Targets = append(c.Targets, TargetConfig{Address: "127.0.0.1:" + string(rune('1'+i)), Weight: 1})
	}
	pool, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

// Each target takes as many as it may, whatever the policy, then none; and again when one has left.
func TestRoom(t *testing.T) {
	for _, policy := range policies() {
		p := narrow(t, 3, 2, policy)
		var passes []Pass
		random := dice(1)
		for range 6 {
			passes = append(passes, admit(t, p, Choice{Key: random.next(), Random: random.next()}))
		}
		for _, target := range p.Targets() {
			if n := target.InFlight(); n != 3 {
				t.Errorf("%s: %d at a target, not 3", policy, n)
			}
		}
		if _, wait, err := p.Admit(Choice{}); err != ErrBusy || wait != 0 {
			t.Errorf("%s: a seventh gets %v, %v", policy, wait, err)
		}
		left := passes[2].Target()
		p.Leave(&passes[2], Succeeded, 0)
		if next := admit(t, p, Choice{Avoid: left}); next.Target() != left {
			t.Errorf("%s: the room is elsewhere", policy)
		}
		if n := p.Counts().Busy; n != 1 {
			t.Errorf("%s: %d busy, not 1", policy, n)
		}
	}
}

// Busy is what could take requests: who may not is no reason to wait.
func TestBusyIsNotDown(t *testing.T) {
	p := narrow(t, 1, 2, RoundRobin)
	p.Targets()[0].leave()
	p.Targets()[1].leave()
	if _, _, err := p.Admit(Choice{}); err != ErrNoTarget {
		t.Errorf("with all targets out: %v", err)
	}
	p.Targets()[0].comeBack(0)
	admit(t, p, Choice{})
	if _, _, err := p.Admit(Choice{}); err != ErrBusy {
		t.Errorf("with one that is busy, and one out: %v", err)
	}
}

func woken(w *Waiter) bool { return len(w.Ready()) > 0 }

// The line is first come first served, as long as the targets take, and gives way to nobody outside.
func TestLineIsFIFO(t *testing.T) {
	p := narrow(t, 2, 1, RoundRobin)
	passes := []Pass{admit(t, p, Choice{}), admit(t, p, Choice{})}
	var waiters [3]Waiter
	for i := range waiters {
		first, ok := p.Join(&waiters[i])
		if first != (i == 0) || ok != (i < 2) {
			t.Fatalf("the %d. to join: first %v, %v", i+1, first, ok)
		}
		if !first {
			continue
		}
		if _, _, err := p.Retake(&waiters[0], Choice{}); err != ErrBusy {
			t.Fatalf("without room: %v", err)
		}
	}
	p.Leave(&passes[0], Succeeded, 0)
	if !woken(&waiters[0]) || woken(&waiters[1]) {
		t.Fatal("it is the first one who has to be woken")
	}
	if _, _, err := p.Admit(Choice{}); err != ErrBusy {
		t.Errorf("one who came later: %v", err)
	}
	pass, _, err := p.Retake(&waiters[0], Choice{})
	if err != nil {
		t.Fatal(err)
	}
	p.Quit(&waiters[0])
	p.Leave(&pass, Succeeded, 0)
	if !woken(&waiters[1]) {
		t.Error("then the second one")
	}
	p.Quit(&waiters[1])
	if n := p.Waiting(); n != 0 {
		t.Errorf("%d wait when all have left", n)
	}
	admit(t, p, Choice{})
}

// Who leaves the line after having been woken passes it on.
func TestQuitPassesOn(t *testing.T) {
	p := narrow(t, 3, 1, RoundRobin)
	passes := []Pass{admit(t, p, Choice{}), admit(t, p, Choice{}), admit(t, p, Choice{})}
	var w [3]Waiter
	for i := range w {
		p.Join(&w[i])
	}
	p.Leave(&passes[0], Succeeded, 0)
	p.Quit(&w[0])
	if !woken(&w[1]) || woken(&w[2]) {
		t.Error("the wake of one who left is not the next one's")
	}
	p.Quit(&w[2]) // the last, while another is woken
	p.Quit(&w[1])
}

// Who is on the way to a target takes no place in the line: whoever left that target can wait for the next turn.
// With them there are no more than twice as many as the targets take.
func TestLineCountsSleepers(t *testing.T) {
	p := narrow(t, 1, 1, RoundRobin)
	pass := admit(t, p, Choice{})
	var w [4]Waiter
	joins := func(i int, want bool) {
		t.Helper()
		if _, ok := p.Join(&w[i]); ok != want {
			t.Fatalf("number %d joins: %v", i, ok)
		}
	}
	joins(0, true)
	if _, _, err := p.Retake(&w[0], Choice{}); err != ErrBusy {
		t.Fatal(err)
	}
	joins(1, false)
	p.Leave(&pass, Succeeded, 0)
	joins(1, true)  // number 0 is woken ...
	joins(2, false) // ... and one sleeps
	pass, _, err := p.Retake(&w[0], Choice{})
	if err != nil || woken(&w[1]) {
		t.Fatalf("the first in line: %v, the second woken %v", err, woken(&w[1]))
	}
	joins(2, false)
	p.Quit(&w[0])
	joins(2, true) // number 1 is woken in vain ...
	if _, _, err := p.Retake(&w[1], Choice{}); err != ErrBusy {
		t.Fatal(err)
	}
	joins(3, false)
	p.Leave(&pass, Succeeded, 0)
	joins(3, false) // ... and with it there are two
	for _, i := range []int{1, 2} {
		if !woken(&w[i]) {
			t.Errorf("number %d is not woken", i)
		}
		p.Quit(&w[i])
	}
	if p.Waiting() != 0 || p.line.asleep != 0 {
		t.Errorf("%d wait and %d sleep when all have left", p.Waiting(), p.line.asleep)
	}
}

// Two who ask by turns for the one place of a target are never turned away, however slow they are to take it.
func TestLineOfTwo(t *testing.T) {
	p := narrow(t, 1, 1, TwoChoices)
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			var w Waiter
			for range 5000 {
				pass, _, err := p.Admit(Choice{})
				if err != nil {
					if pass, err = takePlace(p, &w); err != nil {
						t.Error(err)
						return
					}
				}
				runtime.Gosched()
				p.Leave(&pass, Succeeded, 0)
			}
		})
	}
	all.Wait()
	if p.Counts().Busy == 0 {
		t.Error("nobody had to wait")
	}
}

// takePlace waits in the line until there is room.
func takePlace(p *Pool, w *Waiter) (pass Pass, err error) {
	look, ok := p.Join(w)
	if !ok {
		return Pass{}, errors.New("the line is full")
	}
	defer p.Quit(w)
	for {
		if look {
			if pass, _, err = p.Retake(w, Choice{}); err != ErrBusy {
				return pass, err
			}
		}
		select {
		case <-w.Ready():
			look = true
		case <-time.After(30 * time.Second):
			return Pass{}, errors.New("nobody wakes one who waits")
		}
	}
}

// When a breaker's time is over, those who wait for room at the other target hear of it.
func TestLineHearsOfBreakers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := New(Config{
			Name: "u", Balance: RoundRobin, MaxInFlight: 1, Epoch: time.Now(),
			Breaker: &BreakerConfig{FailureRatio: 0.5, MinRequests: 1, Window: time.Second, OpenFor: 2 * time.Second, Probes: 1},
			Targets: []TargetConfig{{Address: "127.0.0.1:1", Weight: 1}, {Address: "127.0.0.1:2", Weight: 1}},
		})
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var run sync.WaitGroup
		run.Go(func() { p.Run(ctx) })
		defer run.Wait()
		defer stop()
		pass := admit(t, p, Choice{})
		sick := pass.Target()
		p.Leave(&pass, Failed, 0)
		other := admit(t, p, Choice{})
		var w Waiter
		p.Join(&w)
		if _, _, err := p.Retake(&w, Choice{}); err != ErrBusy || other.Target() == sick {
			t.Fatal(err)
		}
		time.Sleep(2*time.Second - 1)
		synctest.Wait()
		if woken(&w) {
			t.Error("woken while there is no room")
		}
		time.Sleep(readmission + 1)
		synctest.Wait()
		if !woken(&w) {
			t.Fatal("not woken")
		}
		if pass, _, err := p.Retake(&w, Choice{Now: time.Since(p.config.Epoch)}); err != nil || pass.Target() != sick {
			t.Errorf("the target's first probe: %v", err)
		}
	})
}

// A target that comes back wakes all, and so does a new address.
func TestLineHearsOfTargets(t *testing.T) {
	d := newDirectory("users", "10.0.0.1")
	p, _ := named(t, d, func(c *Config) { c.MaxInFlight = 2 })
	admit(t, p, Choice{})
	admit(t, p, Choice{})
	var w [2]Waiter
	for i := range w {
		p.Join(&w[i])
	}
	d.set(nil, "users", "10.0.0.1", "10.0.0.2")
	p.lookUp(t.Context(), p.servers[0])
	if !woken(&w[0]) || !woken(&w[1]) {
		t.Error("a new address wakes not all")
	}
	for i := range w {
		p.Retake(&w[i], Choice{})
	}
	p.presence.judge(p.Targets()[0], false, nil, 0)
	for i := range w {
		p.Retake(&w[i], Choice{})
	}
	p.presence.judge(p.Targets()[0], true, nil, 0)
	if !woken(&w[0]) || !woken(&w[1]) {
		t.Error("a target that is back wakes not all")
	}
}

// With many who wait for little room nobody sleeps for ever, no target ever has more than it may, and some of
// them give up at any moment.
func TestLineInAStorm(t *testing.T) {
	const most, crowd, rounds = 2, 16, 400
	p := narrow(t, most, 2, TwoChoices)
	var now [2]atomic.Int64
	var served, gaveUp atomic.Int64
	var all sync.WaitGroup
	for i := range crowd {
		all.Go(func() {
			random := dice(i)
			var w Waiter
			for range rounds {
				pass, ok := takeTurn(t, p, &w, &random)
				if !ok {
					gaveUp.Add(1)
					continue
				}
				at := &now[slices.Index(p.Targets(), pass.Target())]
				if at.Add(1) > most {
					t.Error("a target has more than it may")
				}
				if random.below(8) == 0 {
					runtime.Gosched()
				}
				at.Add(-1)
				p.Leave(&pass, Succeeded, 0)
				served.Add(1)
			}
		})
	}
	all.Wait()
	if p.Waiting() != 0 || p.line.asleep != 0 || p.InFlight() != 0 || served.Load()+gaveUp.Load() != crowd*rounds {
		t.Errorf("%d wait, %d in flight, %d served, %d gave up", p.Waiting(), p.InFlight(), served.Load(), gaveUp.Load())
	}
	if served.Load() == 0 || p.Counts().Busy == 0 {
		t.Error("no storm")
	}
}

// takeTurn is one who waits for room, and gives up now and then, or when the line is full.
func takeTurn(t *testing.T, p *Pool, w *Waiter, random *dice) (pass Pass, ok bool) {
	c := Choice{Random: random.next()}
	pass, _, err := p.Admit(c)
	if err == nil {
		return pass, true
	}
	look, ok := p.Join(w)
	if !ok {
		return Pass{}, false
	}
	defer p.Quit(w)
	for {
		if look {
			if pass, _, err := p.Retake(w, c); err == nil {
				return pass, true
			}
		}
		if random.below(16) == 0 {
			return Pass{}, false
		}
		select {
		case <-w.Ready():
			look = true
		case <-time.After(30 * time.Second):
			t.Error("nobody wakes one who waits")
			return Pass{}, false
		}
	}
}

func TestRoomDoesNotAllocate(t *testing.T) {
	p := narrow(t, 1, 2, TwoChoices)
	p.Leave(&Pass{}, Succeeded, 0)
	var w Waiter
	p.Join(&w)
	p.Quit(&w)
	if n := testing.AllocsPerRun(100, func() {
		a, _, _ := p.Admit(Choice{})
		b, _, _ := p.Admit(Choice{})
		_, _, _ = p.Admit(Choice{})
		p.Join(&w)
		p.Leave(&a, Succeeded, 0)
		c, _, _ := p.Retake(&w, Choice{})
		p.Quit(&w)
		p.Leave(&b, Succeeded, 0)
		p.Leave(&c, Succeeded, 0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
