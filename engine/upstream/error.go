package upstream

import (
	"errors"
	"fmt"
	"net"

	"github.com/sluice-gateway/sluice/engine/wire"
)

// Phase is how far an exchange with a target had come.
type Phase uint8

// The phases, in order. Until PhaseConnect ended nothing was sent; from PhaseHead on the target may
// have acted on the request.
const (
	PhaseConnect Phase = iota
	PhaseSend
	PhaseHead
	PhaseBody
)

func (p Phase) String() string {
	return [...]string{"connect", "send", "response", "body"}[p]
}

// Error is a failed exchange with a target. Err is for the gateway's log, never for a client.
type Error struct {
	Phase    Phase
	Err      error
	Answered bool // some byte of an answer had come
}

func (e *Error) Error() string { return fmt.Sprintf("upstream: %s: %v", e.Phase, e.Err) }

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Timeout says whether the exchange failed because time ran out.
func (e *Error) Timeout() bool {
	var t net.Error
	return errors.As(e.Err, &t) && t.Timeout()
}

// errInterim says that a target sent 1xx responses without end.
var errInterim = errors.New("upstream: too many interim responses")

// Malformed says that the target answered, but not with well-formed HTTP.
func (e *Error) Malformed() bool {
	return e.Phase >= PhaseHead && (errors.Is(e.Err, errInterim) || wire.IsViolation(e.Err))
}
