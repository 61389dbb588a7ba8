package main

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"
)

const (
	demoSlow = 2 * time.Second // what /slow takes
	demoTick = 300 * time.Millisecond
)

// demoService is one version of the service behind the demo.
type demoService struct{ version string }

func (s *demoService) handler(string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /users/{id}", s.user)
	mux.HandleFunc("/orders", s.orders)
	mux.HandleFunc("GET /headers", s.headers)
	mux.HandleFunc("POST /echo", s.echo)
	mux.HandleFunc("GET /slow", s.slow)
	mux.HandleFunc("GET /events", s.events)
	mux.HandleFunc("GET /ws", echoWebSocket)
	return mux
}

func (s *demoService) user(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{"user": r.PathValue("id"), "served_by": s.version, "path": r.URL.Path})
}

// orders tells whom the gateway says the request is from: services need not look at credentials themselves.
func (s *demoService) orders(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]string{
		"method": r.Method, "served_by": s.version,
		"user": r.Header.Get("X-User-ID"), "scopes": r.Header.Get("X-User-Scopes"), "tier": r.Header.Get("X-Client-Tier"),
	})
}

func (s *demoService) headers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Service-Secret", "not for clients")
	fmt.Fprintf(w, "Host: %s\n", r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			fmt.Fprintf(w, "%s: %s\n", name, value)
		}
	}
}

func (s *demoService) echo(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(w, r.Body)
}

func (s *demoService) slow(w http.ResponseWriter, r *http.Request) {
	select {
	case <-time.After(demoSlow):
		fmt.Fprintln(w, "at last")
	case <-r.Context().Done():
	}
}

// events ticks count times, or until the client leaves.
func (s *demoService) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	count, err := strconv.Atoi(r.URL.Query().Get("count"))
	ticker := time.NewTicker(demoTick)
	defer ticker.Stop()
	for i := 1; err != nil || i <= count; i++ {
		fmt.Fprintf(w, "data: tick %d of %s\n\n", i, s.version)
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
	}
}
