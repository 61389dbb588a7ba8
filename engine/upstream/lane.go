package upstream

import (
	"errors"
	"io"
	"time"

	"github.com/sluice-gateway/sluice/engine/wire"
)

var (
	errUnasked = errors.New("upstream: bytes that nobody asked for")
	// Why a lane ends that has done nothing wrong.
	errClosed  = errors.New("upstream: the lane's connection is not to be used again")
	errSpare   = errors.New("upstream: the lane's connection is good for others")
	errHanded  = errors.New("upstream: the lane's connection is an exchange's")
	errBug     = errors.New("upstream: a bug was met in the lane")
	errTooSlow = errors.New("upstream: the answer at the front is late")
)

// lane is one connection to a target that requests share: they are sent together, as many as are there, and answered
// in their order (RFC 9112 section 9.3.2). Its two goroutines, one of which sends and one receives, are the only ones
// that touch the connection.
type lane struct {
	group     *group
	conn      *Conn
	connectBy time.Time
	kick      chan struct{}
	sender    chan struct{} // closed when the sender has ended
	readAt    time.Time     // when bytes last came; the receiver's
	asked     int           // likewise: how many requests had been sent by then
	inBody    bool          // likewise
	earned    int64         // likewise: answers since the last credit
	sends     bool          // likewise: there is a sender

	// Guarded by the group's lock.
	connected  bool
	leaving    bool // takes nobody in any more
	ended      bool
	alone      bool // nobody follows the request at the front: it is late
	tainted    bool // answers will come that nobody waits for, or requests were sent in part
	queue      ring
	sent       int       // of the queue
	answered   int       // since it is a lane
	stale      uint64    // the last turn of the socket that may have taken what came before the requests under way were sent
	before     int       // how many had been answered by then
	out, spare []byte    // requests to be sent; a buffer that is not in use
	resting    bool      // the sender waits for kick
	writing    bool      // or is at work
	lateAt     time.Time // when the front's answer, all of it, is late
	looked     bool      // whether it is there, but has not been read
	probes     int       // how many were last moved in doubt
	heard      int64     // how many answers the target had given anybody before that
	idleSince  time.Time // when the queue became empty
	soonest    time.Time // no place has to be told before that it is late; zero: none
	armed      time.Time // the read deadline of the connection; zero: none
}

// newLane is called with the group's lock held.
func newLane(g *group) *lane {
	return &lane{group: g, connectBy: time.Now().Add(g.lanes.connect), kick: make(chan struct{}, 1), sender: make(chan struct{})}
}

// inTime says whether the lane will be connected by a deadline, or will not be at all. It is called with the group's
// lock held.
func (l *lane) inTime(deadline time.Time) bool {
	return l.connected || deadline.IsZero() || !deadline.Before(l.connectBy)
}

// enter takes a request in, and says whether the sender must be woken. It is called with the group's lock held.
func (l *lane) enter(p *Place, request []byte) (wake bool) {
	p.state, p.lane, p.sent, p.by = placeWaiting, l, time.Time{}, p.deadline
	l.queue.push(p, l.group.lanes.depth)
	l.out = append(l.out, request...)
	if !p.deadline.IsZero() {
		l.await(p.deadline)
		if l.connected {
			l.arm(p.deadline)
		}
	}
	wake, l.resting = l.resting, false
	return wake
}

// run is the life of a lane.
func (l *lane) run() {
	s := l.group.lanes
	defer l.contain(func() {
		l.fail(errBug)
		if l.conn == nil {
			return
		}
		l.conn.Tether().Cut()
		if l.sends {
			<-l.sender
		}
		l.conn.lane = nil
		s.Discard(l.conn)
	})
	conn, err := s.Acquire(l.connectBy)
	if err != nil {
		l.fail(err)
		return
	}
	l.open(conn)
	l.sends = true
	s.work.Go(l.send)
	err = l.receive()
	l.credit()
	l.fail(err)
	switch err {
	case errHanded:
	case errSpare:
		<-l.sender
		conn.lane = nil
		conn.forgetDeadlines()
		s.Release(conn)
	default:
		conn.Tether().Cut()
		<-l.sender
		conn.lane = nil
		s.Discard(conn)
	}
}

// contain keeps a panic from stopping the process: a bug that is met in a lane ends that, after cleanup.
func (l *lane) contain(cleanup func()) {
	if l.group.lanes.panicked == nil {
		return
	}
	if r := recover(); r != nil {
		l.group.lanes.panicked(r)
		cleanup()
	}
}

// open makes a connection the lane's.
func (l *lane) open(conn *Conn) {
	g := l.group
	conn.lane = l
	conn.reader = conn.readers.acquire(conn)
	conn.forgetDeadlines()
	if conn.socket != nil {
		conn.socket.Taken()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	l.conn, l.connected = conn, true
	l.idleSince = time.Now()
	l.armed = time.Time{}
}

// receive takes answers until the lane ends, and says why it did.
func (l *lane) receive() error {
	in := l.conn.reader
	for {
		if _, err := in.Peek(1); err != nil {
			return err
		}
		p := l.front()
		if p == nil {
			return errUnasked
		}
		if err := l.answer(p); err != nil {
			return err
		}
	}
}

// front is the place whose answer is next; nil if nothing had been asked when the bytes came that are there.
func (l *lane) front() *Place {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	if l.answered >= l.asked {
		return nil
	}
	return l.queue.at(0)
}

// answer takes the answer to the request at the front.
func (l *lane) answer(p *Place) error {
	method := []byte("GET")
	if p.head {
		method = []byte("HEAD")
	}
	in, r := l.conn.reader, &p.response
	for n := 0; ; n++ {
		if n == maxInterim {
			return &Error{Phase: PhaseHead, Err: errInterim, Answered: true}
		}
		var final bool
		var err error
		p.buffer, final, err = r.receive(in, p.buffer, method)
		if final {
			break
		}
		if err == errClosed {
			return err
		}
		if err != nil {
			return &Error{Phase: PhaseHead, Err: err, Answered: true}
		}
	}
	if err := l.takeBody(p); err != nil {
		return err
	}
	return l.deliver(p)
}

// takeBody reads a body that is small, and hands the connection over for any other.
func (l *lane) takeBody(p *Place) error {
	r := &p.response
	switch {
	case r.Framing.Kind == wire.NoBody && r.Status.Code != 101:
		p.body = p.body[:0]
		return nil
	case r.Framing.Kind != wire.Length || r.Framing.Length > wholeAnswer:
		return l.handOver(p, 0)
	}
	size := int(r.Framing.Length)
	if cap(p.body) < size {
		p.body = make([]byte, size, size+size/4)
	}
	p.body = p.body[:size]
	l.inBody = true
	n, err := io.ReadFull(l.conn.reader, p.body)
	l.inBody = false
	if err != nil && err != errClosed {
		return l.handOver(p, n) // it is slow, or cut short: its exchange will see
	}
	return err
}

// deliver gives the front its answer, all of which is there.
func (l *lane) deliver(p *Place) error {
	p.arm()
	l.earned++
	persistent := p.response.persistent
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	l.pop()
	p.settle(nil) // from here on it is its exchange's
	if !persistent {
		l.moveRest(0)
		return errClosed
	}
	if l.queue.count > 0 {
		return nil
	}
	if !l.leaving && len(g.open) <= g.lanes.keep {
		l.idleSince = l.readAt
		return nil
	}
	l.leave()
	switch {
	case g.lanes.keep == 0 || l.tainted || l.writing || l.conn.reader.Buffered() > 0:
		return errClosed
	default:
		return errSpare
	}
}

// pop ends the front's turn. It is called with the group's lock held.
func (l *lane) pop() {
	l.queue.pop()
	l.sent--
	l.answered++
	if l.queue.count == 0 {
		l.soonest = time.Time{}
	} else if l.sent > 0 {
		l.turn(later(l.readAt, l.queue.at(0).sent))
	}
}

// handOver gives the front the connection, and the beginning of its body that has come.
func (l *lane) handOver(p *Place, begun int) error {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	l.moveRest(1)
	if p.state != placeWaiting {
		return errClosed
	}
	l.pop()
	l.ended = true
	p.conn, p.tainted = l.conn, l.tainted || l.writing
	p.body = p.body[:begun]
	l.conn.lane = nil
	if begun > 0 {
		p.arm()
	} else {
		p.response.Body.Reset(l.conn.reader, p.response.Framing)
	}
	l.conn.forgetDeadlines()
	g.lanes.answers.Add(1)
	p.settle(nil)
	return errHanded
}

// moveRest takes the lane out of use, and moves all from the n-th place on, which were not answered, to connections
// of their own. Of those who are not sent yet nothing ever is; they must be among them. It is called with the group's
// lock held.
func (l *lane) moveRest(n int) {
	l.leave()
	moved := 0
	for l.queue.count > n {
		if l.queue.popLast().settle(ErrMoved) {
			moved++
		}
	}
	if l.sent > n {
		l.sent, l.tainted = n, true
	}
	l.out = l.out[:0]
	l.group.lanes.credit.charge(moved)
}

// leave takes the lane out of those that take requests in. It is called with the group's lock held.
func (l *lane) leave() {
	if !l.leaving {
		l.leaving = true
		l.group.remove(l)
	}
}

// fail ends the lane, and the wait of all who are still in it.
func (l *lane) fail(err error) {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	l.leave()
	l.ended = true
	if l.resting {
		l.resting = false
		l.kick <- struct{}{}
	}
	if front := min(l.sent, 1); l.connected && l.queue.count > front {
		l.moveRest(front) // what ended the connection may be the doing of the request at the front, and of no other
	}
	if l.queue.count == 0 {
		return
	}
	var failed *Error
	if !errors.As(err, &failed) {
		failed = &Error{Phase: PhaseHead, Err: err}
	}
	reused := l.answered > 0 || l.conn != nil && l.conn.Reused()
	for l.queue.count > 0 {
		if p := l.queue.pop(); p.state == placeWaiting {
			p.reused = reused
			p.settle(failed)
		}
	}
}
