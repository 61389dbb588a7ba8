package upstream

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// storm lets many goroutines send requests through one breaker under a clock that they move, and checks
// what must hold at every moment.
type storm struct {
	t       *testing.T
	config  BreakerConfig
	breaker *Breaker
	clock   atomic.Int64
	changes [3][3]atomic.Int64
	counts  sync.Map // *episode: *episodeCounts
	refused atomic.Int64
	late    atomic.Int64
}

type episodeCounts struct{ probing, reports atomic.Int64 }

func (s *storm) of(e *episode) *episodeCounts {
	c, ok := s.counts.Load(e)
	if !ok {
		c, _ = s.counts.LoadOrStore(e, new(episodeCounts))
	}
	return c.(*episodeCounts)
}

// admit asks for leave. If the same episode is in force before and after, it was all the while.
func (s *storm) admit() (Ticket, bool) {
	before := s.breaker.current.Load()
	now := time.Duration(s.clock.Load())
	ticket, wait, ok := s.breaker.Admit(now)
	after := s.breaker.current.Load()
	if before == after && before.state == BreakerOpen && (ok || wait != before.until-now) {
		s.t.Errorf("OPEN for %v: admitted %v, wait %v", before.until-now, ok, wait)
	}
	if !ok {
		s.refused.Add(1)
		if wait <= 0 {
			s.t.Errorf("refused for %v", wait)
		}
		return ticket, false
	}
	switch ticket.episode.state {
	case BreakerOpen:
		s.t.Error("admitted by OPEN")
	case BreakerHalfOpen:
		if n := s.of(ticket.episode).probing.Add(1); n > int64(s.config.Probes) {
			s.t.Errorf("%d probes at once", n)
		}
	}
	return ticket, true
}

func (s *storm) report(ticket Ticket, o Outcome) {
	e := ticket.episode
	c := s.of(e)
	switch {
	case e.state == BreakerHalfOpen:
		c.probing.Add(-1)
	case o != Abandoned:
		c.reports.Add(1)
	}
	if s.breaker.current.Load() != e {
		s.late.Add(1)
	}
	s.breaker.Report(ticket, o, time.Duration(s.clock.Load()))
	if s.breaker.current.Load() != e && e.state == BreakerClosed {
		if n := c.reports.Load(); n < int64(s.config.MinRequests) {
			s.t.Errorf("opened after %d outcomes", n)
		}
	}
}

// run is one goroutine: it holds several requests at once and ends them in any order. Whether the target
// is sick changes all the time.
func (s *storm) run(seed uint64, rounds int) {
	random := rand.New(rand.NewPCG(seed, 1)) // #nosec G404 -- a test's
	var held []Ticket
	for range rounds {
		if random.IntN(3) > 0 || len(held) == 0 {
			if ticket, ok := s.admit(); ok {
				held = append(held, ticket)
			}
		}
		sick := s.clock.Load()/int64(20*time.Millisecond)%2 == 0
		if len(held) > 4 || len(held) > 0 && random.IntN(2) == 0 {
			i := random.IntN(len(held))
			o := Succeeded
			if x := random.IntN(10); x == 0 {
				o = Abandoned
			} else if sick && x < 8 {
				o = Failed
			}
			s.report(held[i], o)
			held[i] = held[len(held)-1]
			held = held[:len(held)-1]
		}
		s.clock.Add(random.Int64N(int64(20 * time.Microsecond)))
	}
	for _, ticket := range held {
		s.report(ticket, Abandoned)
	}
}

// TestBreakerInAStorm: with many goroutines, nothing is admitted while OPEN, never more probes than allowed
// are out in an episode of HALF-OPEN, nothing opens on too few outcomes, and the changes that were told
// are legal and add up: in as often as out.
func TestBreakerInAStorm(t *testing.T) {
	const workers, rounds = 16, 8000 // times 10 µs: no probe is out for so long that it is forgotten
	s := &storm{t: t, config: BreakerConfig{FailureRatio: 0.4, MinRequests: 10, Window: 10 * time.Millisecond, OpenFor: 3 * time.Millisecond, Probes: 3}}
	s.breaker = NewBreaker(s.config, func(from, to BreakerState) { s.changes[from][to].Add(1) })
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { s.run(uint64(i), rounds) })
	}
	all.Wait()
	if at := s.clock.Load(); at >= int64(probeLife) {
		t.Fatalf("the clock came to %v", time.Duration(at))
	}
	final, _ := s.breaker.State(0)
	for state := range BreakerHalfOpen + 1 {
		in, out := int64(0), int64(0)
		for other := range BreakerHalfOpen + 1 {
			in += s.changes[other][state].Load()
			out += s.changes[state][other].Load()
		}
		if state == BreakerClosed {
			in++ // the first
		}
		if state == final {
			out++ // the last
		}
		if in != out || in < 3 {
			t.Errorf("%s: %d times in, %d out", state, in, out)
		}
	}
	o, c, h := BreakerOpen, BreakerClosed, BreakerHalfOpen
	legal := s.changes[c][o].Load() + s.changes[o][h].Load() + s.changes[h][o].Load() + s.changes[h][c].Load()
	total := int64(0)
	for i := range s.changes {
		for j := range s.changes[i] {
			total += s.changes[i][j].Load()
		}
	}
	if total != legal || s.changes[h][o].Load() == 0 || s.refused.Load() == 0 || s.late.Load() == 0 {
		t.Errorf("%d changes, %d legal; refused %d, late %d", total, legal, s.refused.Load(), s.late.Load())
	}
	t.Logf("%d changes, %d refused, %d late", total, s.refused.Load(), s.late.Load())
}

// TestBreakerHasOneProbe: a single place, taken and given back as fast as can be, never has two probes.
func TestBreakerHasOneProbe(t *testing.T) {
	c := breakerDefaults()
	c.Probes = 1
	b := NewBreaker(c, nil)
	b.current.Store(&episode{state: BreakerHalfOpen, probes: make([]atomic.Int64, 1)})
	var out, taken atomic.Int64
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			for now := range time.Duration(150000) {
				ticket, _, ok := b.Admit(now)
				if !ok {
					continue
				}
				taken.Add(1)
				if n := out.Add(1); n > 1 {
					t.Errorf("%d probes at once", n)
				}
				out.Add(-1)
				b.Report(ticket, Abandoned, now)
			}
		})
	}
	all.Wait()
	if taken.Load() == 0 || !b.Ready(0) {
		t.Errorf("after %d probes no place is free", taken.Load())
	}
}

// TestBreakerCountsSuccesses: probes that succeed at the same moment all count, none twice: the last one
// closes the breaker.
func TestBreakerCountsSuccesses(t *testing.T) {
	const workers, each = 3, 50000
	c := breakerDefaults()
	c.Probes = workers*each + 1
	b := NewBreaker(c, nil)
	b.current.Store(&episode{state: BreakerHalfOpen, probes: make([]atomic.Int64, c.Probes)})
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for range each {
				ticket, _, _ := b.Admit(1)
				b.Report(ticket, Succeeded, 1)
			}
		})
	}
	all.Wait()
	if s, _ := b.State(1); s != BreakerHalfOpen {
		t.Fatalf("%s with one success too few", s)
	}
	ticket, _, _ := b.Admit(1)
	if b.Report(ticket, Succeeded, 1); b.current.Load().state != BreakerClosed {
		t.Error("successes were lost")
	}
}

// TestBreakerLosesNoChange: exactly enough outcomes, half of them failures and reported at the same moment
// in several buckets, always open it; exactly enough successes close it; and each change is told once.
func TestBreakerLosesNoChange(t *testing.T) {
	const rounds = 1000
	c := BreakerConfig{FailureRatio: 0.5, MinRequests: 4, Window: 10 * time.Second, OpenFor: time.Second, Probes: 2}
	var changes atomic.Int64
	b := NewBreaker(c, func(_, _ BreakerState) { changes.Add(1) })
	report := func(o Outcome, now time.Duration) {
		ticket, _, _ := b.Admit(now)
		b.Report(ticket, o, now)
	}
	together := &crew{size: 2}
	together.run(rounds, func(worker, round int) {
		base := time.Duration(round) * time.Minute
		for k := range 2 {
			o := Failed
			if (worker+k+round)%2 == 0 {
				o = Succeeded
			}
			report(o, base+time.Duration(worker*round%3)*time.Second)
		}
		together.meet()
		if s, _ := b.State(base); s != BreakerOpen {
			t.Errorf("round %d: %s, not open", round, s)
		}
		together.meet()
		report(Succeeded, base+10*time.Second)
		together.meet()
		if s, _ := b.State(base); s != BreakerClosed {
			t.Errorf("round %d: %s, not closed", round, s)
		}
	})
	if n := changes.Load(); n != 3*rounds {
		t.Errorf("told of %d changes, not %d", n, 3*rounds)
	}
}

// crew is goroutines that do something together, again and again.
type crew struct {
	size    int
	arrived atomic.Int64
}

func (c *crew) run(rounds int, do func(worker, round int)) {
	var all sync.WaitGroup
	for worker := range c.size {
		all.Go(func() {
			for round := range rounds {
				c.meet()
				do(worker, round)
			}
		})
	}
	all.Wait()
}

// meet returns when all of them have called it equally often. They wait by spinning, for to be woken takes
// longer than what they are to collide in.
func (c *crew) meet() {
	size := int64(c.size)
	turn := (c.arrived.Add(1) + size - 1) / size * size
	for spins := 0; c.arrived.Load() < turn; spins++ {
		if spins > 1000 {
			time.Sleep(10 * time.Microsecond) // the others may need this processor
		}
	}
}
