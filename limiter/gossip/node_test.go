package gossip

import (
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/limiter"
)

// traffic lets all spend for d: so many units a millisecond each, a key for each unit.
func (w *network) traffic(d time.Duration, rate int) {
	var key limiter.Key
	for end := w.now + d; w.now < end; w.run(time.Millisecond) {
		for _, h := range w.hosts {
			for range rate {
				if !h.down {
					key++
					w.spend(h, key, 1+uint32(key%3))
				}
			}
		}
	}
}

func TestDeltasArriveOnce(t *testing.T) {
	cases := []struct {
		nodes  int
		loss   float64
		twice  float64
		flip   float64
		jitter time.Duration
		intent string
	}{
		{2, 0, 0, 0, 0, "a clean network"},
		{8, 0, 0, 0, 0, "more nodes"},
		{3, 0.01, 0, 0, 0, "a packet in a hundred is lost"},
		{3, 0.1, 0, 0, time.Millisecond, "one in ten"},
		{3, 0.3, 0, 0, time.Millisecond, "nearly one in three"},
		{3, 0, 1, 0, 0, "every packet comes twice"},
		{3, 0, 0, 0, 20 * time.Millisecond, "packets overtake each other by far"},
		{3, 0.1, 0.5, 0.05, 20 * time.Millisecond, "everything at once"},
		{8, 0.3, 0.5, 0.05, 20 * time.Millisecond, "everything at once, and more nodes"},
	}
	for i, c := range cases {
		t.Run(c.intent, func(t *testing.T) {
			w := newNetwork(t, c.nodes, uint64(i))
			w.meet()
			w.loss, w.twice, w.flip, w.jitter = c.loss, c.twice, c.flip, c.jitter
			w.traffic(2*time.Second, 3)
			w.settle(3 * time.Second)
			w.agree()
			for _, h := range w.hosts {
				if c.loss == 0 && c.flip == 0 && c.jitter == 0 && h.node.stats.Repaired > 0 {
					t.Errorf("%s sent %d frames again for nothing", h.node.name, h.node.stats.Repaired)
				}
				if h.alive() != c.nodes-1 {
					t.Errorf("%s believes %d peers to be alive", h.node.name, h.alive())
				}
			}
		})
	}
}

func TestPeersAreToldInTime(t *testing.T) {
	for _, nodes := range []int{2, 8} {
		w := newNetwork(t, nodes, 1)
		w.meet()
		for i := range 200 {
			w.run(time.Duration(i) * 100 * time.Microsecond)
			key := limiter.Key(i)
			w.spend(w.hosts[0], key, 1)
			w.run(testInterval + w.delay + 5*time.Millisecond)
			for _, h := range w.hosts[1:] {
				if h.keys[0][key] != 1 {
					t.Fatalf("%d nodes: %s does not have key %d in time", nodes, h.node.name, i)
				}
			}
			w.run(testInterval + w.delay)
			if h := w.hosts[0]; h.acked != h.spent {
				t.Fatalf("%d nodes: key %d is not acknowledged in time", nodes, i)
			}
		}
	}
}
