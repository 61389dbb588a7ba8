package admin

import (
	"encoding/json"
	"fmt"
	"net/http"
)

// problem is an answer to a request that failed (RFC 9457). Its reader is an operator: unlike those of
// the gateway's own listeners, it may tell what is wrong inside.
type problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	Reason string `json:"reason"` // stable, machine-readable

	challenge string // for WWW-Authenticate
}

func newProblem(status int, reason, detail string) *problem {
	return &problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Reason: reason, Detail: detail}
}

func (p *problem) write(w http.ResponseWriter) {
	if p.challenge != "" {
		w.Header().Set("WWW-Authenticate", p.challenge)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p)
}

func notFound() *problem {
	return newProblem(http.StatusNotFound, "not_found", "There is /, /livez, /readyz, /status, /metrics, /events, /explain, /reload, /drain, /limits, /limits/{limit} and /revocations.")
}

func methodNotAllowed(allow string) *problem {
	return newProblem(http.StatusMethodNotAllowed, "method_not_allowed", "Allowed here: "+allow+".")
}

func unauthorized() *problem {
	p := newProblem(http.StatusUnauthorized, "unauthorized", "The token of [admin] is needed.")
	p.challenge = `Bearer realm="sluice admin"`
	return p
}

func forbidden(why string) *problem {
	return newProblem(http.StatusForbidden, "forbidden", "Refused: "+why+".")
}

func notReady(state string) *problem {
	return newProblem(http.StatusServiceUnavailable, state, "The gateway is not ready: "+state+".")
}

func draining() *problem {
	return newProblem(http.StatusServiceUnavailable, "draining", "The gateway is shutting down.")
}

// notReloaded lists every fault of the configuration, one a line.
func notReloaded(err error) *problem {
	return newProblem(http.StatusUnprocessableEntity, "not_reloaded", err.Error())
}

func noLimit(name string) *problem {
	return newProblem(http.StatusNotFound, "no_limit", fmt.Sprintf("There is no limit %q.", name))
}

// noLimitStore does not tell why: the log does.
func noLimitStore() *problem {
	return newProblem(http.StatusServiceUnavailable, "limit_store_unavailable", "The buckets of this limit are in Redis, which does not answer.")
}

// badLimitKey tells what the key of the limit is made of.
func badLimitKey(err error) *problem {
	return newProblem(http.StatusBadRequest, "bad_limit_key", err.Error())
}

func tooManyWatchers() *problem {
	return newProblem(http.StatusServiceUnavailable, "too_many_watchers", fmt.Sprintf("There are %d watchers already.", maxWatchers))
}

// badRequest tells what is wrong with the question.
func badRequest(err error) *problem {
	return newProblem(http.StatusBadRequest, "bad_request", err.Error())
}
