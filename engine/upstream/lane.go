package upstream

import (
	"errors"
	"io"
	"os"
	"runtime"
	"time"

	"github.com/sluice-gateway/sluice/engine/wire"
)

var (
	errUnasked = errors.New("upstream: bytes that nobody asked for")
	// Why a lane ends that has done nothing wrong.
	errClosed  = errors.New("upstream: the lane's connection is not to be used again")
	errSpare   = errors.New("upstream: the lane's connection is good for others")
	errHanded  = errors.New("upstream: the lane's connection is an exchange's")
	errTooSlow = errors.New("upstream: the answer at the front is late")
)

// lane is one connection to a target that requests share: they are sent together, as many as are there, and answered
// in their order (RFC 9112 section 9.3.2). Its two goroutines, one of which sends and one receives, are the only ones
// that touch the connection.
type lane struct {
	group     *group
	conn      *Conn
	connectBy time.Time // zero: the first who came can wait as long as the target allows
	kick      chan struct{}
	sender    chan struct{} // closed when the sender has ended
	readAt    time.Time     // when bytes last came; the receiver's
	asked     int           // likewise: how many requests had been sent by then
	inBody    bool          // likewise
	earned    int64         // likewise: answers since the last credit

	// Guarded by the group's lock.
	connected  bool
	leaving    bool // takes nobody in any more
	ended      bool
	alone      bool // nobody follows the request at the front: it is late
	tainted    bool // answers will come that nobody waits for, or requests were sent in part
	queue      ring
	sent       int       // of the queue
	answered   int       // since it is a lane
	out, spare []byte    // requests to be sent; a buffer that is not in use
	resting    bool      // the sender waits for kick
	writing    bool      // or is at work
	lateAt     time.Time // when the front's answer, all of it, is late
	looked     bool      // whether it is there, but has not been read
	idleSince  time.Time // when the queue became empty
	soonest    time.Time // no place has to be told before that it is late; zero: none
	armed      time.Time // the read deadline of the connection; zero: none
}

// newLane is called with the group's lock held.
func newLane(g *group, deadline time.Time) *lane {
	l := &lane{group: g, connectBy: deadline, kick: make(chan struct{}, 1), sender: make(chan struct{})}
	if by := time.Now().Add(g.lanes.connect); g.lanes.connect > 0 && (deadline.IsZero() || by.Before(deadline)) {
		l.connectBy = by
	}
	return l
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

// await notes when a place is late. It is called with the group's lock held.
func (l *lane) await(by time.Time) {
	if l.soonest.IsZero() || by.Before(l.soonest) {
		l.soonest = by
	}
}

// arm lets the receiver look up at a time, or before. It is called with the group's lock held.
func (l *lane) arm(at time.Time) {
	if l.armed.IsZero() || at.Before(l.armed) {
		l.armed = at
		_ = l.conn.Conn.SetReadDeadline(at)
	}
}

// stir lets the receiver look up now. It is called with the group's lock held.
func (l *lane) stir() {
	if l.connected && !l.ended {
		l.arm(time.Unix(1, 0))
	}
}

// run is the life of a lane.
func (l *lane) run() {
	s := l.group.lanes
	conn, err := s.Acquire(l.connectBy)
	if err != nil {
		l.fail(err)
		return
	}
	l.open(conn)
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

// open makes a connection the lane's.
func (l *lane) open(conn *Conn) {
	g := l.group
	conn.lane = l
	conn.reader = conn.readers.acquire(conn)
	conn.forgetDeadlines()
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
	switch {
	case l.queue.count > 0:
	case !l.leaving:
		l.idleSince = l.readAt
	case l.tainted || l.writing || l.conn.reader.Buffered() > 0:
		return errClosed
	default:
		return errSpare
	}
	return nil
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

// turn begins the front's turn. It is called with the group's lock held.
func (l *lane) turn(at time.Time) {
	l.lateAt, l.looked = at.Add(lateAnswer), false
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
	if l.connected && l.queue.count > l.sent {
		l.moveRest(l.sent)
	}
	if l.queue.count == 0 {
		return
	}
	var first *Error
	if !errors.As(err, &first) {
		first = &Error{Phase: PhaseHead, Err: err}
	}
	others := first
	if first.Answered {
		others = &Error{Phase: PhaseHead, Err: errEnded}
	}
	reused := l.answered > 0 || l.conn != nil && l.conn.Reused()
	for err := first; l.queue.count > 0; err = others {
		if p := l.queue.pop(); p.state == placeWaiting {
			p.reused = reused
			p.settle(err)
		}
	}
}

// read is what the connection's buffer reads from: it waits for bytes, and meanwhile keeps the time.
func (l *lane) read(b []byte) (int, error) {
	l.credit()
	// Those who have just had their answers get to ask again, and the target to answer, before we look and wait.
	runtime.Gosched()
	for {
		if err := l.keepTime(time.Now()); err != nil {
			return 0, err
		}
		n, err := l.conn.Conn.Read(b)
		if n > 0 {
			l.note(time.Now())
			return n, err
		}
		if err != nil && !isTimeout(err) {
			return 0, err
		}
	}
}

// note takes note of bytes that have come by now.
func (l *lane) note(now time.Time) {
	l.group.mu.Lock()
	defer l.group.mu.Unlock()
	l.readAt, l.asked = now, l.answered+l.sent
}

func (l *lane) credit() {
	if l.earned > 0 {
		l.group.lanes.credit.earn(l.earned)
		l.earned = 0
	}
}

// keepTime does what is due at now, before the receiver waits for bytes, and sees to it that the receiver looks up
// when something is due again. An error ends the lane.
func (l *lane) keepTime(now time.Time) error {
	g := l.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if !l.armed.IsZero() && !now.Before(l.armed) {
		l.armed = time.Time{}
	}
	if !l.soonest.IsZero() && !now.Before(l.soonest) {
		l.expire(now)
	}
	var next time.Time
	switch {
	case l.queue.count == 0:
		if next = l.idleSince.Add(idleConnection); l.leaving || !now.Before(next) {
			return errClosed
		}
	case l.sent == 0:
		next = now.Add(lateAnswer)
	case l.alone || l.late(now):
		if err := l.isolate(); err != nil {
			return err
		}
	default:
		next = l.lateAt
	}
	if !l.soonest.IsZero() && (next.IsZero() || l.soonest.Before(next)) {
		next = l.soonest
	}
	if !next.IsZero() {
		l.arm(next)
	} else if l.armed.IsZero() {
		_ = l.conn.Conn.SetReadDeadline(time.Time{})
	}
	return nil
}

// late says whether the front's answer is late. One that is there, but could not be read for want of a processor, gets
// half as long again, once. It is called with the group's lock held.
func (l *lane) late(now time.Time) bool {
	if now.Before(l.lateAt) {
		return false
	}
	if l.looked || l.conn.socket == nil || l.conn.clean() {
		return true
	}
	l.looked, l.lateAt = true, now.Add(lateAnswer/2)
	return false
}

// isolate lets nobody wait for the front any more, which is slow. It goes on alone: if a part of its body is there,
// with the connection. It is called with the group's lock held.
func (l *lane) isolate() error {
	if !l.alone {
		l.moveRest(1)
		l.alone = true
	}
	if l.queue.at(0).state != placeWaiting {
		return errClosed
	}
	if l.inBody {
		return errTooSlow
	}
	return nil
}

// expire tells those whose time is over. It is called with the group's lock held.
func (l *lane) expire(now time.Time) {
	l.soonest = time.Time{}
	for i := range l.queue.count {
		p := l.queue.at(i)
		switch {
		case p.state != placeWaiting || p.by.IsZero():
		case now.Before(p.by):
			l.await(p.by)
		default:
			p.abandon(&Error{Phase: PhaseHead, Err: os.ErrDeadlineExceeded})
		}
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
