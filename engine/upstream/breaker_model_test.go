package upstream

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

// breakerModel is the breaker as one would explain it: it keeps every outcome and every probe, and counts
// anew each time.
type breakerModel struct {
	BreakerConfig
	state      BreakerState
	generation int
	until      time.Duration
	outcomes   []modelOutcome
	probes     map[int]time.Duration // ticket's number: when it was admitted
	successes  int
	changes    []BreakerState
}

type modelOutcome struct {
	at     time.Duration
	failed bool
}

func (m *breakerModel) become(s BreakerState) {
	m.state = s
	m.generation++
	m.outcomes, m.probes, m.successes = nil, map[int]time.Duration{}, 0
	m.changes = append(m.changes, s)
}

func (m *breakerModel) places(now time.Duration) int {
	free := m.Probes
	for _, since := range m.probes {
		if now-since < max(m.OpenFor, 30*time.Second) {
			free--
		}
	}
	return free
}

func (m *breakerModel) ready(now time.Duration) bool {
	switch m.state {
	case BreakerOpen:
		return now >= m.until
	case BreakerHalfOpen:
		return m.places(now) > 0
	}
	return true
}

func (m *breakerModel) admit(ticket int, now time.Duration) bool {
	if !m.ready(now) {
		return false
	}
	if m.state == BreakerOpen {
		m.become(BreakerHalfOpen)
	}
	if m.state == BreakerHalfOpen {
		m.probes[ticket] = now
	}
	return true
}

func (m *breakerModel) report(ticket, generation int, o Outcome, now time.Duration) {
	if generation != m.generation {
		return
	}
	if m.state == BreakerHalfOpen {
		delete(m.probes, ticket)
		if o == Succeeded {
			m.successes++
		}
		if m.successes == m.Probes {
			m.become(BreakerClosed)
		} else if o == Failed {
			m.open(now)
		}
		return
	}
	if o == Abandoned {
		return
	}
	m.outcomes = append(m.outcomes, modelOutcome{now, o == Failed})
	all, failed := 0, 0
	width := m.Window / 10
	for _, x := range m.outcomes {
		if now/width-x.at/width < 10 {
			all++
			if x.failed {
				failed++
			}
		}
	}
	if all >= m.MinRequests && float64(failed)/float64(all) >= m.FailureRatio {
		m.open(now)
	}
}

func (m *breakerModel) open(now time.Duration) {
	m.become(BreakerOpen)
	m.until = now + m.OpenFor
}

// TestBreakerIsItsModel: in any sequence of requests, answers in any order and time that passes, the
// breaker and the model say and do the same.
func TestBreakerIsItsModel(t *testing.T) {
	reached := map[BreakerState]int{}
	rapid.Check(t, func(t *rapid.T) {
		r := newModelRun(t)
		t.Repeat(map[string]func(*rapid.T){
			"admit":   r.admit,
			"report":  r.report,
			"burst":   r.burst,
			"advance": r.advance,
			"":        r.compare,
		})
		for _, s := range r.model.changes {
			reached[s]++
		}
	})
	for s := range BreakerHalfOpen + 1 {
		if reached[s] < 20 {
			t.Errorf("came to %s only %d times: this proves little", s, reached[s])
		}
	}
}

type modelTicket struct {
	number, generation int
	ticket             Ticket
}

type modelRun struct {
	model   breakerModel
	breaker *Breaker
	now     time.Duration
	number  int
	out     []modelTicket
	changes []BreakerState
	last    BreakerState
}

func newModelRun(t *rapid.T) *modelRun {
	c := BreakerConfig{
		FailureRatio: rapid.SampledFrom([]float64{0.01, 0.3, 0.5, 0.7, 1}).Draw(t, "ratio"),
		MinRequests:  rapid.IntRange(1, 12).Draw(t, "min"),
		Window:       rapid.SampledFrom([]time.Duration{100 * time.Millisecond, 10 * time.Second, 99999999}).Draw(t, "window"),
		OpenFor:      rapid.SampledFrom([]time.Duration{time.Millisecond, 5 * time.Second, time.Minute}).Draw(t, "open"),
		Probes:       rapid.IntRange(1, 4).Draw(t, "probes"),
	}
	r := &modelRun{model: breakerModel{BreakerConfig: c}}
	r.now = time.Duration(rapid.Int64Range(0, int64(1000*time.Hour)).Draw(t, "start"))
	r.breaker = NewBreaker(c, func(from, to BreakerState) {
		if from != r.last {
			t.Fatalf("told of a change from %s, in %s", from, r.last)
		}
		r.last = to
		r.changes = append(r.changes, to)
	})
	return r
}

func (r *modelRun) admit(t *rapid.T) {
	r.number++
	ready := r.breaker.Ready(r.now)
	ticket, wait, ok := r.breaker.Admit(r.now)
	left := time.Duration(0)
	if r.model.state == BreakerOpen {
		left = r.model.until - r.now
	}
	if want := r.model.admit(r.number, r.now); ok != want || ready != want {
		t.Fatalf("admitted %v, ready %v, and should be %v", ok, ready, want)
	}
	if ok {
		r.out = append(r.out, modelTicket{r.number, r.model.generation, ticket})
		return
	}
	if r.model.state == BreakerOpen && wait != left || wait <= 0 || r.model.state == BreakerHalfOpen && wait > time.Second {
		t.Fatalf("refused in %s with wait %v", r.model.state, wait)
	}
}

func (r *modelRun) report(t *rapid.T) {
	if len(r.out) == 0 {
		t.Skip()
	}
	i := rapid.IntRange(0, len(r.out)-1).Draw(t, "ticket")
	o := rapid.SampledFrom([]Outcome{Succeeded, Failed, Failed, Abandoned}).Draw(t, "outcome")
	x := r.out[i]
	r.out = append(r.out[:i], r.out[i+1:]...)
	r.breaker.Report(x.ticket, o, r.now)
	r.model.report(x.number, x.generation, o, r.now)
}

// burst is requests that end at once, as most do.
func (r *modelRun) burst(t *rapid.T) {
	o := rapid.SampledFrom([]Outcome{Succeeded, Failed}).Draw(t, "outcome")
	for range rapid.IntRange(1, 8).Draw(t, "requests") {
		before := len(r.out)
		if r.admit(t); len(r.out) == before {
			return
		}
		x := r.out[before]
		r.out = r.out[:before]
		r.breaker.Report(x.ticket, o, r.now)
		r.model.report(x.number, x.generation, o, r.now)
	}
}

func (r *modelRun) advance(t *rapid.T) {
	c := r.model.BreakerConfig
	steps := []time.Duration{1, time.Millisecond, c.Window / 10, c.Window/2 + 1, c.Window, c.OpenFor - 1, c.OpenFor, 30 * time.Second, time.Hour}
	r.now += rapid.SampledFrom(steps).Draw(t, "step")
}

func (r *modelRun) compare(t *rapid.T) {
	left := time.Duration(0)
	if r.model.state == BreakerOpen {
		left = max(0, r.model.until-r.now)
	}
	if s, l := r.breaker.State(r.now); s != r.model.state || l != left {
		t.Fatalf("%s for %v, not %s for %v", s, l, r.model.state, left)
	}
	if got, want := r.breaker.Ready(r.now), r.model.ready(r.now); got != want {
		t.Fatalf("ready %v, not %v", got, want)
	}
	if len(r.changes) != len(r.model.changes) {
		t.Fatalf("told of %v, not %v", r.changes, r.model.changes)
	}
}
