package e2e

import (
	"fmt"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// sample is one request of a pour.
type sample struct {
	began time.Time
	took  time.Duration
	end   string // "200", or as a tally has it
}

// pour is a steady load of GETs: so many clients, each of which keeps its connection and asks at a pace, as far
// as the answers let it.
type pour struct {
	total   *tally
	stopped chan struct{}
	clients sync.WaitGroup
	mu      sync.Mutex
	samples []sample
}

func startPour(t testing.TB, g *gateway, clients int, pace time.Duration) *pour {
	p := &pour{total: newTally(), stopped: make(chan struct{})}
	for i := range clients {
		p.clients.Go(func() {
			time.Sleep(pace * time.Duration(i) / time.Duration(clients)) // they take turns
			ticker := time.NewTicker(pace)
			defer ticker.Stop()
			c := caller{address: g.address, total: p.total}
			defer c.close()
			for {
				select {
				case <-p.stopped:
					return
				case <-ticker.C:
				}
				began := time.Now()
				end := c.call(t, "GET /x HTTP/1.1\r\nHost: h\r\n")
				p.add(sample{began, time.Since(began), end})
			}
		})
	}
	return p
}

func (p *pour) add(s sample) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.samples = append(p.samples, s)
}

// stop waits for the last answers. It may be called again.
func (p *pour) stop() {
	p.mu.Lock()
	select {
	case <-p.stopped:
	default:
		close(p.stopped)
	}
	p.mu.Unlock()
	p.clients.Wait()
}

// between are the requests that began in a time.
func (p *pour) between(from, to time.Time) (some span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.samples {
		if !s.began.Before(from) && s.began.Before(to) {
			some = append(some, s)
		}
	}
	return some
}

// span is the requests of some time.
type span []sample

// quantile is the time that a share q of the requests did not take longer than.
func (s span) quantile(q float64) time.Duration {
	if len(s) == 0 {
		return 0
	}
	var all []time.Duration
	for _, one := range s {
		all = append(all, one.took)
	}
	slices.Sort(all)
	return all[min(int(q*float64(len(all))), len(all)-1)]
}

// ended is how many ended so.
func (s span) ended(as string) (n int) {
	for _, one := range s {
		if one.end == as {
			n++
		}
	}
	return n
}

// failed is how many were not answered 200.
func (s span) failed() int { return len(s) - s.ended("200") }

func (s span) String() string {
	ends := map[string]int{}
	for _, one := range s {
		ends[one.end]++
	}
	return fmt.Sprintf("%v p50 %v p99 %v", ends, s.quantile(0.5).Round(10*time.Microsecond), s.quantile(0.99).Round(10*time.Microsecond))
}

// victim is a target that can be made sick and well again.
type victim struct {
	address    string
	fall, rise func()
	touched    func() int64 // connections and bytes that have reached it, as far as it can tell
}

// What can be done to a process, beside the moods.
const (
	killedFault  = "killed"
	stoppedFault = "stopped"
)

// startVictim starts a target that is to have a fault.
func startVictim(t testing.TB, fault string) victim {
	none := func() int64 { return 0 }
	switch fault {
	case killedFault:
		p := newProcess(t)
		return victim{p.address, p.kill, p.start, none}
	case stoppedFault: // its kernel goes on accepting connections
		p := newProcess(t)
		return victim{p.address, func() { p.signal(syscall.SIGSTOP) }, func() { p.signal(syscall.SIGCONT) }, none}
	}
	m := startMoody(t, "sick")
	return victim{m.address(), func() { m.set(fault) }, func() { m.set(wellMood) },
		func() int64 { return m.accepted.Load() + m.heard.Load() }}
}

// together runs subtests at the same time, beyond what -parallel allows: they wait most of the time.
func together(t *testing.T, atOnce int, tests map[string]func(t *testing.T)) {
	t.Helper()
	var running sync.WaitGroup
	turns := make(chan struct{}, atOnce)
	for name, test := range tests {
		turns <- struct{}{}
		running.Go(func() {
			defer func() { <-turns }()
			t.Run(name, test)
		})
	}
	running.Wait()
}
