package e2e

import (
	"fmt"
	"testing"
)

// Redis is away, on_store_error is "local", and the gateways are members of a cluster: the limit that each of them
// would keep alone is kept by both together. The bucket does not fill during the test, so that what passed is countable.
// On a machine that starves them the two may not hear each other in time, for a moment, just as the burst is spent; each
// on its own would let pass all of it.
func TestRateRedisAwayInACluster(t *testing.T) {
	t.Parallel()
	const burst = 300
	f := &fleet{t: t, redis: newRedis(t), up: startCounted(t)} // which is never started
	gossip := [2]string{freeAddress(t), freeAddress(t)}
	for i := range f.both {
		f.both[i] = startGateway(t, fmt.Sprintf("[cluster]\nlisten = %q\npeers = [%q]\nsecret = %q\nname = \"n%d\"\n",
			gossip[i], gossip[1-i], "0123456789abcdef0123456789abcdef", i)+
			f.tables("100ms", fmt.Sprintf("rate = \"1/d\"\nburst = %d", burst)))
	}
	eventually(t, "the gateways hear each other", func() bool {
		for _, g := range f.both {
			if c := g.status(t).Cluster; c == nil || len(c.Peers) != 1 || c.Peers[0].State != "alive" {
				return false
			}
		}
		return true
	})
	// Neither may pass what the other one might have passed unheard: the last of a burst wait until it is heard.
	passed := f.flood(8, 6*burst, func() {})[200]
	eventually(t, "nearly all of the burst has passed", func() bool {
		if passed < burst*9/10 {
			passed += f.flood(8, burst/10, func() {})[200]
		}
		return passed >= burst*9/10
	})
	if passed > burst*3/2 {
		t.Errorf("%d of %d passed", passed, burst)
	}
}
