package engine

import (
	"net"
	"time"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// acquire leases a connection. After a race it is a new one, for where one idle connection was closed as we took
// it, others are likely to be: a firewall forgets them all, a restart ends them all. The search is bounded, for
// others give back connections meanwhile; those have just proved good.
func acquire(target *upstream.Target, raced bool, deadline time.Time) (*upstream.Conn, error) {
	c, err := target.Acquire(deadline)
	if !raced {
		return c, err
	}
	_, idle := target.Connections()
	for ; err == nil && c.Reused() && idle >= 0; idle-- {
		target.Discard(c)
		c, err = target.Acquire(deadline)
	}
	return c, err
}

// ask sends the request to the exchange's target and waits for the head of its answer: by a lane if it has any, or by
// a connection of its own, and so too if the lane has no use for the request.
func (e *Engine) ask(x *exchange, raced bool) (*upstream.Response, error) {
	x.out = x.appendHead(x.out[:0])
	if !raced && x.shares() {
		if p := x.target.Place(x.conn.stripe); p != nil {
			response, err := x.askInLane(p)
			if err != upstream.ErrMoved {
				return response, err
			}
			return e.askAlone(x, false, time.Now())
		}
	}
	return e.askAlone(x, raced, x.spent.since)
}

// shares says whether the request may share a connection with others: it ends with its head, and if it has to be asked
// once more, which happens to be so in lanes, nobody is the wiser (RFC 9110 section 9.2.1).
func (x *exchange) shares() bool {
	return x.framing.Kind == wire.NoBody && len(x.upgrade) == 0 && safe(x.method)
}

// askInLane is ask by a place in a lane. After ErrMoved nothing has happened.
func (x *exchange) askInLane(p *upstream.Place) (*upstream.Response, error) {
	x.hold(p)
	if x.conn.gone.Load() {
		return nil, net.ErrClosed // as in askAlone
	}
	response, err := p.Ask(x.out, string(x.method) == "HEAD", x.deadline)
	switch err {
	case nil:
		x.reached()
	case upstream.ErrMoved:
		x.drop(p.Reusable())
	}
	return response, err
}

// askAlone is ask by a connection of the exchange's own, at now.
func (e *Engine) askAlone(x *exchange, raced bool, now time.Time) (*upstream.Response, error) {
	c, err := acquire(x.target, raced, x.deadline)
	if err != nil {
		return nil, err
	}
	x.hold(c)
	if x.conn.gone.Load() {
		return nil, net.ErrClosed // whoever cuts exchanges may have come before there was one to cut
	}
	x.out = append(x.out, x.payload...)
	timeouts := x.pool.Timeouts()
	if err := c.Send(x.out, earlier(now.Add(timeouts.Response), x.deadline)); err != nil {
		return x.early(c, err)
	}
	headBy := earlier(now.Add(timeouts.Response), x.deadline)
	if x.framing.Kind != wire.NoBody && !x.inlined {
		if err := x.startPump(c); err != nil {
			return nil, err
		}
		headBy = x.deadline
	}
	response, err := c.Receive(x.method, headBy)
	if err != nil {
		return nil, err
	}
	x.reached()
	x.joinPump()
	return response, nil
}

// early looks for an answer of a target that stopped reading the request: it may have refused it.
func (x *exchange) early(c *upstream.Conn, sendErr error) (*upstream.Response, error) {
	response, err := c.Receive(x.method, earlier(time.Now().Add(lingerTime), x.deadline))
	if err != nil {
		return nil, sendErr
	}
	x.reached()
	return response, nil
}
