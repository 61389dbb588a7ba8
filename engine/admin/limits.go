package admin

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/sluice-gateway/sluice/engine"
)

// limitOf is the name of the limit that a path is about; empty if it is about none.
func limitOf(path string) string {
	name, ok := strings.CutPrefix(path, "/limits/")
	if !ok || strings.Contains(name, "/") {
		return ""
	}
	return name
}

func (s *Server) limits(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, struct {
		Limits []engine.LimitSummary `json:"limits"`
		Table  engine.LimitTable     `json:"table"`
		Store  *engine.LimitStore    `json:"store,omitempty"`
	}{s.gateway.Limits(), s.gateway.LimitTable(), s.gateway.LimitStore()})
}

func (s *Server) showLimit(w http.ResponseWriter, r *http.Request) {
	onBucket(w, r, func(name string, key []string) (any, error) {
		states, err := s.gateway.LimitStates(name, key)
		return struct {
			Limit   string              `json:"limit"`
			Key     []string            `json:"key"`
			Buckets []engine.LimitState `json:"buckets"` // none: nothing has been taken lately
		}{name, key, states}, err
	})
}

func (s *Server) resetLimit(w http.ResponseWriter, r *http.Request) {
	onBucket(w, r, func(name string, key []string) (any, error) {
		n, err := s.gateway.ResetLimit(name, key)
		return struct {
			Limit string   `json:"limit"`
			Key   []string `json:"key"`
			Reset int      `json:"reset"` // buckets that were not full
		}{name, key, n}, err
	})
}

// onBucket answers a request about a bucket with what do has to say of it.
func onBucket(w http.ResponseWriter, r *http.Request, do func(name string, key []string) (any, error)) {
	name, key, err := limitKey(r)
	if err != nil {
		badLimitKey(err).write(w)
		return
	}
	answer, err := do(name, key)
	if err != nil {
		limitProblem(name, err).write(w)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// limitKey reads which bucket a request is about. What is not understood is refused: a reset must not
// hit another bucket than was meant.
func limitKey(r *http.Request) (name string, key []string, err error) {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", nil, fmt.Errorf("cannot read the query: %w", err)
	}
	for parameter := range query {
		if parameter != "key" {
			return "", nil, fmt.Errorf("there is no parameter %q: want key, once for each part of the limit's key", parameter)
		}
	}
	return limitOf(r.URL.Path), append([]string{}, query["key"]...), nil
}

func limitProblem(name string, err error) *problem {
	switch {
	case errors.Is(err, engine.ErrNoLimit):
		return noLimit(name)
	case errors.Is(err, engine.ErrLimitStore):
		return noLimitStore()
	}
	return badLimitKey(err)
}
