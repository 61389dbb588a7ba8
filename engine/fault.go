package engine

import (
	"errors"
	"net/http"
	"strconv"

	"github.com/sluice-gateway/sluice/engine/upstream"
	"github.com/sluice-gateway/sluice/engine/wire"
)

// Blame says whose doing a fault is: only the upstream's count against it.
type Blame uint8

// The parties that a fault can be blamed on.
const (
	BlameClient Blame = iota
	BlameGateway
	BlameUpstream
)

// Fault is an answer that the gateway makes itself: the one place where an error becomes a status, a
// reason and a verdict on retrying. Faults are constants; what varies, such as the request id, is
// added when the answer is written, so that nothing internal can reach a client.
type Fault struct {
	Reason string // stable, machine-readable; listed in the README
	Detail string // one sentence for a person
	Status int
	Blame  Blame
	Retry  bool // another attempt may do better, if the request allows one
}

// Error lets a fault travel as an error within the engine.
func (f *Fault) Error() string { return f.Reason }

// Faults lists every fault there is, for the README's table and its test.
func Faults() []*Fault {
	f := newFaults()
	return []*Fault{
		f.badRequest, f.badPath, f.timeout, f.tooLarge, f.targetTooLong, f.headTooLarge, f.version,
		f.noRoute, f.method, f.noVariant, f.connections, f.limited, f.queueFull, f.limitStore,
		f.noCredentials, f.credentials, f.scope, f.authStore,
		f.connect, f.connectTimeout, f.noTarget, f.circuitOpen, f.busy, f.upstreamTimeout, f.sendTimeout, f.routeTimeout, f.reset, f.malformed, f.upgrade, f.clientGone, f.internal,
	}
}

// faults is every answer of the gateway's own, built once for an engine.
type faults struct {
	badRequest, badPath, timeout, tooLarge, targetTooLong, headTooLarge, version  *Fault
	noRoute, method, noVariant, connections, limited, queueFull, limitStore       *Fault
	noCredentials, credentials, scope, authStore, circuitOpen, busy               *Fault
	sendTimeout, routeTimeout                                                     *Fault
	connect, connectTimeout, noTarget, upstreamTimeout, reset, malformed, upgrade *Fault
	clientGone, internal                                                          *Fault
}

func newFaults() *faults {
	client := func(status int, reason, detail string) *Fault {
		return &Fault{Status: status, Reason: reason, Detail: detail, Blame: BlameClient}
	}
	target := func(status int, reason, detail string) *Fault {
		return &Fault{Status: status, Reason: reason, Detail: detail, Blame: BlameUpstream, Retry: true}
	}
	return &faults{
		badRequest:     client(400, "bad_request", "The request is not well-formed HTTP/1.1."),
		badPath:        client(400, "bad_path", "The request's path is ambiguous or not well-formed."),
		timeout:        client(408, "request_timeout", "The request did not arrive in time."),
		tooLarge:       client(413, "body_too_large", "The request's body is larger than allowed here."),
		targetTooLong:  client(414, "uri_too_long", "The request's target is too long."),
		headTooLarge:   client(431, "header_too_large", "The request's header fields are too large."),
		version:        client(505, "http_version", "Only HTTP/1.0 and HTTP/1.1 are spoken here."),
		noRoute:        client(404, "no_route", "No route matches this host and path."),
		method:         client(405, "method_not_allowed", "The path exists, but not for this method."),
		noVariant:      client(404, "no_variant", "No destination is configured for this value of the routing header."),
		noCredentials:  client(401, "credentials_missing", "Credentials are needed here."),
		credentials:    client(401, "credentials_invalid", "The credentials are not valid."),
		scope:          client(403, "insufficient_scope", "The credentials do not allow this."),
		authStore:      &Fault{Status: 503, Reason: "auth_store_unavailable", Detail: "Credentials cannot be verified at present.", Blame: BlameGateway},
		limited:        client(429, "rate_limited", "Too many requests: a rate limit has been reached."),
		queueFull:      &Fault{Status: 503, Reason: "queue_full", Detail: "Too many requests wait for their turn.", Blame: BlameGateway},
		limitStore:     &Fault{Status: 503, Reason: "limit_store_unavailable", Detail: "Rate limits cannot be checked at present.", Blame: BlameGateway},
		connections:    &Fault{Status: 503, Reason: "too_many_connections", Detail: "The gateway has as many connections as it may have.", Blame: BlameGateway},
		connect:        target(502, "upstream_connect", "The upstream could not be reached."),
		connectTimeout: target(504, "upstream_connect_timeout", "The upstream could not be reached in time."),
		noTarget:       target(503, "no_healthy_target", "The upstream has no target that may take a request."),
		circuitOpen:    &Fault{Status: 503, Reason: "circuit_open", Detail: "The upstream fails too often, and is left alone for a while.", Blame: BlameUpstream},
		busy:           &Fault{Status: 503, Reason: "upstream_busy", Detail: "The upstream has as many requests as it may have, and too many wait.", Blame: BlameGateway},
		sendTimeout:    &Fault{Status: 504, Reason: "upstream_timeout", Detail: "The upstream did not take the request in time.", Blame: BlameUpstream, Retry: true},
		routeTimeout:   &Fault{Status: 504, Reason: "upstream_timeout", Detail: "The exchange took longer than its route allows.", Blame: BlameUpstream},
		upstreamTimeout: &Fault{Status: 504, Reason: "upstream_timeout", Detail: "The upstream did not answer in time.",
			Blame: BlameUpstream, Retry: true},
		reset:      target(502, "upstream_reset", "The upstream closed the connection before it had answered."),
		malformed:  target(502, "upstream_malformed", "The upstream's answer is not well-formed HTTP."),
		upgrade:    &Fault{Status: 502, Reason: "upstream_upgrade", Detail: "The upstream switched to a protocol that was not asked for.", Blame: BlameUpstream},
		clientGone: client(499, "client_gone", "The client closed the connection before it had its answer."),
		internal:   &Fault{Status: 500, Reason: "internal", Detail: "The gateway failed to handle the request.", Blame: BlameGateway},
	}
}

// ofHead maps a failure to read a request's head.
func (f *faults) ofHead(err error) *Fault {
	switch {
	case errors.Is(err, wire.ErrHeadTooLarge):
		return f.headTooLarge
	case errors.Is(err, wire.ErrTargetTooLong):
		return f.targetTooLong
	case errors.Is(err, wire.ErrVersion):
		return f.version
	case isTimeout(err):
		return f.timeout
	default:
		return f.badRequest
	}
}

// ofUpstream maps a failed exchange with a target. Whether a request that timed out is tried again depends on
// its method: the target may be at work on it.
func (f *faults) ofUpstream(err error) *Fault {
	var e *upstream.Error
	switch {
	case errors.Is(err, upstream.ErrNoTarget):
		return f.noTarget
	case errors.Is(err, upstream.ErrOpen):
		return f.circuitOpen
	case errors.Is(err, upstream.ErrBusy):
		return f.busy
	case !errors.As(err, &e):
		return f.internal
	case e.Phase == upstream.PhaseConnect && e.Timeout():
		return f.connectTimeout
	case e.Phase == upstream.PhaseConnect:
		return f.connect
	case e.Timeout() && e.Phase == upstream.PhaseSend:
		return f.sendTimeout
	case e.Timeout():
		return f.upstreamTimeout
	case e.Malformed():
		return f.malformed
	default:
		return f.reset
	}
}

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.As(err, &t) && t.Timeout()
}

// appendProblem appends the fault as an RFC 9457 problem, with the name of the limit that refused the
// request, if that may be told. Request ids and names hold nothing that JSON would have to escape.
func (f *Fault) appendProblem(dst, requestID []byte, limit string) []byte {
	dst = append(dst, `{"type":"about:blank","title":"`...)
	dst = append(dst, statusTitle(f.Status)...)
	dst = append(dst, `","status":`...)
	dst = strconv.AppendInt(dst, int64(f.Status), 10)
	dst = append(dst, `,"detail":"`...)
	dst = append(dst, f.Detail...)
	dst = append(dst, `","reason":"`...)
	dst = append(dst, f.Reason...)
	if limit != "" {
		dst = append(dst, `","limit":"`...)
		dst = append(dst, limit...)
	}
	dst = append(dst, `","request_id":"`...)
	dst = append(dst, requestID...)
	return append(dst, "\"}\n"...)
}

func statusTitle(status int) string {
	if status == 499 {
		return "Client Closed Request"
	}
	return http.StatusText(status)
}
