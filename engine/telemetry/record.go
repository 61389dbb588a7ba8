package telemetry

import (
	"net/netip"
	"time"
)

// Record is what became of one exchange: what metrics, access log and traces are told when it has ended. Byte
// slices are lent for the call only. An exchange ends when the last byte of its answer has been handed to the
// kernel, or nothing more can be; a tunnel, when both sides have.
type Record struct {
	Time      time.Time // when the request's head was complete, or refused
	RequestID []byte
	TraceID   []byte // empty: there is none

	Client  string     // whom the client has proven to be; empty: nobody was asked, or nobody knows
	Tier    string     // the client's; may be empty
	Address netip.Addr // of the client; invalid: it came through a unix socket

	// What was asked for. All are empty when the head was refused, Path and Host also when they were malformed:
	// there a client may have put what nobody should read.
	Method, Host, Path []byte
	Query              []byte // with its "?"; the access log never has it

	Route    *Route    // nil: no route took the request
	Variant  string    // that a split or a switch chose
	Upstream *Upstream // nil: the request was meant for none
	Target   string    // the last one that was tried

	Status    int    // of the answer
	Refused   bool   // the gateway answered itself
	Reason    string // why it did; or why the target's answer was not carried to its end. See the README
	Limit     string // that refused the request, or else that had the least left
	Remaining int64  // of that limit; valid if Limit is not empty

	BytesIn, BytesOut uint64 // on the client's connection, heads included, TLS not

	// Duration is from Time to the end. UpstreamTime is the part of it that was spent on targets: connecting,
	// sending, and waiting for what they sent. Waited is the part that was spent on the client, waiting for its
	// body or for it to take the answer, and on purpose: in the queue of a limit and before a retry. The rest is
	// our own.
	Duration, UpstreamTime, Waited time.Duration

	Attempts int    // tries to have it answered by a target
	Protocol string // "HTTP/1.1"
	TLS      string // its version, "1.3"; empty: plain
	Tunnel   bool   // the connection was switched to another protocol
	Stripe   uint32 // any number that is the same for a connection; spreads what is counted over memory
}

// Overhead is the gateway's own part of the exchange, looking credentials up included.
func (r *Record) Overhead() time.Duration { return max(r.Duration-r.UpstreamTime-r.Waited, 0) }

// Failed says whether the exchange was anything but a success: those are always logged.
func (r *Record) Failed() bool { return r.Status >= 400 || r.Reason != "" }
