package e2e

import (
	"fmt"
	"testing"
	"time"
)

// faultTables are those of an upstream whose breaker stays open until the test has seen enough.
const faultTables = `
[upstream.a.timeouts]
connect = "1s"
response = "1s"
idle = "1s"
[upstream.a.breaker]
min_requests = 10
window = "1s"
open_for = "8s"
[[route]]
name = "all"
path = "/*"
auth = ["none"]
to = "a"
timeout = %q
`

const (
	faultClients = 6
	faultPace    = 10 * time.Millisecond // of each client
)

// fault is what is done to one of three targets, and what clients may see of it.
type fault struct {
	intent string
	as     string // how a request ends that met it and cannot be asked for again; "": all can
}

// most is how many of n requests may fail. Of those that can be asked for again it is one of a thousand. An
// answer that has begun to arrive cannot be taken back: as many requests are cut short as it takes to leave the
// target alone, five in a row, and those that are with it by then. It is tried again after a second, and again
// after two, each time with one, and those that came before that one failed.
func (f fault) most(n int) int {
	if f.as == "" {
		return max(n/1000, 1)
	}
	return 5 + faultClients + 2*faultClients
}

// One of three targets falls sick under load: hardly a request fails. Two seconds after the target is left alone,
// the slowest one in a hundred is about as fast as before. When it is well, it is trusted again.
func TestFaultOfOne(t *testing.T) {
	t.Parallel()
	tests := map[string]func(t *testing.T){}
	for _, f := range []fault{
		{killedFault, ""},
		{stoppedFault, ""},
		{closeMood, ""},
		{resetMood, ""},
		{halfMood, ""},
		{garbageMood, ""},
		{silentMood, ""},
		{flakyMood, ""},
		{dripMood, ""},
		{cutMood, "cut"},
		{chunkMood, "cut"},
		{trickleMood, "cut"},
	} {
		tests[f.intent] = f.ofOne
	}
	together(t, 4, tests)
}

func (f fault) ofOne(t *testing.T) {
	sick := startVictim(t, f.intent)
	_, urls := startMoodies(t, 2)
	timeout := 10 * time.Second
	if f.intent == trickleMood { // no other one ends it
		timeout = time.Second
	}
	g := startGateway(t, fmt.Sprintf("[upstream.a]\ntargets = [\"http://%s\", %s]\n"+faultTables, sick.address, urls, timeout))
	load := startPour(t, g, faultClients, faultPace)
	defer load.stop()
	began := time.Now()
	time.Sleep(time.Second)

	sick.fall()
	fell := time.Now()
	eventually(t, "the target is left alone", func() bool { return leftAlone(g.targetOf(t, sick.address)) })
	alone := time.Now()
	time.Sleep(4 * time.Second)
	sick.rise()
	rose := time.Now()
	eventually(t, "it is trusted again", func() bool { return isClosed(g.targetOf(t, sick.address)) })
	trusted := time.Now()
	time.Sleep(200 * time.Millisecond)
	load.stop()

	// One that began shortly before may have met it too, and is of neither.
	before, during := load.between(began, fell.Add(-200*time.Millisecond)), load.between(fell, trusted)
	settled := load.between(alone.Add(2*time.Second), rose)
	t.Logf("left alone after %v, trusted again after %v\nbefore  %v\nduring  %v\nsettled %v\nafter   %v",
		alone.Sub(fell), trusted.Sub(rose), before, during, settled, load.between(trusted, time.Now()))
	if before.failed() > 0 || len(before) < 50 {
		t.Errorf("before the fault: %v", before)
	}
	if n := during.failed(); n > f.most(len(during)) || f.as != "" && n != during.ended(f.as) {
		t.Errorf("of %d requests %d failed, want at most %d, all %q: %v", len(during), n, f.most(len(during)), f.as, during)
	}
	if slow, most := settled.quantile(0.99), calm(before); slow > most {
		t.Errorf("p99 of %v, when the target was left alone for two seconds, want at most %v", slow, most)
	}
	if after := load.between(trusted, time.Now()); after.failed() > 0 {
		t.Errorf("after the fault: %v", after)
	}
}

// calm is the p99 that is about as good as that of a healthy time. A machine with other things to do adds to
// both, now and then more than half a second; a request that meets a target that does not answer takes a second.
func calm(healthy span) time.Duration {
	return max(10*healthy.quantile(0.99), 800*time.Millisecond)
}
