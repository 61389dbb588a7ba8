package admin

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// What those who watch may cost.
const (
	maxWatchers  = 16
	eventPause   = time.Second      // between two pictures, when they are made quickly
	eventShare   = 20               // making them takes one part in as many of the time, at most ...
	longestPause = 10 * time.Second // ... while watchers still take the stream for alive
	eventTimeout = 10 * time.Second // to take an event off the wire
)

// events makes the pictures that watchers are sent: one for all of them, and none while nobody watches.
type events struct {
	ended   chan struct{} // closed when the server shuts down
	endOnce sync.Once

	mu       sync.Mutex
	watchers int
	last     []byte    // the event with the last picture; never changed once it is here
	due      time.Time // when the next one is
}

func (e *events) end() { e.endOnce.Do(func() { close(e.ended) }) }

// enter takes a watcher's place, unless all are taken.
func (e *events) enter() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watchers == maxWatchers {
		return false
	}
	e.watchers++
	return true
}

func (e *events) leave() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.watchers--; e.watchers == 0 {
		e.last = nil
	}
}

// picture returns the event of now, and when the next one is due. The first to come when it is makes it.
func (e *events) picture(g Gateway) (event []byte, due time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	now := time.Now()
	if e.last != nil && now.Before(e.due) {
		return e.last, e.due
	}
	var b bytes.Buffer
	b.WriteString("event: status\ndata: ")
	_ = json.NewEncoder(&b).Encode(g.Status(now)) // on one line, which it ends
	b.WriteByte('\n')
	pause := min(max(eventPause, eventShare*time.Since(now)), longestPause)
	e.last, e.due = b.Bytes(), now.Add(pause)
	return e.last, e.due
}

// watch sends pictures until the watcher leaves or the server ends. When the gateway stops to be ready it ends a
// stream once: the next process may be there already, and whoever asks again reaches it.
func (s *Server) watch(w http.ResponseWriter, r *http.Request) {
	if !s.events.enter() {
		tooManyWatchers().write(w)
		return
	}
	defer s.events.leave()
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // that of the request would end the stream
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	began, _ := s.gateway.Ready()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-s.events.ended:
			return
		case <-timer.C:
		}
		event, due := s.events.picture(s.gateway)
		_ = control.SetWriteDeadline(time.Now().Add(eventTimeout))
		if _, err := w.Write(event); err != nil {
			return
		}
		if err := control.Flush(); err != nil {
			return
		}
		if ready, _ := s.gateway.Ready(); began && !ready {
			return
		}
		timer.Reset(time.Until(due))
	}
}
