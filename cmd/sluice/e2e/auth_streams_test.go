package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/coder/websocket"
)

// startStreams is an upstream of what lasts: a WebSocket that echoes at /ws, and /events; all else is short.
func startStreams(t testing.TB) *service {
	t.Helper()
	return startService(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/events"):
			(&longLived{}).events(w, r)
			return
		case !strings.HasSuffix(r.URL.Path, "/ws"):
			return
		}
		c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true})
		if err != nil {
			return
		}
		defer c.CloseNow()
		for {
			kind, message, err := c.Read(r.Context())
			if err != nil || c.Write(r.Context(), kind, message) != nil {
				return
			}
		}
	})
}

// held is something that is open at the gateway, and counts what comes of it.
type held struct {
	name  string
	got   atomic.Int64
	ended chan struct{}
}

// more waits for something to come.
func (h *held) more(t testing.TB) {
	t.Helper()
	want := h.got.Load() + 3
	eventually(t, h.name+" goes on", func() bool { return h.got.Load() >= want || h.over() })
	if h.over() {
		t.Errorf("%s has ended", h.name)
	}
}

func (h *held) over() bool {
	select {
	case <-h.ended:
		return true
	default:
		return false
	}
}

// socket opens a WebSocket that is always busy.
func (g *gateway) socket(t testing.TB, name, path, line string) *held {
	t.Helper()
	field, value, _ := strings.Cut(line, ": ")
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	c, _, err := websocket.Dial(ctx, "ws://"+g.address+path+"/ws", &websocket.DialOptions{HTTPHeader: http.Header{field: {value}}})
	if err != nil {
		t.Fatal(err)
	}
	h := &held{name: name, ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		for {
			if c.Write(ctx, websocket.MessageText, []byte("hello")) != nil {
				return
			}
			if _, _, err := c.Read(ctx); err != nil {
				return
			}
			h.got.Add(1)
			time.Sleep(10 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { cancel(); _ = c.CloseNow(); <-h.ended })
	return h
}

// events opens a stream of events. What ends before it ends well has ended.
func (g *gateway) events(t testing.TB, name, path, version, line string) *held {
	t.Helper()
	c := g.dial(t)
	_ = c.SetDeadline(time.Now().Add(2 * patience))
	c.send("GET " + path + "/events HTTP/" + version + "\r\nHost: h\r\n" + line + "\r\n\r\n")
	r := c.head("GET")
	if r.StatusCode != 200 {
		t.Fatalf("%s: %s", name, r.Status)
	}
	h := &held{name: name, ended: make(chan struct{})}
	go func() {
		defer close(h.ended)
		in := bufio.NewReader(r.Body)
		for {
			if _, err := in.ReadString('\n'); err != nil {
				return
			}
			h.got.Add(1)
		}
	}()
	t.Cleanup(func() { c.Close(); <-h.ended })
	return h
}

// open opens one of each.
func (g *gateway) open(t testing.TB, name, path, line string) []*held {
	t.Helper()
	return []*held{
		g.socket(t, name+"'s WebSocket", path, line),
		g.events(t, name+"'s events", path, "1.1", line),
	}
}

func expectAlive(t testing.TB, all []*held) {
	t.Helper()
	for _, h := range all {
		h.more(t)
	}
}

func expectEnd(t testing.TB, all []*held) {
	t.Helper()
	for _, h := range all {
		soon(t, h.name+" ends", h.over)
	}
}

// What is open when its credential is revoked is closed within a second, whatever it is; what belongs to
// others stays.
func TestRevocationEndsStreams(t *testing.T) {
	t.Parallel()
	up, s := startStreams(t), newSigner(t, "1")
	g := revocable(t, up.URL, startIssuer(t, s), "")
	g.start()
	alice, bob := g.open(t, "alice", "/token", bearer(s.token(nil))), g.open(t, "bob", "/token", bearer(s.token(claims{"sub": "bob"})))
	carol, other := g.open(t, "carol", "/any", "X-API-Key: key-1"), g.open(t, "carol's other key", "/any", "X-API-Key: key-2")
	for _, all := range [][]*held{alice, bob, carol, other} {
		expectAlive(t, all)
	}
	g.revoke(t, `{"sub":"alice"}`)
	expectEnd(t, alice)
	expectAlive(t, bob)
	g.revoke(t, `{"key":"`+idOf("key-1")+`"}`)
	expectEnd(t, carol)
	expectAlive(t, other)
	g.revoke(t, `{"client":"bob","before":"`+time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)+`"}`)
	expectAlive(t, bob)
	g.revoke(t, `{"client":"bob"}`)
	expectEnd(t, bob)
	expectAlive(t, other)
	eventually(t, "the upstream is told", func() bool { return up.open.Load() <= 4 })
}

// A client of HTTP/1.0 gets events until the connection ends, and no longer than others.
func TestRevocationEndsStreamsOfHTTP10(t *testing.T) {
	t.Parallel()
	up, s := startStreams(t), newSigner(t, "1")
	g := revocable(t, up.URL, startIssuer(t, s), "")
	g.start()
	alice := g.events(t, "alice's events", "/token", "1.0", bearer(s.token(nil)))
	bob := g.events(t, "bob's events", "/token", "1.0", bearer(s.token(claims{"sub": "bob"})))
	expectAlive(t, []*held{alice, bob})
	g.revoke(t, `{"sub":"alice"}`)
	expectEnd(t, []*held{alice})
	expectAlive(t, []*held{bob})
}

// What is open when its token expires is closed then, and not before.
func TestExpiryEndsStreams(t *testing.T) {
	t.Parallel()
	up, s := startStreams(t), newSigner(t, "1")
	i := startIssuer(t, s)
	g := revocable(t, up.URL, i, "")
	end := time.Now().Truncate(time.Second).Add(5 * time.Second)
	g.place("keys.toml", keyRecord("brief", "carol", fmt.Sprintf("expires = %q", end.UTC().Format(time.RFC3339))))
	g.start()
	brief := append(g.open(t, "the brief token", "/token", bearer(s.token(claims{"exp": end.Unix()}))),
		g.open(t, "the brief key", "/any", "X-API-Key: brief")...)
	long := g.open(t, "the other token", "/token", bearer(s.token(nil)))
	expectAlive(t, brief)
	for _, h := range brief {
		eventually(t, h.name+" ends", h.over)
		if now := time.Now(); now.Before(end) {
			t.Errorf("%s ended before its time", h.name)
		}
	}
	if late := time.Since(end); late > 4*time.Second || late > time.Second && !raceDetector() {
		t.Errorf("all have ended %v after the token", late)
	}
	expectAlive(t, long)
}

// A process that hands over and one that takes over know the same: what is revoked at the new one ends what the
// old one still holds.
func TestRevocationAcrossUpgrade(t *testing.T) {
	t.Parallel()
	up, s := startStreams(t), newSigner(t, "1")
	i := startIssuer(t, s)
	g := revocable(t, up.URL, i, "[server]\nlisten = [\"$LISTEN\"]\ndrain = \"15s\"\n")
	g.launch(t, g.run())
	dead := s.token(claims{"jti": "dead"})
	g.revoke(t, `{"jti":"dead"}`)
	alice := g.socket(t, "alice's WebSocket", "/token", bearer(s.token(claims{"sub": "alice"})))
	bob := g.socket(t, "bob's WebSocket", "/token", bearer(s.token(claims{"sub": "bob"})))
	expectAlive(t, []*held{alice, bob})

	g.signal(syscall.SIGUSR2)
	g.expectLogged(t, `"message":"draining"`)
	eventually(t, "the next process answers", func() bool { return len(g.serving()) == 2 && g.ready() })
	if status := g.token(t, dead); status != 401 {
		t.Errorf("after the upgrade, a revoked token gets %d", status)
	}
	expectAlive(t, []*held{alice, bob})
	g.revoke(t, `{"sub":"alice"}`)
	soon(t, "the old process ends alice's WebSocket", alice.over)
	expectAlive(t, []*held{bob})
	g.revoke(t, `{"sub":"bob"}`)
	soon(t, "the old process ends bob's WebSocket", bob.over)
	if code := g.wait(); code != 0 {
		t.Errorf("the old process ended with %d", code)
	}
}

// A connection has no identity: each request on it stands for itself.
func TestRevokedConnection(t *testing.T) {
	t.Parallel()
	up, s := startAnswering(t, ok), newSigner(t, "1")
	g := revocable(t, up.url(), startIssuer(t, s), "")
	g.start()
	c, line := g.dial(t), bearer(s.token(claims{"sub": "alice"}))
	if r := c.ask("/token/x", line); r.status != 200 {
		t.Fatalf("status %d", r.status)
	}
	g.revoke(t, `{"sub":"alice"}`)
	c.ask("/token/x", line).expectProblem(t, 401, "credentials_invalid")
	if r := c.ask("/token/x", bearer(s.token(claims{"sub": "bob"}))); r.status != 200 {
		t.Errorf("another credential on the connection: %d", r.status)
	}
}
