package admin

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/sluice-gateway/sluice/engine"
)

// endpoint is what can be done at a path. GET stands for HEAD too.
type endpoint struct {
	method string
	open   bool // needs no token and answers to any Host
	handle func(*Server, http.ResponseWriter)
}

func (e endpoint) allows(method string) bool {
	return method == e.method || method == http.MethodHead && e.method == http.MethodGet
}

func (e endpoint) allow() string {
	if e.method == http.MethodGet {
		return "GET, HEAD"
	}
	return e.method
}

func find(path string) (endpoint, bool) {
	switch path {
	case "/livez":
		return endpoint{method: http.MethodGet, open: true, handle: (*Server).livez}, true
	case "/readyz":
		return endpoint{method: http.MethodGet, open: true, handle: (*Server).readyz}, true
	case "/status":
		return endpoint{method: http.MethodGet, handle: (*Server).status}, true
	case "/reload":
		return endpoint{method: http.MethodPost, handle: (*Server).reload}, true
	case "/drain":
		return endpoint{method: http.MethodPost, handle: (*Server).drain}, true
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
	switch {
	case !found:
		notFound().write(w)
	case !e.allows(r.Method):
		header.Set("Allow", e.allow())
		methodNotAllowed(e.allow()).write(w)
	default:
		e.handle(s, w)
	}
}

func (s *Server) livez(w http.ResponseWriter) {
	writeText(w, "ok\n")
}

func (s *Server) readyz(w http.ResponseWriter) {
	ready, state := s.gateway.Ready()
	if !ready {
		notReady(state).write(w)
		return
	}
	writeText(w, "ready\n")
}

func (s *Server) status(w http.ResponseWriter) {
	writeJSON(w, http.StatusOK, s.gateway.Status(time.Now()))
}

func (s *Server) reload(w http.ResponseWriter) {
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

func (s *Server) drain(w http.ResponseWriter) {
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
