package engine

import "net"

// lent is a connection as fasthttp sees it, which closes what it was given when it has it back. What has begun to be
// attended to is closed by whoever does so last.
type lent struct{ *conn }

func (l lent) Close() error {
	if l.begun {
		return nil
	}
	return l.conn.Close()
}

// drive attends to a connection that was accepted. fasthttp calls it on a goroutine of its pool, in place of its own
// loop: requests are read by package wire alone, so that there is no second parser that could read them differently,
// and answers are bytes before they get here.
func (e *Engine) drive(client net.Conn) error {
	l, ok := client.(lent)
	if !ok {
		panic("BUG: a connection that was not accepted here")
	}
	l.begun = true
	e.attend(l.conn)
	return nil
}

// attend answers the requests of a connection, one after the other, until it ends, or sleeps.
func (e *Engine) attend(c *conn) {
	asleep := false
	defer func() {
		if !asleep {
			_ = c.Close()
		}
	}()
	defer e.contain(func() {})
	for {
		err := c.next()
		if err == errDrowsy {
			if asleep = e.dormitory.admit(c); asleep {
				return // c is another goroutine's now
			}
			continue
		}
		if err != nil || !e.serve(c.x) || !c.finish() {
			return
		}
	}
}
