package e2e

import (
	"fmt"
	"syscall"
	"testing"
	"time"
)

const clusterPhase = 1500 * time.Millisecond // how long a kind of load is watched

// Three gateways keep one limit, wherever the requests come in.
func TestClusterKeepsOneLimit(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	d := c.overload(3)
	d.expectRate("even", clusterPhase, 0.95)
	d.spread(90, 5, 5)
	d.follow()
	d.expectRate("90/5/5", clusterPhase, 0.95)
	d.spread(0, 1, 0)
	d.follow()
	d.expectRate("all on one", clusterPhase, 0.95)
	d.end()
	c.expectLimit(clusterPercent)
	for _, g := range c.members {
		if n := g.clusterStatus(t).Excess; n > clusterPercent && !raceDetector() {
			t.Errorf("a gateway tells of an excess of %d", n)
		}
	}
	if n := d.lost.Load(); n > 0 {
		t.Errorf("%d requests were lost", n)
	}
}

// Eight keep it too.
func TestClusterOfEight(t *testing.T) {
	c := newCluster(t, 8)
	c.start()
	d := c.overload(2)
	d.expectRate("even", 2*time.Second, 0.90)
	d.end()
	c.expectLimit(clusterPercent)
}

// One that is killed and comes back lets nothing pass that its peers have let pass already, and gets its share again.
func TestClusterMemberKilledAndRestarted(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	d := c.overload(3)
	victim := c.members[1]
	victim.signal(syscall.SIGKILL)
	<-victim.exited
	c.members[0].expectPeers(t, "silent", 1)
	c.members[2].expectPeers(t, "silent", 1)
	victim.start()
	before := d.passed[1].Load()
	eventually(t, "the restarted gateway lets something pass", func() bool { return d.passed[1].Load() > before })
	from, before := time.Now(), d.passed[1].Load()
	time.Sleep(2 * time.Second) // a measurement
	share := float64(d.passed[1].Load()-before) / time.Since(from).Seconds() / (clusterRate / 3)
	t.Logf("the restarted gateway has %.2f of its share", share)
	if share < 0.5 && !raceDetector() {
		t.Errorf("the restarted gateway has %.2f of its share, want at least half", share)
	}
	d.end()
	c.expectLimit(clusterPercent)
}

// overloadedRelays is three members that hear each other by relays, and have spent their burst.
func overloadedRelays(t testing.TB) (*cluster, []*relay, *demand) {
	t.Helper()
	relays := startRelays(t, 3)
	c := newCluster(t, 3, relays...)
	c.start()
	return c, relays, c.overload(3)
}

// What the network loses, repeats and reorders changes nothing.
func TestClusterLossyNetwork(t *testing.T) {
	c, relays, d := overloadedRelays(t)
	for _, l := range []struct {
		loss  int64
		least float64 // of the limit
	}{{0, 0.95}, {1, 0.95}, {10, 0.93}, {30, 0.85}} {
		for _, r := range relays {
			r.loss.Store(l.loss)
		}
		d.follow()
		d.expectRate(fmt.Sprintf("%d %% lost", l.loss), 1200*time.Millisecond, l.least)
	}
	d.end()
	c.expectLimit(clusterPercent)
}

// While one cannot hear the other two, both sides stay within the limit, but for what is known late; once they hear
// each other again, so is the whole of it in force.
func TestClusterPartition(t *testing.T) {
	c, relays, d := overloadedRelays(t)
	for i, r := range relays {
		r.cutOff(func(from string) bool { return i == 2 || from == "" || from == c.gossip[2] })
	}
	cut := time.Now()
	before := []int64{d.passed[0].Load(), d.passed[1].Load(), d.passed[2].Load()}
	c.members[2].expectPeers(t, "silent", 2)
	c.members[0].expectPeers(t, "silent", 1)
	if late := time.Since(cut); late > time.Second && !raceDetector() {
		t.Errorf("it took %v until the peers were called silent", late)
	}
	time.Sleep(time.Until(cut.Add(3 * time.Second))) // a measurement of what passes meanwhile
	t.Logf("cut: %.1f %% of the limit", 100*c.passedWithin(cut, time.Now()))
	for i := range before {
		t.Logf("member %d let %d pass; %+v", i, d.passed[i].Load()-before[i], c.members[i].clusterStatus(t).Peers)
	}
	during := c.excess(clusterRate)
	for _, r := range relays {
		r.heal()
	}
	healed := time.Now()
	c.members[2].expectPeers(t, "alive", 2)
	c.members[0].expectPeers(t, "alive", 2)
	long := time.Since(cut).Seconds()
	t.Logf("excess %.1f while cut; they hear each other again after %v", during, time.Since(healed))
	d.follow()
	d.expectRate("healed", 2*time.Second, 0.95)
	d.end()
	if raceDetector() { // what peers use is then known too roughly to be held
		t.Logf("excess %.1f", c.excess(clusterRate))
		return
	}
	c.expectLimit(0.04*long*clusterRate + clusterPercent)
}

// The measure of these tests sees what is too much, and no more.
func TestClusterMeasure(t *testing.T) {
	t.Parallel()
	for _, m := range []struct {
		intent      string
		n           int
		every, took time.Duration
		want        float64
	}{
		{"what the limit grants", 1000, 10 * time.Millisecond, time.Millisecond, 0},
		{"the burst at once", 100, 0, time.Millisecond, 0},
		{"half more at once", 150, 0, 0, 50},
		{"twice the rate for five seconds, less the burst", 1000, 5 * time.Millisecond, 0, 400},
		{"answers that come late are no excess", 150, 0, time.Second, 0},
	} {
		c := &cluster{t: t, events: make([]event, mostEvents)}
		c.asked.Store(int64(m.n))
		for i := range m.n {
			c.events[i].sent.Store(int64(time.Duration(i) * m.every))
			c.events[i].passed.Store(int64(time.Duration(i)*m.every+m.took) + 1)
		}
		if got := c.excess(100); got < m.want-2 || got > m.want+2 {
			t.Errorf("%s: %.1f, want %.1f", m.intent, got, m.want)
		}
	}
}
