package upstream

import (
	"errors"
	"testing"
	"time"
)

// trial is a pool whose breakers open at the first failure, and close after some good answers.
func trial(t *testing.T, targets, probes int) *Pool {
	t.Helper()
	c := Config{Name: "u", Balance: RoundRobin, Epoch: time.Now(), Breaker: &BreakerConfig{
		FailureRatio: 0.5, MinRequests: 1, Window: time.Second, OpenFor: time.Second, Probes: probes,
	}}
	for i := range targets {
		c.Targets = append(c.Targets, TargetConfig{Address: "127.0.0.1:" + string(rune('1'+i)), Weight: 1})
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// A probe whose answer began well counts at once, however long it lasts; that it breaks off counts too, as long
// as the trial goes on.
func TestAnsweredProbe(t *testing.T) {
	for _, c := range []struct {
		intent string
		probes int
		ends   Outcome
		before BreakerState // the end
		after  BreakerState
	}{
		{"one good answer is enough", 1, Succeeded, BreakerClosed, BreakerClosed},
		{"and its end is too late to count", 1, Failed, BreakerClosed, BreakerClosed},
		{"two are needed, and it is only one of them", 2, Succeeded, BreakerHalfOpen, BreakerHalfOpen},
		{"it breaks off while others are tried", 2, Failed, BreakerHalfOpen, BreakerOpen},
		{"its client leaves", 2, Abandoned, BreakerHalfOpen, BreakerHalfOpen},
	} {
		p := trial(t, 1, c.probes)
		target := p.Targets()[0]
		broken := admit(t, p, Choice{})
		p.Leave(&broken, Failed, 0)
		now := time.Second
		stream := admit(t, p, Choice{Now: now})
		stream.Answered(now)
		if s, _ := target.Breaker(now); s != c.before {
			t.Errorf("%s: %v before the end", c.intent, s)
		}
		p.Leave(&stream, c.ends, now)
		if s, _ := target.Breaker(now); s != c.after {
			t.Errorf("%s: %v after the end", c.intent, s)
		}
		if c.probes == 2 && c.ends == Succeeded {
			second := admit(t, p, Choice{Now: now})
			p.Leave(&second, Succeeded, now)
			if s, _ := target.Breaker(now); s != BreakerClosed {
				t.Errorf("%s: %v after another", c.intent, s)
			}
		}
	}
}

// Beside a trial an answer counts when it ends, and once: one that breaks off is no success before.
func TestAnsweredCountsOnce(t *testing.T) {
	p := trial(t, 1, 1)
	pass := admit(t, p, Choice{})
	pass.Answered(0)
	p.Leave(&pass, Failed, 0)
	if s, _ := p.Targets()[0].Breaker(0); s != BreakerOpen {
		t.Errorf("%v after one failure of one", s)
	}
}

// Failures in a row eject a target, whatever they look like; nothing else does.
func TestFailuresEject(t *testing.T) {
	cut := errors.New("cut")
	for _, c := range []struct {
		intent  string
		outcome func(i int, p *Pass) Outcome
		ejected bool
	}{
		{"answers that break off, however well they began", func(_ int, p *Pass) Outcome {
			p.Answered(time.Second)
			p.Lost(cut)
			return Failed
		}, true},
		{"bad answers", func(int, *Pass) Outcome { return Failed }, true},
		{"one good answer in five", func(i int, _ *Pass) Outcome {
			if i%ejectAfter == ejectAfter-1 {
				return Succeeded
			}
			return Failed
		}, false},
		{"clients that leave", func(int, *Pass) Outcome { return Abandoned }, false},
		{"clients that leave between failures hide nothing", func(i int, _ *Pass) Outcome {
			return []Outcome{Failed, Abandoned}[i%2]
		}, true},
	} {
		config := Config{Name: "u", Balance: RoundRobin, Epoch: time.Now()}
		var why error
		config.Present = func(_ string, _ bool, reason error) { why = reason }
		for _, a := range []string{"127.0.0.1:1", "127.0.0.1:2", "127.0.0.1:3"} {
			config.Targets = append(config.Targets, TargetConfig{Address: a, Weight: 1})
		}
		p, err := New(config)
		if err != nil {
			t.Fatal(err)
		}
		sick := p.Targets()[1]
		for i := 0; i < 4*ejectAfter; {
			pass := admit(t, p, Choice{Now: time.Second})
			o := Succeeded
			if pass.Target() == sick {
				o = c.outcome(i, &pass)
				i++
			} else if sick.out.Load() {
				break
			}
			p.Leave(&pass, o, time.Second)
		}
		if present, _, _ := sick.Health(); present == c.ejected || c.ejected != (why != nil) {
			t.Errorf("%s: present %v, %v", c.intent, present, why)
		}
		if got := sick.Counts(); got.Ejections != map[bool]uint64{true: 1}[c.ejected] {
			t.Errorf("%s: counts %+v", c.intent, got)
		}
	}
}

// An answer is passed over only for a target that nothing is held against, and within the budget.
func TestInstead(t *testing.T) {
	for _, c := range []struct {
		intent  string
		targets int
		prepare func(p *Pool)
		ok      bool
	}{
		{"another target", 2, func(*Pool) {}, true},
		{"no other target", 1, func(*Pool) {}, false},
		{"the other one's breaker is open", 2, func(p *Pool) { p.Targets()[1].breaker.open(p.Targets()[1].breaker.current.Load(), 0) }, false},
		{"the other one is on trial", 2, func(p *Pool) {
			b := p.Targets()[1].breaker
			b.open(b.current.Load(), -time.Hour)
		}, false},
		{"the other one is out", 2, func(p *Pool) { p.Targets()[1].leave() }, false},
		{"the other one is full", 2, func(p *Pool) { p.Targets()[1].most = 1; p.Targets()[1].inFlight.Add(1) }, false},
		{"the budget is spent", 2, func(p *Pool) {
			for p.Retry() {
			}
		}, false},
	} {
		p := trial(t, c.targets, 1)
		c.prepare(p)
		before := p.Counts()
		first := p.Targets()[0]
		for random := range uint64(20) {
			pass, ok := p.Instead(Choice{Avoid: first, Random: random})
			if ok != c.ok || ok && pass.Target() == first {
				t.Fatalf("%s: %v, %v", c.intent, pass.Target(), ok)
			}
			p.Leave(&pass, Succeeded, 0)
		}
		if made := p.Counts().Retries - before.Retries; made > 0 != c.ok {
			t.Errorf("%s: %d retries counted", c.intent, made)
		}
	}
}
