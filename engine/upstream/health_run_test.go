package upstream

import (
	"context"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestChecksSpread: first checks fill the first second, and the pauses the tenth around the interval.
func TestChecksSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		random := rand.New(rand.NewPCG(1, 2)).Uint64
		seen := map[string]bool{}
		for range 60 {
			p := newPatient(t, healthDefaults(), random)
			stop := p.start()
			time.Sleep(30 * time.Second)
			stop()
			if len(p.dials) < 6 || len(p.dials) > 7 {
				t.Fatalf("%d checks in 30 s", len(p.dials))
			}
			note(t, seen, "first", p.dials[0], 0, time.Second)
			for i := range p.dials[1:] {
				note(t, seen, "pause", p.dials[i+1]-p.dials[i], 4500*time.Millisecond, 5500*time.Millisecond)
			}
		}
		if len(seen) != 20 {
			t.Errorf("only %d of 20 tenths were met", len(seen))
		}
	})
}

// note marks the tenth of the range that d is in.
func note(t *testing.T, seen map[string]bool, what string, d, from, to time.Duration) {
	t.Helper()
	if d < from || d > to {
		t.Fatalf("%s %v is not within %v and %v", what, d, from, to)
	}
	seen[what+string('0'+rune(min((d-from)*10/(to-from), 9)))] = true
}

// TestJitterBounds: the extremes of random give the extremes of the times.
func TestJitterBounds(t *testing.T) {
	for _, row := range []struct {
		interval     time.Duration
		random       uint64
		first, pause time.Duration
	}{
		{5 * time.Second, 0, 0, 4500 * time.Millisecond},
		{5 * time.Second, math.MaxUint64, time.Second, 5500 * time.Millisecond},
		{200 * time.Millisecond, 0, 0, 180 * time.Millisecond},
		{200 * time.Millisecond, math.MaxUint64, 200 * time.Millisecond, 220 * time.Millisecond},
		{0, math.MaxUint64, 10 * time.Millisecond, 11 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			c := healthDefaults()
			c.Interval = row.interval
			p := newPatient(t, c, constant(row.random))
			stop := p.start()
			time.Sleep(7 * time.Second)
			stop()
			if p.dials[0] != row.first || p.dials[1]-p.dials[0] != row.pause {
				t.Errorf("%v, %x: checks at %v", row.interval, row.random, p.dials[:2])
			}
		})
	}
}

// TestChecksDoNotOverlap: a target that answers more slowly than it is asked has one check at a time.
func TestChecksDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := healthDefaults()
		c.Interval = 500 * time.Millisecond
		p := newPatient(t, c, constant(0))
		p.is(holding(""))
		stop := p.start()
		time.Sleep(21 * time.Second)
		failed := p.state().Failures
		stop()
		if failed != 10 || len(p.dials) != 11 {
			t.Errorf("%d checks began, %d failed", len(p.dials), failed)
		}
		if p.most != 1 {
			t.Errorf("%d checks at once", p.most)
		}
	})
}

// TestRunEnds: at whatever moment ctx ends, run returns at once, leaves nothing behind, and what it was at
// counts as nothing.
func TestRunEnds(t *testing.T) {
	blocked := func(ctx context.Context) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, row := range []struct {
		intent string
		answer func(net.Conn)
		dial   func(ctx context.Context) (net.Conn, error)
		after  time.Duration
		checks int
	}{
		{"before it began", nil, nil, 0, 0},
		{"before the first check", nil, nil, 400 * time.Millisecond, 0},
		{"while it connects", nil, blocked, time.Second, 0},
		{"while it sends", func(c net.Conn) { time.Sleep(time.Hour); c.Close() }, nil, time.Second, 0},
		{"while it waits for the head", holding(""), nil, time.Second, 0},
		{"while it reads the body", holding("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"), nil, 550 * time.Millisecond, 0},
		{"between checks", answering("HTTP/1.1 500 Oh\r\n\r\n"), nil, 2 * time.Second, 1},
	} {
		t.Run(row.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := healthDefaults()
				c.Unhealthy = 1
				p := newPatient(t, c, constant(1<<63))
				p.is(row.answer)
				if row.dial != nil {
					p.dial = row.dial
				}
				ctx, cancel := context.WithTimeout(t.Context(), row.after)
				defer cancel()
				p.run(ctx)
				if d := time.Since(p.began); d != row.after {
					t.Errorf("ended after %v, not %v", d, row.after)
				}
				p.served.Wait()
				s := p.state()
				if s.Passes+s.Failures != row.checks || len(p.said) != row.checks || p.open != 0 {
					t.Errorf("%+v, verdicts %q, %d connections", s, p.said, p.open)
				}
			})
		})
	}
}

func TestRunTwice(t *testing.T) {
	p := newPatient(t, healthDefaults(), constant(0))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	p.run(ctx)
	defer func() {
		if recover() == nil {
			t.Error("a checker can be run twice")
		}
	}()
	p.run(ctx)
}

func TestHealthConfigValidate(t *testing.T) {
	for _, row := range []struct {
		path, host string
		ok         bool
	}{
		{"/", "a", true},
		{"/healthz?deep=1", "[::1]:80", true},
		{"", "a", false},
		{"healthz", "a", false},
		{"http://b/", "a", false},
		{"/a b", "a", false},
		{"/ HTTP/1.1\r\nX: y", "a", false},
		{"/\n", "a", false},
		{"/", "", false},
		{"/", "a\r\nX: y", false},
		{"/", "a\x00", false},
	} {
		c := healthDefaults()
		c.Path, c.Host = row.path, row.host
		if err := c.Validate(); (err == nil) != row.ok {
			t.Errorf("path %q, host %q: %v", row.path, row.host, err)
		}
		panicked := func() (p bool) {
			defer func() { p = recover() != nil }()
			newChecker(c, nil, nil, nil)
			return
		}()
		if panicked == row.ok {
			t.Errorf("path %q, host %q: panicked %v", row.path, row.host, panicked)
		}
	}
}

// TestChecksOverTCP lets a real server fall ill in several ways and get well again, while others read the state.
func TestChecksOverTCP(t *testing.T) {
	var mood atomic.Value
	mood.Store("well")
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.UserAgent() != "sluice-health" || r.Host != "users.internal" || !r.Close {
			t.Errorf("asked %s of %s by %s, close %v", r.URL, r.Host, r.UserAgent(), r.Close)
		}
		switch mood.Load() {
		case "failing":
			w.WriteHeader(http.StatusInternalServerError)
		case "hanging":
			<-r.Context().Done()
		case "resetting":
			c, _, _ := w.(http.Hijacker).Hijack()
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		case "garbling":
			c, _, _ := w.(http.Hijacker).Hijack()
			_, _ = io.WriteString(c, "\x00\x00\x00")
			_ = c.Close()
		case "redirecting":
			http.Redirect(w, r, "/elsewhere", http.StatusFound)
		}
	}))
	defer server.Close()
	c := healthDefaults()
	c.Interval, c.Timeout = 10*time.Millisecond, 500*time.Millisecond
	verdicts := make(chan error, 16)
	k := newChecker(c, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", server.Listener.Addr().String())
	}, rand.Uint64, func(healthy bool, why error) {
		if healthy != (why == nil) {
			t.Errorf("healthy %v: %v", healthy, why)
		}
		verdicts <- why
	})
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { k.run(ctx) })
	all.Go(func() {
		for ctx.Err() == nil {
			if s := k.state(); s.Passes > 0 && s.Failures > 0 || (s.Err == nil) != (s.Failures == 0) {
				t.Errorf("a state that never was: %+v", s)
			}
			time.Sleep(time.Millisecond)
		}
	})
	for ill, why := range map[string]string{"failing": "status 500", "hanging": "timeout", "resetting": "reset", "garbling": "EOF"} {
		mood.Store(ill)
		if err := <-verdicts; err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", ill, err)
		}
		mood.Store("redirecting") // is well, for 302 is expected
		if err := <-verdicts; err != nil {
			t.Errorf("after %s: %v", ill, err)
		}
	}
	server.Listener.Close()
	if err := <-verdicts; err == nil {
		t.Error("a closed port is healthy")
	}
	cancel()
	all.Wait()
}

// scripted is a connection whose other side has said all it will say.
type scripted struct {
	net.Conn
	io.Reader
}

func (s scripted) Read(p []byte) (int, error)       { return s.Reader.Read(p) }
func (s scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (s scripted) Close() error                     { return nil }
func (s scripted) SetReadDeadline(time.Time) error  { return nil }
func (s scripted) SetWriteDeadline(time.Time) error { return nil }

// FuzzCheck: whatever a target answers, a check ends, reads little, and passes only by a status line that says so.
func FuzzCheck(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	f.Add("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 302 Found\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
	f.Add("HTTP/1.1 500\r\n\r\n")
	f.Fuzz(func(t *testing.T, answer string) {
		source := strings.NewReader(answer + strings.Repeat("x", 1<<20))
		k := newChecker(healthDefaults(), func(context.Context) (net.Conn, error) {
			return scripted{Reader: source}, nil
		}, constant(0), nil)
		status, err := k.check(context.Background())
		if read := len(answer) + 1<<20 - source.Len(); read > maxInterim*readBuffer+2*readBuffer {
			t.Errorf("%d bytes read", read)
		}
		var e *Error
		switch {
		case err == nil && (status < 200 || status > 399 || !strings.HasPrefix(answer, "HTTP/1.")):
			t.Errorf("status %d passes", status)
		case status == 0 && (!errors.As(err, &e) || !e.Malformed() && !errors.Is(err, io.ErrUnexpectedEOF)):
			t.Errorf("no status: %v", err)
		}
	})
}
