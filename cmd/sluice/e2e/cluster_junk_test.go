package e2e

import (
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// Junk at the gossip's port disturbs no request, is counted, and costs no memory.
func TestClusterJunk(t *testing.T) {
	c := newCluster(t, 2)
	c.start()
	d := c.overload(2)
	g := c.members[0]
	before := g.rss()
	var junk sync.WaitGroup
	junk.Go(func() { junkPackets(t, c.gossip[0], 200_000) })
	junk.Go(func() { junkStreams(t, c.gossip[0]) })
	d.expectRate("under junk", 1500*time.Millisecond, 0.90)
	junk.Wait()
	dropped := func() (n uint64) {
		for _, of := range g.clusterStatus(t).Dropped {
			n += of
		}
		return n
	}
	last := uint64(0)
	eventually(t, "all of it is read", func() bool {
		before := last
		last = dropped()
		return last >= 10_000 && last == before
	})
	most := int64(64 << 20)
	if raceDetector() { // which has notes on all memory that was used once
		most *= 4
	}
	if grown := g.rss() - before; grown > most {
		t.Errorf("the process has grown by %d MiB", grown>>20)
	}
	d.expectRate("after it", time.Second, 0.95)
	d.end()
	if n := d.lost.Load(); n > 0 {
		t.Errorf("%d requests were lost", n)
	}
	c.expectLimit(clusterPercent)
	g.expectPeers(t, "alive", 1)
	t.Logf("dropped: %v", g.clusterStatus(t).Dropped)
	if n, told := dropped(), total(g.scrape(t), "sluice_cluster_dropped_total"); uint64(told) < n {
		t.Errorf("%d packets were dropped, metrics say %.0f", n, told)
	}
	g.expectLogged(t, "not made with our secret")
}

// junkPackets sends packets that look like those of each kind, and random ones.
func junkPackets(t testing.TB, to string, n int) {
	conn, err := net.Dial("udp", to)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	b := make([]byte, 1400)
	random := rand.NewChaCha8([32]byte{})
	for i := range n {
		_, _ = random.Read(b[:64])
		size := 1 + rand.IntN(len(b))
		switch i % 5 {
		case 0:
			b[0] = 244 // memberlist's label
			copy(b[1:], "\x06sluice")
		case 1, 2, 3:
			b[0] = 0x50 + byte(i%5) // frames, direct packets and hellos
			size = min(max(size, 100), 1200)
		}
		_, _ = conn.Write(b[:size])
		if i%200 == 199 {
			time.Sleep(time.Millisecond) // else the kernel would drop most of them
		}
	}
}

// junkStreams opens streams that say what no member says, or nothing.
func junkStreams(t testing.TB, to string) {
	random := rand.NewChaCha8([32]byte{1})
	silent := []net.Conn{}
	for i := range 200 {
		conn, err := net.DialTimeout("tcp", to, patience)
		if err != nil {
			t.Error(err)
			return
		}
		if i%10 == 0 {
			silent = append(silent, conn)
			continue
		}
		b := make([]byte, 1+rand.IntN(2000))
		_, _ = random.Read(b)
		if i%2 == 0 {
			b = append([]byte("\xf4\x06sluice\x0a"), b...)
		}
		_, _ = conn.Write(b)
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		_, _ = io.Copy(io.Discard, conn)
		conn.Close()
	}
	for _, conn := range silent {
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); err != nil {
			if timeout, is := err.(net.Error); is && timeout.Timeout() {
				t.Error("a silent stream is kept for ever")
			}
		}
		conn.Close()
	}
}
