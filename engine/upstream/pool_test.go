package upstream

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func poolOf(t testing.TB, weights ...int) *Pool {
	t.Helper()
	c := Config{Name: "test", Balance: RoundRobin}
	for range weights {
		c.Targets = append(c.Targets, TargetConfig{Address: "127.0.0.1:1"})
	}
	for i, w := range weights {
		c.Targets[i].Weight = w
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRoundIsFairAndSmooth: in any whole round each target has exactly its share, and between two turns
// of a target no other one has more turns than its weight asks for.
func TestRoundIsFairAndSmooth(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.IntRange(0, 20), 1, 6).Draw(t, "weights")
		round, err := smoothRound(weights)
		if err != nil {
			t.Fatal(err)
		}
		count := make([]int, len(weights))
		for _, i := range round {
			count[i]++
		}
		for i, w := range weights {
			for j, v := range weights {
				if count[i]*v != count[j]*w {
					t.Fatalf("weights %v give %v", weights, count)
				}
			}
		}
		for i := range weights {
			if count[i] > 0 && longestGap(round, i) > 2*(len(round)/count[i])+1 {
				t.Fatalf("weights %v: target %d waits %d turns in %v", weights, i, longestGap(round, i), round)
			}
		}
	})
}

func longestGap(round []uint16, target int) int {
	gap, longest := 0, 0
	for range 2 {
		for _, i := range round {
			gap++
			if int(i) == target {
				longest = max(longest, gap)
				gap = 0
			}
		}
	}
	return longest
}

func TestRoundRefuses(t *testing.T) {
	if _, err := smoothRound([]int{1, -1}); err == nil {
		t.Error("a negative weight is accepted")
	}
	if _, err := smoothRound([]int{maxSchedule, 1}); err == nil {
		t.Error("a round without bound is accepted")
	}
	if round, err := smoothRound([]int{10 * maxSchedule, 10 * maxSchedule}); err != nil || len(round) != 2 {
		t.Errorf("equal weights need a round of two, not %d: %v", len(round), err)
	}
}

// admit lets one request in.
func admit(t testing.TB, p *Pool, c Choice) Pass {
	t.Helper()
	pass, _, err := p.Admit(c)
	if err != nil {
		t.Fatal(err)
	}
	return pass
}

func TestAdmit(t *testing.T) {
	p := poolOf(t, 1, 2, 0)
	counts := map[*Target]int{}
	for range 300 {
		pass := admit(t, p, Choice{})
		counts[pass.Target()]++
		p.Leave(&pass, Succeeded, 0)
	}
	if counts[p.Targets()[0]] != 100 || counts[p.Targets()[1]] != 200 {
		t.Errorf("weights 1 and 2 share 300 requests as %d and %d", counts[p.Targets()[0]], counts[p.Targets()[1]])
	}
	for range 10 {
		if pass := admit(t, p, Choice{Avoid: p.Targets()[1]}); pass.Target() == p.Targets()[1] {
			t.Error("the target to avoid was chosen, with another one there")
		}
	}
	alone := poolOf(t, 1)
	if pass := admit(t, alone, Choice{Avoid: alone.Targets()[0]}); pass.Target() != alone.Targets()[0] {
		t.Error("the only target is better than none")
	}
	if _, _, err := poolOf(t, 0).Admit(Choice{}); err != ErrNoTarget {
		t.Errorf("a drained pool gives %v", err)
	}
}

// A pass is counted from Admit to Leave, once.
func TestPass(t *testing.T) {
	p := poolOf(t, 1)
	a, b := admit(t, p, Choice{}), admit(t, p, Choice{})
	if n := p.Targets()[0].InFlight(); n != 2 {
		t.Errorf("%d in flight, not 2", n)
	}
	p.Leave(&a, Succeeded, 0)
	p.Leave(&a, Succeeded, 0)
	p.Leave(&b, Failed, 0)
	var none Pass
	p.Leave(&none, Failed, 0)
	none.Report(Failed, 0)
	if n := p.Targets()[0].InFlight(); n != 0 || p.InFlight() != 0 {
		t.Errorf("%d and %d in flight after all have left", n, p.InFlight())
	}
}

// With all breakers open nobody is let in, and the first to let somebody in says when.
func TestAdmitOpen(t *testing.T) {
	var changes []string
	p, err := New(Config{
		Name: "u", Balance: RoundRobin, Targets: []TargetConfig{{Address: "127.0.0.1:1", Weight: 1}, {Address: "127.0.0.1:2", Weight: 1}},
		Breaker: &BreakerConfig{FailureRatio: 0.5, MinRequests: 2, Window: time.Second, OpenFor: 5 * time.Second, Probes: 1},
		Epoch:   time.Now(),
		Changed: func(target string, _, to BreakerState) { changes = append(changes, target+" "+to.String()) },
	})
	if err != nil {
		t.Fatal(err)
	}
	now := time.Duration(0)
	for range 4 {
		now += 10 * time.Millisecond
		pass := admit(t, p, Choice{Now: now})
		p.Leave(&pass, Failed, now)
	}
	if _, wait, err := p.Admit(Choice{Now: now}); err != ErrOpen || wait <= 4*time.Second || wait > 5*time.Second {
		t.Errorf("wait %v, %v", wait, err)
	}
	now += 5 * time.Second
	pass := admit(t, p, Choice{Now: now})
	p.Leave(&pass, Succeeded, now)
	var states []string
	for _, c := range changes {
		_, state, _ := strings.Cut(c, " ")
		states = append(states, state)
	}
	if !slices.Equal(states, []string{"open", "open", "half-open", "closed"}) {
		t.Errorf("changes %q", changes)
	}
}

// Retries are a share of the requests in flight, and a few in any case.
func TestRetryBudget(t *testing.T) {
	p := poolOf(t, 1)
	p.config.Budget = 0.2
	count := func() (n int) {
		for p.Retry() {
			n++
		}
		for range n {
			p.Retried(&Pass{})
		}
		return n
	}
	if n := count(); n != minRetries {
		t.Errorf("%d retries at rest, not %d", n, minRetries)
	}
	var passes []Pass
	for range 50 {
		passes = append(passes, admit(t, p, Choice{}))
	}
	if n := count(); n != 10 {
		t.Errorf("%d retries with 50 requests in flight, not 10", n)
	}
	if !p.Retry() {
		t.Fatal("no retry")
	}
	p.Retried(&passes[0])
	for i := range passes {
		p.Leave(&passes[i], Succeeded, 0)
	}
	if n := p.retries.Load(); n != 0 {
		t.Errorf("%d retries after all have left", n)
	}
}

func TestAdmitDoesNotAllocate(t *testing.T) {
	for _, policy := range policies() {
		for _, most := range []int{0, 1} {
			p := breakersOf(t, policy, 16, most)
			random := dice(1)
			if n := testing.AllocsPerRun(100, func() {
				pass, _, _ := p.Admit(Choice{Now: time.Hour, Key: random.next(), Random: random.next()})
				other, _ := p.Instead(Choice{Now: time.Hour, Key: random.next(), Random: random.next(), Avoid: pass.Target()})
				pass.Answered(time.Hour)
				p.Leave(&pass, Succeeded, time.Hour)
				p.Leave(&other, Succeeded, time.Hour)
			}); n != 0 {
				t.Errorf("%s, at most %d in flight: %v allocations", policy, most, n)
			}
		}
	}
}

// BenchmarkAdmit is all that a request costs here: the choice, the breaker, the counts, the release.
func BenchmarkAdmit(b *testing.B) {
	for _, policy := range policies() {
		b.Run(string(policy)+"/16", func(b *testing.B) {
			p := breakersOf(b, policy, 16, 0)
			random := dice(1)
			b.ReportAllocs()
			for b.Loop() {
				pass, _, _ := p.Admit(Choice{Now: time.Hour, Key: random.next(), Random: random.next()})
				p.Leave(&pass, Succeeded, time.Hour)
			}
		})
	}
}

func breakersOf(t testing.TB, policy Policy, targets, maxInFlight int) *Pool {
	t.Helper()
	c := Config{Name: "u", Balance: policy, MaxInFlight: maxInFlight, Breaker: &BreakerConfig{
		FailureRatio: 0.5, MinRequests: 20, Window: 10 * time.Second, OpenFor: 5 * time.Second, Probes: 3,
	}}
	for i := range targets {
		c.Targets = append(c.Targets, TargetConfig{Address: fmt.Sprintf("127.0.0.1:%d", i+1), Weight: 1})
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
