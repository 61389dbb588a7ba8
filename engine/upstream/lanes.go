package upstream

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// lateAnswer is how long requests wait for the one answer before theirs: most answers that share a connection are
	// there in a millisecond, and who comes to wait longer would have had a connection of its own meanwhile.
	lateAnswer = 20 * time.Millisecond
	// doubtEvery is how often it is looked at whether the target answers others meanwhile.
	doubtEvery = 2 * time.Millisecond
	// wholeAnswer is the largest body that is read before its exchange gets to see it.
	wholeAnswer = 64 << 10
	// maxBatch is how many bytes of requests are sent at once; maxPlaced is the largest request that may take a place.
	maxBatch  = 64 << 10
	maxPlaced = 16 << 10
)

// lender gives out the connections that become lanes. A *Target is one.
type lender interface {
	Acquire(deadline time.Time) (*Conn, error)
	Release(l Lease)
	Discard(l Lease)
}

// lanes is the shared connections to one target. Nil is none.
type lanes struct {
	lender
	depth    int
	keep     int // idle lanes of a group, as long as it has no more than so many
	connect  time.Duration
	response time.Duration
	work     *sync.WaitGroup // of all lanes
	credit   credit
	answers  atomic.Int64 // that the target has given, in lanes or not, give or take those of the moment
	panicked func(any)    // told of bugs; nil: nobody is
	groups   []group
	places   sync.Pool
}

// group is the lanes that one processor's worth of clients share, and the lock of all that is in them. It is also
// the only one that their places know.
type group struct {
	mu     sync.Mutex
	lanes  *lanes
	open   []*lane // those that take requests in
	closed bool
	_      [64]byte // groups are written by different processors
}

func newLanes(from lender, c *Config, work *sync.WaitGroup, moved *atomic.Uint64) *lanes {
	s := &lanes{
		lender: from, depth: c.Pipeline, connect: c.Timeouts.Connect, response: c.Timeouts.Response, work: work,
		groups: make([]group, runtime.GOMAXPROCS(0)), panicked: c.Panicked,
	}
	s.keep = (c.MaxIdle + len(s.groups) - 1) / len(s.groups)
	s.credit.start(c.Epoch, c.Pipeline, moved)
	for i := range s.groups {
		s.groups[i].lanes = s
	}
	return s
}

// Place gives a place in one of the target's lanes, for an exchange whose request is safe to be sent twice (RFC 9110
// section 9.2.1) and has no body. It is nil if lanes are not in use: a connection is to be acquired. Requests that
// spread equally share lanes.
func (t *Target) Place(spread uint32) *Place {
	if t.lanes == nil {
		return nil
	}
	return t.lanes.place(spread)
}

func (s *lanes) place(spread uint32) *Place {
	if s.credit.spent() {
		return nil
	}
	p, ok := s.places.Get().(*Place)
	if !ok {
		p = newPlace()
	}
	p.group = &s.groups[spread%uint32(len(s.groups))] // #nosec G115 -- processors
	return p
}

// join puts p, with its request, in the lane that is the fullest but has room: that is where it shares the most
// system calls. It fails if p was cut before.
func (g *group) join(p *Place, request []byte) error {
	g.mu.Lock()
	if p.state == placeLeft {
		g.mu.Unlock()
		return p.err
	}
	l := g.room(p, request)
	if l == nil {
		p.state, p.err = placeSettled, ErrMoved // whoever cuts it comes too late
		g.mu.Unlock()
		return ErrMoved
	}
	wake := l.enter(p, request)
	g.mu.Unlock()
	if wake {
		l.kick <- struct{}{}
	}
	return nil
}

// room is the lane for p, which is opened if there is none; nil if there is no use in waiting for one. It is called
// with the group's lock held.
func (g *group) room(p *Place, request []byte) *lane {
	if g.closed || len(request) > maxPlaced {
		return nil
	}
	l, connecting := g.pick(p.deadline, len(request))
	if l == nil && !connecting {
		l = g.begin()
	}
	if l == nil || !l.inTime(p.deadline) {
		return nil
	}
	return l
}

// pick is the fullest lane with room for a request of this size. One in doubt takes nobody: a newcomer is the last whom
// it would serve, and another lane is as good as any. One that is still connecting is for those who can wait as long as
// that may take; the others are told that there is one.
func (g *group) pick(deadline time.Time, size int) (best *lane, connecting bool) {
	for _, l := range g.open {
		if l.probes > 0 || l.queue.count == g.lanes.depth || len(l.out)+size > maxBatch && len(l.out) > 0 {
			continue
		}
		if !l.inTime(deadline) {
			connecting = true
			continue
		}
		if best == nil || l.queue.count > best.queue.count {
			best = l
		}
	}
	return best, connecting
}

// begin opens a lane, which connects by itself.
func (g *group) begin() *lane {
	l := newLane(g)
	g.open = append(g.open, l)
	g.lanes.work.Go(l.run)
	return l
}

// remove takes a lane out of those that take requests in.
func (g *group) remove(l *lane) {
	for i, other := range g.open {
		if other == l {
			last := len(g.open) - 1
			g.open[i], g.open[last] = g.open[last], nil
			g.open = g.open[:last]
			return
		}
	}
}

// idle counts the lanes in which nobody waits.
func (s *lanes) idle() (n int) {
	if s == nil {
		return 0
	}
	for i := range s.groups {
		g := &s.groups[i]
		g.mu.Lock()
		for _, l := range g.open {
			if l.connected && l.queue.count == 0 {
				n++
			}
		}
		g.mu.Unlock()
	}
	return n
}

// retire lets no request into a lane any more. Lanes end when they are empty.
func (s *lanes) retire() {
	if s == nil {
		return
	}
	for i := range s.groups {
		g := &s.groups[i]
		g.mu.Lock()
		g.closed = true
		for _, l := range g.open {
			l.leaving = true
			l.stir()
		}
		g.open = nil
		g.mu.Unlock()
	}
}
