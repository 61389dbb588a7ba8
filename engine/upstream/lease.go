package upstream

import "time"

// Lease is what an exchange holds of a target until its answer has been relayed: a connection of its own (Conn), or
// a place in a lane (Place). It is what forward.go and response.go of the engine need to know of the transport.
type Lease interface {
	// Response is the answer received.
	Response() *Response
	// Whole says whether all of its body has already arrived, so that reading it cannot block.
	Whole() bool
	// Stream lets the body be read with at most idle between two reads, and all of it by limit; a zero value of
	// either means none.
	Stream(idle time.Duration, limit time.Time) error
	// Reusable says whether the answer ended cleanly, and Release may follow; else Discard must.
	Reusable() bool
	// Reused says whether the connection has carried an exchange before this one.
	Reused() bool
	// Tether is by what the lease is cut.
	Tether() *Tether

	end(t *Target, keep bool)
}

// Tether ties an exchange to its lease. It is the lease's own, however often that is used.
type Tether struct{ cut func() }

// Cut ends the exchange's wait for the target, from any goroutine, any number of times. It waits for nobody, so that it
// may be called with a lock held. A lease that was cut must be discarded.
func (t *Tether) Cut() { t.cut() }
