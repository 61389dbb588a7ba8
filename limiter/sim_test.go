package limiter

import (
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// A simulation is some nodes with a limiter each, on one virtual clock, with a virtual network between them that
// carries their deltas as limiter/gossip does: in frames that wait for acknowledgements, which ride on the frames of
// the other direction. Beside them, one central bucket gets the same requests. The same seed makes the same run.
type simulation struct {
	interval, delay time.Duration
	step            time.Duration
	rate, burst     int64
	nodes           []*simNode
	random          *rand.Rand
	now             time.Duration
	load            func(now time.Duration, node int) float64 // requests a second
	cut             func(now time.Duration, from, to int) bool
	loss            float64
	lossy           func(now time.Duration) bool // during which all is lost; nil: never
	noRepair        bool                         // what is lost is not sent again
	silence         time.Duration                // after which a peer is told silent
	inFlight        []*simArrival                // heap by time would be faster; frames are few

	oracle   *Limiter
	oracleOf *Rule
	level    float64 // tokens that the bucket lacks, if everything that was admitted came out of one
	excess   float64 // most of what it was beyond the burst
	excessAt time.Duration
	frames   int
	urgent   int
	deltas   int
	settle   time.Duration // from when on requests are counted
	asked    int64         // since then
	passed   int64
	byOracle int64
	wronged  int64 // refused here, and admitted by the central bucket
}

// simNode is a node of the fleet.
type simNode struct {
	index         int
	engine        engine
	down          bool
	next          time.Duration // its next flush
	lastSent      time.Duration
	hurry         bool // an answer to an urgent frame is due
	out           []*simFrame
	heard         []time.Duration // by peer
	silent        []bool
	missed        []bool        // by peer: something it told never came
	merged        [][]*simFrame // by peer: to be acknowledged with the next flush
	lives         []int         // by peer: which of its lives frames come from
	got           []int64       // by peer: the frames up to which all were merged
	have          []map[int64]*simFrame
	seq           int64
	life          int // how often it began anew
	drift         float64
	asked, passed float64
	buffer        []Delta
}

// clock is the node's own.
func (n *simNode) clock(now time.Duration) time.Duration {
	return now + time.Duration(n.drift*float64(now))
}

// simFrame is what a flush sends.
type simFrame struct {
	from, life int
	seq        int64
	sent       time.Duration
	deltas     []Delta
	acks       [][]*simFrame // by peer
	urgent     bool
	waits      []bool // for whose acknowledgement
}

type simArrival struct {
	frame *simFrame
	to    int
	life  int
	at    time.Duration
}

func newSimulation(n int, rate, burst int64, interval, delay time.Duration, make func(s *simulation, node int) engine) *simulation {
	s := &simulation{interval: interval, delay: delay, rate: rate, burst: burst, random: rand.New(rand.NewPCG(1, 2))}
	s.silence = max(5*interval, 100*time.Millisecond)
	s.settle, s.step = time.Second, 500*time.Microsecond
	s.oracle = newTestLimiter(16)
	u, err := s.oracle.Prepare([]Spec{{Name: "o", Rate: Rate{rate, second}, Burst: burst}})
	if err != nil {
		panic("BUG: " + err.Error())
	}
	u.Commit(0)
	s.oracleOf = u.Rules()[0]
	for i := range n {
		s.nodes = append(s.nodes, &simNode{index: i, next: time.Duration(s.random.Int64N(int64(interval)))})
	}
	for i := range n {
		s.start(i, make(s, i))
	}
	return s
}

// start begins a node's life, with a state of nothing.
func (s *simulation) start(i int, e engine) {
	n, count := s.nodes[i], len(s.nodes)
	n.engine, n.down = e, false
	n.out, n.seq, n.hurry = nil, 0, false
	n.life++
	n.heard, n.silent, n.missed = make([]time.Duration, count), make([]bool, count), make([]bool, count)
	n.merged, n.got, n.have, n.lives = make([][]*simFrame, count), make([]int64, count), make([]map[int64]*simFrame, count), make([]int, count)
	for j := range count {
		n.heard[j] = s.now
	}
	n.buffer = make([]Delta, 0, 1024)
	s.tell(n)
}

// tell says to a node who its peers are.
func (s *simulation) tell(n *simNode) {
	var members []Member
	for j := range s.nodes {
		if j != n.index {
			m := Member{Peer: j, Missed: n.missed[j]}
			if n.silent[j] {
				m.State = Silent
			}
			members = append(members, m)
		}
	}
	n.engine.fleet(n.clock(s.now), members)
}

// run lets the simulation go on until a time.
func (s *simulation) run(until time.Duration) {
	for ; s.now < until; s.now += s.step {
		s.deliver()
		for _, n := range s.nodes {
			if !n.down {
				s.watch(n)
				s.requests(n)
				s.flush(n)
			}
		}
		s.level = max(0, s.level-float64(s.rate)*s.step.Seconds())
	}
}

// requests lets clients ask a node.
func (s *simulation) requests(n *simNode) {
	count := poisson(s.random, s.load(s.now, n.index)*s.step.Seconds())
	for i := range count {
		now := s.now + s.step*time.Duration(i)/time.Duration(count)
		ok := n.engine.take(n.clock(now))
		central := takeOne(s.oracle, s.oracleOf, 1, now)
		n.asked++
		if ok {
			n.passed++
			s.level++
		}
		if s.now >= s.settle {
			s.asked++
			if ok {
				s.passed++
			}
			if !central.Refused {
				s.byOracle++
				if !ok {
					s.wronged++
				}
			}
		}
	}
	if over := s.level - float64(s.burst); over > s.excess {
		s.excess, s.excessAt = over, s.now
	}
}

func poisson(r *rand.Rand, mean float64) int {
	if mean > 50 {
		return max(0, int(math.Round(mean+math.Sqrt(mean)*r.NormFloat64())))
	}
	limit, n := math.Exp(-mean), 0
	for p := r.Float64(); p > limit; p *= r.Float64() {
		n++
	}
	return n
}

// watch finds out which peers are silent.
func (s *simulation) watch(n *simNode) {
	changed := false
	for j := range s.nodes {
		if silent := s.now-n.heard[j] > s.silence; j != n.index && silent != n.silent[j] {
			n.silent[j], changed = silent, true
			if silent {
				for _, f := range n.out {
					f.waits[j] = false
				}
			}
		}
	}
	if changed {
		s.tell(n)
		s.settleAcks(n)
	}
}

// flush sends what there is to send, if it is time.
func (s *simulation) flush(n *simNode) {
	due := s.now >= n.next
	urgent := s.now-n.lastSent >= time.Millisecond && (n.engine.pressing() || n.hurry)
	if !due && !urgent {
		return
	}
	if due {
		n.next += s.interval
	}
	f := &simFrame{from: n.index, life: n.life, seq: n.seq, sent: s.now, urgent: !due && n.engine.wants(), waits: make([]bool, len(s.nodes))}
	n.seq++
	for {
		got := n.engine.drain(n.clock(s.now), n.buffer)
		f.deltas = append(f.deltas, got...)
		if len(got) < cap(n.buffer) {
			break
		}
	}
	f.acks, n.merged = n.merged, make([][]*simFrame, len(s.nodes))
	n.lastSent, n.hurry = s.now, false
	s.frames++
	s.deltas += len(f.deltas)
	if f.urgent {
		s.urgent++
	}
	for j := range s.nodes {
		if j != n.index {
			s.send(n, f, j)
		}
	}
	n.out = append(n.out, f)
	s.settleAcks(n)
}

func (s *simulation) send(n *simNode, f *simFrame, to int) {
	f.waits[to] = len(f.deltas) > 0 && !n.silent[to]
	if s.nodes[to].down {
		return
	}
	if s.cut != nil && s.cut(s.now, n.index, to) {
		s.nodes[to].missed[n.index] = true // it is not sent again
		return
	}
	at := s.now + s.delay
	for s.random.Float64() < s.loss || s.lossy != nil && s.lossy(at-s.delay) {
		if s.noRepair {
			g := *f
			g.deltas = nil
			f.waits[to], f = false, &g
			break
		}
		at += s.interval + 2*s.delay // until the gap is seen, told, and filled
	}
	s.inFlight = append(s.inFlight, &simArrival{f, to, s.nodes[to].life, at})
}

// deliver lets frames arrive.
func (s *simulation) deliver() {
	var now []*simArrival
	s.inFlight = slices.DeleteFunc(s.inFlight, func(a *simArrival) bool {
		if a.at <= s.now {
			now = append(now, a)
			return true
		}
		return false
	})
	for _, a := range now {
		n := s.nodes[a.to]
		if !n.down && n.life == a.life {
			s.receive(n, a.frame)
		}
	}
}

func (s *simulation) receive(n *simNode, f *simFrame) {
	from := f.from
	if s.nodes[from].life == f.life {
		n.heard[from] = s.now
	}
	if len(f.deltas) > 0 {
		n.engine.merge(n.clock(s.now), from, s.now-f.sent, f.deltas)
		n.merged[from] = append(n.merged[from], f)
		n.hurry = n.hurry || f.urgent
	}
	if n.lives[from] != f.life {
		n.lives[from], n.got[from], n.have[from] = f.life, 0, map[int64]*simFrame{}
	}
	if n.silent[from] { // it has come back, and what was sent meanwhile has not
		n.got[from] = max(n.got[from], f.seq)
	}
	if f.seq < n.got[from] { // it was given up
		n.acknowledgedBy(f)
	} else {
		n.have[from][f.seq] = f
	}
	if _, found := n.have[from][n.got[from]]; !found && len(n.have[from]) > 500 {
		n.got[from] = f.seq
	}
	// Acknowledgements count when nothing is missing that was sent before them.
	for g := n.have[from][n.got[from]]; g != nil; g = n.have[from][n.got[from]] {
		delete(n.have[from], g.seq)
		n.got[from]++
		n.acknowledgedBy(g)
	}
	s.settleAcks(n)
}

func (n *simNode) acknowledgedBy(f *simFrame) {
	for _, acked := range f.acks[n.index] {
		acked.waits[f.from] = false
	}
}

// settleAcks acknowledges what everybody has.
func (s *simulation) settleAcks(n *simNode) {
	n.out = slices.DeleteFunc(n.out, func(f *simFrame) bool {
		if slices.Contains(f.waits, true) {
			return false
		}
		n.engine.acknowledge(n.clock(s.now), f.deltas)
		return true
	})
}
