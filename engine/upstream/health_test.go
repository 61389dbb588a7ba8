package upstream

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-gateway/sluice/engine/wire"
)

func healthDefaults() HealthConfig {
	return HealthConfig{
		Path: "/healthz", Host: "users.internal", Interval: 5 * time.Second, Timeout: 2 * time.Second,
		Healthy: 2, Unhealthy: 3,
	}
}

// constant is a random that always gives the same: 1<<63 is the middle.
func constant(v uint64) func() uint64 { return func() uint64 { return v } }

// patient is a target on in-memory connections, and its checker.
type patient struct {
	*checker
	t      *testing.T
	began  time.Time
	served sync.WaitGroup

	mu     sync.Mutex
	answer func(net.Conn) // what it does with a connection; nil: it refuses
	dials  []time.Duration
	open   int
	most   int // connections at once
	said   []string
}

func newPatient(t *testing.T, c HealthConfig, random func() uint64) *patient {
	p := &patient{t: t, began: time.Now(), answer: answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")}
	p.checker = newChecker(c, p.dialled, random, func(healthy bool, why error) {
		if p.state().Healthy != healthy {
			t.Errorf("told of healthy=%v before it is so", healthy)
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.said = append(p.said, fmt.Sprint(time.Since(p.began), " ", healthy, " ", why))
	})
	return p
}

func (p *patient) dialled(ctx context.Context) (net.Conn, error) {
	if _, ok := ctx.Deadline(); !ok {
		p.t.Error("a dial without a deadline")
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dials = append(p.dials, time.Since(p.began))
	if p.answer == nil {
		return nil, errors.New("connection refused")
	}
	p.open++
	p.most = max(p.most, p.open)
	here, there := net.Pipe()
	answer := p.answer
	p.served.Go(func() { answer(there) })
	return &counted{Conn: here, patient: p}, nil
}

// counted tells its patient when it is closed.
type counted struct {
	net.Conn
	patient *patient
	once    sync.Once
}

func (c *counted) Close() error {
	c.once.Do(func() {
		c.patient.mu.Lock()
		defer c.patient.mu.Unlock()
		c.patient.open--
	})
	return c.Conn.Close()
}

func (p *patient) is(answer func(net.Conn)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = answer
}

// start runs the checker until stop is called, which waits for its end.
func (p *patient) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.run(ctx)
	}()
	return func() {
		cancel()
		<-done
		p.served.Wait()
		if p.open != 0 {
			p.t.Errorf("%d connections left open", p.open)
		}
	}
}

// readRequest takes the head of a request off the connection.
func readRequest(c net.Conn) (string, error) {
	head, err := wire.ReadHead(bufio.NewReader(c), nil, 4096)
	return string(head), err
}

// answering reads a request, writes text and ends the connection.
func answering(text string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		if _, err := readRequest(c); err == nil {
			_, _ = io.WriteString(c, text)
		}
	}
}

// holding reads a request, writes text and then waits for the other side to close.
func holding(text string) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		if _, err := readRequest(c); err == nil {
			_, _ = io.WriteString(c, text)
			_, _ = io.Copy(io.Discard, c)
		}
	}
}

// repeating reads a request, writes text, and then part every so often.
func repeating(text, part string, every time.Duration) func(net.Conn) {
	return func(c net.Conn) {
		defer c.Close()
		if _, err := readRequest(c); err != nil {
			return
		}
		_, err := io.WriteString(c, text)
		for err == nil {
			time.Sleep(every)
			_, err = io.WriteString(c, part)
		}
	}
}

func TestCheck(t *testing.T) {
	const fine = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	interim := "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	for _, row := range []struct {
		intent string
		answer func(net.Conn)
		status int
		why    string // part of the error; empty: it passes
		took   time.Duration
	}{
		{"well", answering(fine), 200, "", 0},
		{"no content", answering("HTTP/1.1 204 No Content\r\n\r\n"), 204, "", 0},
		{"HTTP/1.0, body until close", answering("HTTP/1.0 200 OK\r\n\r\nok"), 200, "", 0},
		{"a redirect is an answer, and nobody goes there", answering("HTTP/1.1 302 Found\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"), 302, "", 0},
		{"early hints", answering(interim + interim + fine), 200, "", 0},
		{"a body that is cut short", answering("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok"), 200, "", 0},
		{"a body that does not come", holding("HTTP/1.1 200 OK\r\nContent-Length: 200\r\n\r\nok"), 200, "", drainTime},
		{"a body without end", repeating("HTTP/1.1 200 OK\r\n\r\n", strings.Repeat("x", 4096), time.Millisecond), 200, "", 4 * time.Millisecond},
		{"a body that drips", repeating("HTTP/1.1 200 OK\r\n\r\n", "x", 30*time.Millisecond), 200, "", drainTime},
		{"a keep-alive that was not asked for", holding(fine), 200, "", 0},
		{"not found", answering("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n"), 404, "unexpected status 404", 0},
		{"failing", answering("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), 503, "unexpected status 503", 0},
		{"an upgrade that was not asked for", holding("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"), 101, "unexpected status 101", 0},
		{"refusing", nil, 0, "connect: connection refused", 0},
		{"never reading", func(c net.Conn) { time.Sleep(time.Hour); c.Close() }, 0, "timeout", 2 * time.Second},
		{"never answering", holding(""), 0, "timeout", 2 * time.Second},
		{"stopping within the head", holding("HTTP/1.1 200 OK\r\nContent-"), 0, "timeout", 2 * time.Second},
		{"a head that drips", repeating("HTTP/1.1 200 OK\r\n", "A: b\r\n", time.Second), 0, "timeout", 2 * time.Second},
		{"early hints without end", repeating("", interim, time.Millisecond), 0, "too many interim", 16 * time.Millisecond},
		{"closing after accept", func(c net.Conn) { c.Close() }, 0, "send", 0},
		{"closing after the request", answering(""), 0, "EOF", 0},
		{"closing within the head", answering("HTTP/1.1 200 OK\r\nContent-"), 0, "EOF", 0},
		{"garbage", answering("\x16\x03\x01\x02\x00 what?\r\n\r\n"), 0, "wire:", 0},
		{"HTTP/2", answering("HTTP/2 200 OK\r\n\r\n"), 0, wire.ErrVersion.Error(), 0},
		{"no status line", answering("ok\r\n\r\n"), 0, "wire:", 0},
		{"a status of no class", answering("HTTP/1.1 999 Hm\r\nContent-Length: 0\r\n\r\n"), 0, "wire:", 0},
		{"bare line feeds", answering("HTTP/1.1 200 OK\nContent-Length: 0\n\n"), 0, wire.ErrLine.Error(), 0},
		{"two lengths", answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 0\r\n\r\n"), 0, wire.ErrLength.Error(), 0},
		{"a huge head", repeating("HTTP/1.1 200 OK\r\n", "A: "+strings.Repeat("b", 1000)+"\r\n", time.Millisecond), 0, wire.ErrHeadTooLarge.Error(), 17 * time.Millisecond},
		{"a huge line", answering("HTTP/1.1 200 " + strings.Repeat("O", 1<<20)), 0, wire.ErrTargetTooLong.Error(), 0},
	} {
		t.Run(row.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := newPatient(t, healthDefaults(), constant(0))
				p.is(row.answer)
				status, err := p.check(t.Context())
				took := time.Since(p.began)
				p.served.Wait()
				if status != row.status || took != row.took {
					t.Errorf("status %d after %v, not %d after %v", status, took, row.status, row.took)
				}
				if row.why == "" != (err == nil) || err != nil && !strings.Contains(err.Error(), row.why) {
					t.Errorf("error %v, not %q", err, row.why)
				}
				if len(p.dials) != 1 || p.open != 0 {
					t.Errorf("%d connections, %d still open", len(p.dials), p.open)
				}
			})
		})
	}
}

// TestCheckExpects: the configuration says which statuses pass.
func TestCheckExpects(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := healthDefaults()
		c.Expect = func(status int) bool { return status == 503 }
		p := newPatient(t, c, constant(0))
		if _, err := p.check(t.Context()); err == nil {
			t.Error("200 passes")
		}
		p.is(answering("HTTP/1.1 503 As Wanted\r\nContent-Length: 0\r\n\r\n"))
		if _, err := p.check(t.Context()); err != nil {
			t.Error(err)
		}
		p.served.Wait()
	})
}

func TestCheckRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t, healthDefaults(), constant(0))
		var got string
		p.is(func(c net.Conn) { got, _ = readRequest(c); c.Close() })
		_, _ = p.check(t.Context())
		p.served.Wait()
		want := "GET /healthz HTTP/1.1\r\nHost: users.internal\r\nUser-Agent: sluice-health\r\nConnection: close\r\n\r\n"
		if got != want {
			t.Errorf("%q", got)
		}
	})
}

// TestVerdicts: a target leaves and comes back by the thresholds, at the very check that reaches them.
func TestVerdicts(t *testing.T) {
	fine := answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	sick := answering("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
	for _, row := range []struct {
		intent             string
		healthy, unhealthy int
		checks             string // + passes, - fails; the first at 0.5 s, then every 5 s
		said               []string
	}{
		{"well from the start", 2, 3, "+++++", nil},
		{"sick from the start", 2, 3, "---", []string{"10.5s false upstream: unexpected status 500"}},
		{"not sick enough", 2, 3, "--+--+--", nil},
		{"once is enough, both ways", 1, 1, "+-+-", []string{
			"5.5s false upstream: unexpected status 500", "10.5s true <nil>", "15.5s false upstream: unexpected status 500"}},
		{"there and back", 2, 3, "+---++---", []string{
			"15.5s false upstream: unexpected status 500", "25.5s true <nil>", "40.5s false upstream: unexpected status 500"}},
		{"not well enough", 2, 3, "---+-+-+-", []string{"10.5s false upstream: unexpected status 500"}},
		{"thresholds of nothing are one", 0, -1, "-+", []string{"500ms false upstream: unexpected status 500", "5.5s true <nil>"}},
	} {
		t.Run(row.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := healthDefaults()
				c.Healthy, c.Unhealthy = row.healthy, row.unhealthy
				p := newPatient(t, c, constant(1<<63))
				stop := p.start()
				for _, check := range row.checks {
					p.is(fine)
					if check == '-' {
						p.is(sick)
					}
					time.Sleep(c.Interval)
				}
				stop()
				if len(p.dials) != len(row.checks) || !slices.Equal(p.said, row.said) {
					t.Errorf("%d checks, verdicts %q", len(p.dials), p.said)
				}
			})
		})
	}
}

func TestCheckState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPatient(t, healthDefaults(), constant(1<<63))
		if s := p.state(); s != (CheckState{Healthy: true}) {
			t.Errorf("before the first check: %+v", s)
		}
		stop := p.start()
		time.Sleep(time.Second)
		if s := p.state(); s != (CheckState{Healthy: true, Checked: p.began.Add(500 * time.Millisecond), Status: 200, Passes: 1}) {
			t.Errorf("after a pass: %+v", s)
		}
		p.is(holding(""))
		time.Sleep(20 * time.Second) // the third failure is at 17.5 s; a check has begun at 20.5 s
		s := p.state()
		var timeout net.Error
		if s.Healthy || s.Failures != 3 || s.Passes != 0 || s.Status != 0 || s.Took != 2*time.Second ||
			!s.Checked.Equal(p.began.Add(17500*time.Millisecond)) || !errors.As(s.Err, &timeout) || !timeout.Timeout() {
			t.Errorf("after three time-outs: %+v", s)
		}
		p.is(answering("HTTP/1.1 299 Fine\r\n\r\n"))
		time.Sleep(5 * time.Second)
		if s := p.state(); s.Healthy || s.Failures != 0 || s.Passes != 1 || s.Status != 299 || s.Err != nil {
			t.Errorf("after a pass, and still out: %+v", s)
		}
		stop()
	})
}
