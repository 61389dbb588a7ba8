package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// endpoint is what can be done at a path.
type endpoint struct {
	open    bool // needs no token and answers to any Host
	actions []action
}

// action is what a method does. GET stands for HEAD too.
type action struct {
	method string
	handle func(*Server, http.ResponseWriter, *http.Request)
}

func (e endpoint) action(method string) (action, bool) {
	for _, a := range e.actions {
		if method == a.method || method == http.MethodHead && a.method == http.MethodGet {
			return a, true
		}
	}
	return action{}, false
}

func (e endpoint) allow() string {
	var methods []string
	for _, a := range e.actions {
		if methods = append(methods, a.method); a.method == http.MethodGet {
			methods = append(methods, http.MethodHead)
		}
	}
	return strings.Join(methods, ", ")
}

func find(path string) (e endpoint, found bool) {
	get, post := http.MethodGet, http.MethodPost
	switch path {
	case "/livez":
		return endpoint{open: true, actions: []action{{get, (*Server).livez}}}, true
	case "/readyz":
		return endpoint{open: true, actions: []action{{get, (*Server).readyz}}}, true
	case "/status":
		return endpoint{actions: []action{{get, (*Server).status}}}, true
	case "/metrics":
		return endpoint{actions: []action{{get, (*Server).metrics}}}, true
	case "/events":
		return endpoint{actions: []action{{get, (*Server).watch}}}, true
	case "/explain":
		return endpoint{actions: []action{{get, (*Server).explain}}}, true
	case "/reload":
		return endpoint{actions: []action{{post, (*Server).reload}}}, true
	case "/drain":
		return endpoint{actions: []action{{post, (*Server).drain}}}, true
	case "/limits":
		return endpoint{actions: []action{{get, (*Server).limits}}}, true
	case "/revocations":
		return endpoint{actions: []action{{get, (*Server).revocations}, {post, (*Server).revoke}}}, true
	}
	if _, ok := pageFile(path); ok {
		return endpoint{open: true, actions: []action{{get, (*Server).page}}}, true
	}
	if limitOf(path) != "" {
		return endpoint{actions: []action{{get, (*Server).showLimit}, {http.MethodDelete, (*Server).resetLimit}}}, true
	}
	return endpoint{}, false
}

// serve is the way of a request: who may ask comes before what there is.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	if ready, _ := s.gateway.Ready(); !ready {
		// The next process may be accepting already: a kept connection would hide it.
		header.Set("Connection", "close")
	}
	e, found := find(r.URL.Path)
	if !e.open {
		if p := s.admit(r); p != nil {
			p.write(w)
			return
		}
	}
	a, allowed := e.action(r.Method)
	switch {
	case !found:
		notFound().write(w)
	case !allowed:
		header.Set("Allow", e.allow())
		methodNotAllowed(e.allow()).write(w)
	default:
		a.handle(s, w, r)
	}
}

func (s *Server) livez(w http.ResponseWriter, _ *http.Request) {
	writeText(w, "ok\n")
}

func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	ready, state := s.gateway.Ready()
	if !ready {
		notReady(state).write(w)
		return
	}
	writeText(w, "ready\n")
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, s.gateway.Status(time.Now()))
}

func (s *Server) metrics(w http.ResponseWriter, r *http.Request) { s.gateway.Metrics().ServeHTTP(w, r) }

func (s *Server) reload(w http.ResponseWriter, _ *http.Request) {
	switch err := s.gateway.Reload(); {
	case errors.Is(err, engine.ErrDraining):
		draining().write(w)
	case err != nil:
		notReloaded(err).write(w)
	default:
		hash := s.gateway.Status(time.Now()).Config.Hash
		writeJSON(w, http.StatusOK, map[string]string{"config": hash})
	}
}

func (s *Server) drain(w http.ResponseWriter, _ *http.Request) {
	s.gateway.AskDrain()
	writeJSON(w, http.StatusAccepted, map[string]string{"state": "draining"})
}

func writeText(w http.ResponseWriter, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, text)
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
