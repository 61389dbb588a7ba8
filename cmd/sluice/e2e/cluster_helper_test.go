package e2e

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// What the clusters of these tests may let pass together, in requests a second and at once; and a percent of what
// that is in the first second, which is how much more is forgiven.
const (
	clusterRate    = 300
	clusterPercent = 2 * clusterRate / 100.0
)

const (
	clusterSecret  = "0123456789abcdef0123456789abcdef"
	clusterSecret2 = "fedcba9876543210fedcba9876543210"
)

// cluster is gateways with one limit, in front of an upstream that notes when each request came.
type cluster struct {
	t       testing.TB
	up      *service
	members []*gateway
	gossip  []string // where each listens
	public  []string // where its peers send to: the same, or a relay

	began  time.Time
	asked  atomic.Int64
	late   atomic.Int64 // how late a request was sent at worst, in nanoseconds: the machine is as busy as that
	events []event
}

// event is a request: when it was sent, and came to the upstream, by the test's clock; 0 if it did not.
type event struct {
	sent, passed atomic.Int64
}

const mostEvents = 100_000

// newCluster prepares so many gateways with relays between them, or none, and starts nothing.
func newCluster(t testing.TB, size int, relays ...*relay) *cluster {
	t.Helper()
	c := &cluster{t: t, began: time.Now(), events: make([]event, mostEvents)}
	c.up = startService(t, func(_ http.ResponseWriter, r *http.Request) {
		if n, err := strconv.Atoi(r.URL.Path[1:]); err == nil && n < mostEvents {
			c.events[n].passed.Store(int64(time.Since(c.began)))
		}
	})
	for i := range size {
		if relays != nil {
			c.gossip, c.public = append(c.gossip, relays[i].to), append(c.public, relays[i].address)
			continue
		}
		c.gossip = append(c.gossip, freeAddress(t))
		c.public = append(c.public, c.gossip[i])
	}
	for i := range size {
		c.members = append(c.members, newGateway(t, c.text(i, clusterSecret, "", "")))
	}
	return c
}

// text is the configuration of a member; more is the rest of [cluster], and rule what the limit says beside its rate.
func (c *cluster) text(i int, secret, more, rule string) string {
	if !strings.Contains(rule, "rate") {
		rule += fmt.Sprintf("\nrate = \"%d/s\"\nburst = %d", clusterRate, clusterRate)
	}
	return fmt.Sprintf("[cluster]\nlisten = %q\nadvertise = %q\npeers = [\"%s\"]\nname = \"member%d\"\nsecret = %q\n%s\n",
		c.gossip[i], c.public[i], strings.Join(slices.Delete(slices.Clone(c.public), i, i+1), `", "`), i, secret, more) +
		rated(c.up.URL, limit("shared", "scope = \"cluster\"\n"+rule), "shared")
}

// start starts all members at once, and waits until all hear each other.
func (c *cluster) start() {
	c.t.Helper()
	for _, g := range c.members {
		g.begin()
	}
	for _, g := range c.members {
		g.awaitReady()
	}
	for _, g := range c.members {
		g.expectPeers(c.t, "alive", len(c.members)-1)
	}
}

// peers lists those of a gateway's peers that are in a state.
func (g *gateway) peers(t testing.TB, state string) (names []string) {
	t.Helper()
	s := g.status(t).Cluster
	if s == nil {
		return nil
	}
	for _, p := range s.Peers {
		if p.State == state {
			names = append(names, p.Name)
		}
	}
	return names
}

func (g *gateway) expectPeers(t testing.TB, state string, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d peers are %s", n, state), func() bool { return len(g.peers(t, state)) == n })
}

func (g *gateway) clusterStatus(t testing.TB) *engine.ClusterStatus {
	t.Helper()
	s := g.status(t).Cluster
	if s == nil {
		t.Fatal("the gateway says that it is on its own")
	}
	return s
}

// demand is clients that ask the members for more than the limit, at a pace that does not wait for answers.
type demand struct {
	c       *cluster
	weights atomic.Pointer[[]float64]
	queues  []chan int
	stop    chan struct{}
	ended   sync.WaitGroup
	lost    atomic.Int64 // requests that got no answer, or none that there should be
	passed  []atomic.Int64
	refused []atomic.Int64
	missed  atomic.Int64 // that were due and could not be sent: all connections were taken
	answer  atomic.Int64
}

const demandConnections = 6 // to each member

// demand begins to ask for so many requests a second, spread over the members by weight.
func (c *cluster) demand(rate int, weights ...float64) *demand {
	d := &demand{c: c, stop: make(chan struct{}), passed: make([]atomic.Int64, len(c.members)), refused: make([]atomic.Int64, len(c.members))}
	d.weights.Store(&weights)
	for i, g := range c.members {
		queue := make(chan int, demandConnections)
		d.queues = append(d.queues, queue)
		for range demandConnections {
			d.ended.Go(func() { d.work(i, g.address, queue) })
		}
	}
	d.ended.Go(func() { d.pace(rate) })
	c.t.Cleanup(d.end)
	return d
}

// overload begins to ask every member alike, for so many times what they may let pass together, and returns once the
// burst is spent.
func (c *cluster) overload(times int) *demand {
	c.t.Helper()
	even, all := make([]float64, len(c.members)), make([]int, len(c.members))
	for i := range even {
		even[i], all[i] = 1, i
	}
	d := c.demand(times*clusterRate, even...)
	d.untilRefused(all...)
	return d
}

// untilRefused waits until these members have refused more requests together than they may while some of the burst is
// left, which they do not spend at one time. Which of them refuses most is nobody's business: one may let all pass that it
// is asked.
func (d *demand) untilRefused(members ...int) {
	d.c.t.Helper()
	refused := func() (n int64) {
		for _, i := range members {
			n += d.refused[i].Load()
		}
		return n
	}
	enough := refused() + clusterRate/3
	eventually(d.c.t, "the burst is spent", func() bool { return refused() >= enough })
}

// end ends the clients, and waits for them.
func (d *demand) end() {
	select {
	case <-d.stop:
	default:
		close(d.stop)
	}
	d.ended.Wait()
}

// spread changes the weights.
func (d *demand) spread(weights ...float64) { d.weights.Store(&weights) }

func (d *demand) pace(rate int) {
	defer func() {
		for _, q := range d.queues {
			close(q)
		}
	}()
	began, every := time.Now(), time.Second/time.Duration(rate)
	credit := make([]float64, len(d.queues))
	for n := 1; ; n++ {
		select {
		case <-d.stop:
			return
		case <-time.After(time.Until(began.Add(time.Duration(n) * every))):
		}
		d.c.late.Store(max(d.c.late.Load(), int64(time.Since(began.Add(time.Duration(n)*every)))))
		best := 0
		for i, w := range *d.weights.Load() {
			credit[i] += w
			if credit[i] > credit[best] {
				best = i
			}
		}
		for _, w := range *d.weights.Load() {
			credit[best] -= w
		}
		event := int(d.c.asked.Add(1)) - 1
		if event >= mostEvents {
			return
		}
		select {
		case d.queues[best] <- event:
		default:
			d.missed.Add(1)
		}
	}
}

// work is a client of one member. That nobody listens is no loss: no request was sent.
func (d *demand) work(member int, address string, queue <-chan int) {
	var conn net.Conn
	var in *bufio.Reader
	hangUp := func() {
		if conn != nil {
			conn.Close()
			conn = nil
		}
	}
	defer hangUp()
	for n := range queue {
		if conn == nil {
			var err error
			if conn, err = net.DialTimeout("tcp", address, patience); err != nil {
				conn = nil
				continue
			}
			in = bufio.NewReader(conn)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		d.c.events[n].sent.Store(int64(time.Since(d.c.began)))
		_, err := fmt.Fprintf(conn, "GET /%d HTTP/1.1\r\nHost: h\r\n\r\n", n)
		var r *response
		if err == nil {
			r, err = readResponse(in, "GET")
		}
		if err != nil || r.cut != nil || r.status != 200 && r.status != 429 {
			d.lost.Add(1)
			hangUp()
			continue
		}
		d.answer.Add(1)
		if r.status == 200 {
			d.passed[member].Add(1)
		} else {
			d.refused[member].Add(1)
		}
		if strings.EqualFold(r.fields.get("Connection"), "close") {
			hangUp()
		}
	}
}

// excess is by how much more than rate*time + burst passed in the worst span of time. Only what was both sent and
// passed within a span is counted in it, so that what is found did happen, however slow the machine is; what may be
// missed is what was under way at a span's beginning.
func (c *cluster) excess(rate float64) (worst float64) {
	type span struct{ sent, passed float64 }
	var all []span
	for i := range min(c.asked.Load(), mostEvents) {
		if e := &c.events[i]; e.passed.Load() > 0 {
			all = append(all, span{time.Duration(e.sent.Load()).Seconds(), time.Duration(e.passed.Load()).Seconds()})
		}
	}
	slices.SortFunc(all, func(a, b span) int { return int(1e9 * (a.passed - b.passed)) })
	for i := 0; i < len(all); i++ {
		from, n := all[i].sent, 0.0
		for _, e := range all {
			if e.sent >= from {
				n++
				worst = max(worst, n-rate-rate*(e.passed-from))
			}
		}
	}
	return worst
}

// passedWithin is how many requests passed in a span of time, against what the limit grants in it.
func (c *cluster) passedWithin(from, to time.Time) float64 {
	n := 0
	for i := range min(c.asked.Load(), mostEvents) {
		if at := c.began.Add(time.Duration(c.events[i].passed.Load())); !at.Before(from) && at.Before(to) {
			n++
		}
	}
	return float64(n) / clusterRate / to.Sub(from).Seconds()
}

// expectLimit checks that no more passed, at any time, than the limit and what is forgiven. What a process was told but
// had no processor to read is forgiven too: as much as the limit lets pass in the longest time that this process had to
// wait for one; and what the race detector adds to that.
func (c *cluster) expectLimit(forgiven float64) {
	c.t.Helper()
	got, late := c.excess(clusterRate), time.Duration(c.late.Load())
	forgiven += clusterRate * min(late.Seconds(), 0.1)
	if raceDetector() {
		forgiven += 10 * clusterPercent // gossip is late then: who counts a part twice, or not at all, passes more
	}
	c.t.Logf("%d requests, at worst %v late; excess %.1f, %.2f %% of the first second's", c.asked.Load(), late, got, got/clusterPercent)
	if got > forgiven {
		c.t.Errorf("%.1f requests more than the limit passed, want at most %.1f", got, forgiven)
	}
}

// follow gives the members the time in which they have to follow a change of the load or of the network. It is no wait
// for a condition, as it is what expectRate measures after it that shows whether they did.
func (d *demand) follow() { time.Sleep(500 * time.Millisecond) }

// expectRate lets the load go on for so long, and checks that the limit is used. With the race detector, and where the
// load cannot even be sent, gossip is late: then it only tells.
func (d *demand) expectRate(what string, long time.Duration, least float64) {
	d.c.t.Helper()
	missed, lost := d.missed.Load(), d.lost.Load()
	from := time.Now()
	time.Sleep(long) // a measurement
	rate := d.c.passedWithin(from, time.Now())
	d.c.t.Logf("%s: %.1f %% of the limit; %d not sent, %d lost", what, 100*rate, d.missed.Load()-missed, d.lost.Load()-lost)
	if sent := d.missed.Load()-missed < 5; rate < least && sent && !raceDetector() {
		d.c.t.Errorf("%s: %.1f %% of the limit is used, want %.0f", what, 100*rate, 100*least)
	}
}
