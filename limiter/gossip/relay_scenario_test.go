package gossip

import (
	"os"
	"testing"
	"time"
)

// The same laws where most of it is passed on.
func TestFleetThatRelaysKeepsOneLimit(t *testing.T) {
	lose := func(share float64) func(f *fleet) { return func(f *fleet) { f.loss = share } }
	for _, s := range []scenario{
		{intent: "evenly", load: even(3000, 16), rate: 1},
		{intent: "the default interval", load: even(3000, 16), interval: 50 * time.Millisecond, rate: 1.5},
		{intent: "skewed", load: zipf(3000, 16), rate: 1, fair: 0.85},
		{intent: "all at one node", load: mostly(3000, 1, 16, 0), rate: 1},
		{intent: "all at one node, and then at another", load: mostly(3000, 1, 16, time.Second/2), rate: 1},
		{intent: "below the limit", load: even(900, 16), burst: 200, rate: 1, wronged: 0.2},
		{intent: "below the limit, skewed", load: zipf(900, 16), burst: 200, rate: 1, wronged: 0.2},
		{intent: "a flash crowd", load: flash(200_000, 16), rate: 2.5},
		{intent: "on and off", load: onOff(50_000, 500, 16), rate: 2.5},
		{intent: "1 % lost", load: even(3000, 16), change: lose(0.01), rate: 1},
		{intent: "10 % lost", load: even(3000, 16), change: lose(0.1), rate: 1},
		{intent: "30 % lost", load: even(3000, 16), change: lose(0.3), rate: 2},
		{intent: "30 % lost, a flash crowd", load: flash(200_000, 16), change: lose(0.3)},
		{intent: "packets come late, twice and broken", load: even(3000, 16), change: func(f *fleet) {
			f.jitter, f.twice, f.flip = 20*time.Millisecond, 1, 0.02
		}, rate: 2},
		{intent: "far apart", load: even(3000, 16), interval: 20 * time.Millisecond, change: func(f *fleet) { f.delay = 40 * time.Millisecond }, rate: 2},
	} {
		s.nodes, s.above = 16, 4
		t.Run(s.intent, s.run)
	}
}

// A relay that is killed, and one that is cut off, costs no more than any node.
func TestFleetThatRelaysLosesSome(t *testing.T) {
	half := []int{8, 15}
	for _, s := range []scenario{
		{intent: "killed, and back at once", during: func(f *fleet) { f.cycle(100 * time.Millisecond) }},
		{intent: "killed, and back after a while", during: func(f *fleet) { f.cycle(4 * time.Second) }},
		{intent: "cut in halves", excess: 6, during: func(f *fleet) { f.heal(half[0]) }}, // 4 % of rate * 3 s
		{intent: "one is cut off", excess: 6, during: func(f *fleet) { f.heal(half[1]) }},
	} {
		s.nodes, s.above, s.load = 16, 4, even(3000, 16)
		t.Run(s.intent, s.run)
	}
}

// cycle kills the host that most relies on, and starts it again.
func (f *fleet) cycle(away time.Duration) {
	f.serve(2 * time.Second)
	for range 2 {
		h := f.relayOf()
		f.kill(h)
		f.serve(away)
		f.start(h)
		f.serve(time.Second)
	}
}

// heal cuts the network for three seconds.
func (f *fleet) heal(below int) {
	f.serve(2 * time.Second)
	f.cut = between(below)
	f.serve(3 * time.Second)
	f.cut = nil
	f.serve(200 * time.Millisecond)
	for _, h := range f.hosts {
		if h.alive() != len(f.hosts)-1 {
			f.t.Errorf("%s sees %d peers 200 ms after", h.node.name, h.alive())
		}
	}
	f.serve(2 * time.Second)
}

// A fleet that grows beyond what is a full mesh, and shrinks again, under load.
func TestFleetGrowsAndShrinks(t *testing.T) {
	s := scenario{nodes: 31, load: even(3000, 31), interval: 20 * time.Millisecond, during: func(f *fleet) {
		f.serve(1500 * time.Millisecond)
		f.relaying(false)
		for range 3 {
			f.join(3)
			f.serve(300 * time.Millisecond)
		}
		f.serve(time.Second)
		f.relaying(true)
		for _, h := range f.hosts[:10] {
			f.leave(h)
			f.serve(100 * time.Millisecond)
		}
		f.serve(time.Second)
		f.relaying(false)
	}}
	t.Run("31 to 40 to 30", s.run)
}

// atLength says whether to simulate longer, and more nodes: minutes of work.
func atLength() bool { return os.Getenv("SLUICE_SIMULATE") == "long" }

// Large fleets; SLUICE_SIMULATE=long has more of them, in minutes. What they send is told by BenchmarkBytes.
func TestLargeFleet(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("slow")
	}
	const usual = 50 * time.Millisecond
	lose := func(share float64) func(*fleet) { return func(f *fleet) { f.loss = share; f.run(5 * time.Second) } }
	for _, c := range []struct {
		intent   string
		nodes    int
		interval time.Duration
		lasting  time.Duration
		load     float64
		change   func(*fleet)
		fewer    float64 // admitted than by one bucket, at most
		long     bool
	}{
		{intent: "64, evenly", nodes: 64, interval: usual, lasting: 2 * time.Second, load: 30_000},
		{intent: "128, evenly", nodes: 128, interval: usual, lasting: 1500 * time.Millisecond, load: 30_000},
		{intent: "128, evenly, for longer", nodes: 128, interval: usual, lasting: 5 * time.Second, load: 30_000, long: true},
		{intent: "128, evenly, often", nodes: 128, interval: testInterval, lasting: 3 * time.Second, load: 30_000, long: true},
		{intent: "128, a flood", nodes: 128, interval: usual, lasting: 3 * time.Second, load: 500_000, long: true},
		{intent: "128, 1 % lost", nodes: 128, interval: usual, lasting: 4 * time.Second, load: 30_000, change: lose(0.01), long: true},
		{intent: "128, 10 % lost", nodes: 128, interval: usual, lasting: 4 * time.Second, load: 30_000, change: lose(0.1), long: true},
		{intent: "128, one in eight killed", nodes: 128, interval: usual, lasting: 4 * time.Second, load: 30_000, change: func(f *fleet) {
			f.after(2*time.Second, func() {
				for i := 0; i < len(f.hosts); i += 8 {
					f.kill(f.hosts[i])
				}
			})
		}, fewer: 12.5, long: true}, // the part of those who are silent
	} {
		if c.long && !atLength() {
			continue
		}
		t.Run(c.intent, func(t *testing.T) {
			f := newFleet(t, c.nodes, 0, 10_000, 10_000, c.interval)
			f.load = even(c.load, c.nodes)
			if c.change != nil {
				c.change(f)
				f.begun = f.now
			}
			bytes, packets, began := f.bytes, f.carried, f.now
			f.serve(c.lasting)
			each := (f.now - began).Seconds() * float64(c.nodes)
			o := f.outcome()
			t.Logf("%v; %.0f packets/s and %.0f kB/s a node", o, float64(f.carried-packets)/each, float64(f.bytes-bytes)/each/1000)
			if o.excess > 1 || !(o.rate > -2.5-c.fewer) {
				t.Error(o)
			}
		})
	}
}
