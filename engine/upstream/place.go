package upstream

import (
	"bufio"
	"errors"
	"net"
	"time"

	"github.com/sluice-gateway/sluice/engine/wire"
)

// ErrMoved says that an exchange gave up its place in a lane, for no fault of its own or of the target's: the answer
// before its own is slow or long, or the connection ends. It is to be asked once more, by a connection of its own.
var ErrMoved = errors.New("upstream: moved out of its lane")

type placeState uint8

const (
	placeFree    placeState = iota
	placeWaiting            // in a lane
	placeSettled            // the answer, or an error, is there
	placeLeft               // nobody waits for the answer any more; the place is the lane's
)

// Place is one exchange's place in a lane: the request goes out together with others, and the answer comes in its
// turn. An answer that is small is all in the place's own memory, and the lane goes on. One that is large, slow or
// without a length takes the connection over: then the lane has ended, and the exchange holds the connection.
type Place struct {
	group  *group
	tether Tether
	ready  chan struct{} // gets one when the place is settled or left

	head     bool      // the request is a HEAD
	deadline time.Time // of the exchange; zero: none
	sent     time.Time // when it was, or began to be
	by       time.Time // when the head must have come; zero: at no time

	// Guarded by the group's lock until ready has its value. Who left does not look at the answer.
	state    placeState
	lane     *lane // in which it waits
	err      error
	reused   bool
	tainted  bool  // answers that nobody wants may follow this one
	conn     *Conn // that the answer goes on coming by; nil: all of it is here
	buffer   []byte
	response Response
	body     []byte // all of it, or its beginning if there is a conn
	read     int    // of it
	source   *bufio.Reader
}

func newPlace() *Place {
	p := &Place{ready: make(chan struct{}, 1)}
	p.tether.cut = p.leave
	p.source = bufio.NewReaderSize(p, 16) // the least: reads pass it by
	return p
}

// Ask sends a request, whole and without a body, and waits for the head of its answer: until deadline, and for the
// target's response timeout from when it was sent. The request is not referred to afterwards. The error is ErrMoved,
// or an *Error; either ends the lease.
func (p *Place) Ask(request []byte, head bool, deadline time.Time) (*Response, error) {
	p.head, p.deadline = head, deadline
	if err := p.group.join(p, request); err != nil {
		return nil, err
	}
	<-p.ready
	if p.err != nil {
		return nil, p.err
	}
	return &p.response, nil
}

// settle ends the wait for the place, if anybody waits. It is called with the group's lock held.
func (p *Place) settle(err error) bool {
	if p.state != placeWaiting {
		return false
	}
	p.state, p.err = placeSettled, err
	p.ready <- struct{}{}
	return true
}

// abandon ends the wait for an answer that may yet come: its lane reads and drops it. It is called with the group's
// lock held.
func (p *Place) abandon(err error) {
	waits := p.state == placeWaiting
	p.state, p.err = placeLeft, err
	if waits {
		p.ready <- struct{}{}
	}
}

// leave is what its tether does: it ends the wait, and never closes a connection that others share.
func (p *Place) leave() {
	g := p.group
	g.mu.Lock()
	conn := p.conn
	if p.state == placeWaiting && p.lane.alone {
		p.lane.stir() // nobody is left
	}
	if p.state == placeFree || p.state == placeWaiting {
		p.abandon(&Error{Phase: PhaseHead, Err: net.ErrClosed})
	}
	g.mu.Unlock()
	if conn != nil {
		conn.Tether().Cut()
	}
}

// Response is the answer.
func (p *Place) Response() *Response { return &p.response }

// Whole says whether the place has all of the answer.
func (p *Place) Whole() bool { return p.conn == nil }

// Stream is Conn.Stream, for an answer that goes on coming.
func (p *Place) Stream(idle time.Duration, limit time.Time) error {
	if p.conn == nil {
		return nil
	}
	return p.conn.Stream(idle, limit)
}

// Reusable says whether the place, and the connection if it has one, may be used again.
func (p *Place) Reusable() bool {
	if p.state == placeLeft || p.err != nil {
		return p.state != placeLeft && p.err == ErrMoved
	}
	return p.conn == nil || !p.tainted && p.response.persistent && p.response.Body.Done() && p.source.Buffered()+p.conn.reader.Buffered() == 0
}

// Reused says whether the lane's connection had carried exchanges before.
func (p *Place) Reused() bool { return p.reused }

// Tether takes the exchange out of its lane.
func (p *Place) Tether() *Tether { return &p.tether }

// Read gives the body's bytes as they came: the framing is the business of the response's Body.
func (p *Place) Read(b []byte) (int, error) {
	if p.read == len(p.body) && p.conn != nil {
		return p.conn.reader.Read(b)
	}
	n := copy(b, p.body[p.read:])
	p.read += n
	return n, nil
}

// arm makes the response's body that which the place has, or begins with what it has.
func (p *Place) arm() {
	p.read = 0
	p.source.Reset(p)
	p.response.Body.Reset(p.source, p.response.Framing)
}

func (p *Place) end(_ *Target, keep bool) {
	s := p.group.lanes
	if p.conn != nil && keep {
		s.Release(p.conn)
	} else if p.conn != nil {
		s.Discard(p.conn)
	}
	if !keep {
		return // its lane, or who cut it, may know it still
	}
	p.group, p.lane, p.conn, p.err, p.state = nil, nil, nil, nil, placeFree
	p.reused, p.tainted = false, false
	p.source.Reset(nil)
	p.response.Body.Reset(nil, wire.Framing{})
	s.places.Put(p)
}
