package e2e

import (
	"syscall"
	"testing"
	"time"
)

// Two members that are asked alike get alike, some seconds after one of them was killed and came back, while the load goes
// on.
func TestClusterMembersShareAfterRestart(t *testing.T) {
	c := newCluster(t, 2)
	c.start()
	d := c.overload(6)
	victim := c.members[1]
	victim.signal(syscall.SIGKILL)
	<-victim.exited
	time.Sleep(2 * time.Second) // so long it is away
	victim.start()
	c.members[0].expectPeers(t, "alive", 1)
	measure := func(long time.Duration) (share float64) {
		first, last := d.passed[0].Load(), d.passed[1].Load()
		time.Sleep(long) // a measurement
		first, last = d.passed[0].Load()-first, d.passed[1].Load()-last
		t.Logf("%d and %d passed in %v", first, last, long)
		return float64(last) / float64(max(first+last, 1))
	}
	measure(3 * time.Second)
	if share := measure(2 * time.Second); (share < 0.25 || share > 0.75) && !raceDetector() {
		t.Errorf("the member that was killed has %.2f of what passes", share)
	}
}
