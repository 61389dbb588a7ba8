package keystore

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

const (
	everywhere = time.Second     // a change has reached every gateway
	recovery   = 2 * time.Second // a store works again after Redis does
)

func TestRedisFindsWhatWasPut(t *testing.T) {
	r, _ := open(t, startRedis(t).url(), nil)
	want := record("a")
	want.Expires = time.Now().Add(time.Hour)
	if err := r.Put(t.Context(), want); err != nil {
		t.Fatal(err)
	}
	p, err := r.Lookup(t.Context(), want.Digest, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if p.Method != "keys" || p.User != want.Client || p.Client != want.Client || p.Tier != "gold" || p.Scopes.String() != want.Scopes.String() ||
		p.Rate != want.Rate || p.Credential != want.ID || !p.IssuedAt.Equal(want.Created) || !p.Expires.Equal(want.Expires) {
		t.Errorf("got %+v for %+v", p, want)
	}
	if err := look(r, "a", want.Expires, auth.ErrInvalid); err != nil {
		t.Errorf("at the end of its time: %v", err)
	}
	if again, _ := r.Lookup(t.Context(), want.Digest, time.Now()); again != p {
		t.Error("a second lookup gave another principal")
	}
	holds(t, r, "unknown", auth.ErrInvalid)
}

// TestChangeIsPushedToEveryStore keeps what it knows for an hour, so that only Redis can tell of a change.
func TestChangeIsPushedToEveryStore(t *testing.T) {
	server := startRedis(t)
	tool, _ := open(t, server.url(), nil)
	one, _ := open(t, server.url(), nil)
	two, _ := open(t, server.url(), nil)
	both := func(intent string, want error) {
		t.Helper()
		for i, r := range []*Redis{one, two} {
			eventually(t, everywhere, fmt.Sprintf("%s at gateway %d", intent, i+1), func() error { return look(r, "a", time.Now(), want) })
		}
	}
	both("not created yet", auth.ErrInvalid)
	put(t, tool, "a")
	both("created", nil)
	disable(t, tool, "a", true)
	both("disabled", auth.ErrInvalid)
	disable(t, tool, "a", false)
	both("enabled", nil)
	if err := tool.Delete(t.Context(), record("a").ID); err != nil {
		t.Fatal(err)
	}
	both("deleted", auth.ErrInvalid)
	put(t, tool, "a")
	both("created again", nil)
	server.do("DEL", tool.names.of(record("a").Digest))
	both("deleted by hand", auth.ErrInvalid)
}

func TestRedisKilledAndRestarted(t *testing.T) {
	server := startRedis(t)
	r, j := open(t, server.url(), nil)
	put(t, r, "seen", "unseen")
	holds(t, r, "seen", nil)
	holds(t, r, "unknown", auth.ErrInvalid)

	server.kill()
	eventually(t, recovery, "the loss is known", func() error {
		if n := len(j.all()); n != 2 || j.all()[1].up || j.all()[1].err == nil {
			return fmt.Errorf("events %v", j.all())
		}
		return nil
	})
	holds(t, r, "seen", nil)
	holds(t, r, "unseen", auth.ErrUnavailable)
	holds(t, r, "unknown", auth.ErrUnavailable)
	if err := look(r, "seen", time.Now().Add(r.config.StaleIfError+time.Second), auth.ErrUnavailable); err != nil {
		t.Errorf("past stale_if_error: %v", err)
	}

	server.start()
	eventually(t, recovery, "unseen keys work", func() error { return look(r, "unseen", time.Now(), nil) })
	holds(t, r, "seen", nil)
	holds(t, r, "unknown", auth.ErrInvalid)
	if events := j.all(); len(events) != 3 || !events[2].up {
		t.Errorf("reported %v, want up, down, up", events)
	}
}

// TestProbesConfirm has an entry grow no older than the last probe while nobody asks for it.
func TestProbesConfirm(t *testing.T) {
	r, _ := open(t, startRedis(t).url(), nil)
	put(t, r, "a")
	eventually(t, everywhere, "the key is remembered", func() error {
		if err := look(r, "a", time.Now(), nil); err != nil || r.known.find(record("a").Digest) == nil {
			return errors.New("not remembered")
		}
		return nil
	})
	e := r.known.find(record("a").Digest)
	eventually(t, recovery, "a probe confirms the entry", func() error {
		if e.confirmed() <= e.read {
			return errors.New("only the reading does")
		}
		return nil
	})
}

func TestRedisThatLostItsData(t *testing.T) {
	server := startRedis(t)
	r, _ := open(t, server.url(), nil)
	put(t, r, "a")
	holds(t, r, "a", nil)
	server.kill()
	server.forget()
	server.start()
	eventually(t, recovery, "the key is gone", func() error { return look(r, "a", time.Now(), auth.ErrInvalid) })
}

func TestRedisFlushed(t *testing.T) {
	server := startRedis(t)
	r, j := open(t, server.url(), nil)
	put(t, r, "a")
	holds(t, r, "a", nil)
	server.do("FLUSHALL")
	eventually(t, everywhere, "the key is gone", func() error { return look(r, "a", time.Now(), auth.ErrInvalid) })
	put(t, r, "a")
	eventually(t, everywhere, "the key is back", func() error { return look(r, "a", time.Now(), nil) })
	if events := j.all(); len(events) != 1 {
		t.Errorf("reported %v, though Redis was never away", events)
	}
}

// TestRevokedWhileAway revokes a key that a store may use as stale, and asks for it once the store works again.
func TestRevokedWhileAway(t *testing.T) {
	server := startRedis(t)
	r, _ := open(t, server.url(), nil)
	put(t, r, "a", "probe")
	holds(t, r, "a", nil)
	server.kill()
	server.forget()
	server.start()
	other, _ := open(t, server.url(), nil)
	put(t, other, "probe") // and not "a", which is thereby revoked
	eventually(t, recovery, "the store is back", func() error { return look(r, "probe", time.Now(), nil) })
	holds(t, r, "a", auth.ErrInvalid)
}

func TestRedisHangs(t *testing.T) {
	server := startRedis(t)
	r, j := open(t, server.url(), func(c *RedisConfig) { c.Timeout = 20 * time.Millisecond })
	put(t, r, "seen", "unseen")
	eventually(t, recovery, "the key works", func() error { return look(r, "seen", time.Now(), nil) })

	server.signal(syscall.SIGSTOP)
	before := runtime.NumGoroutine()
	var callers sync.WaitGroup
	for i := range 3 * maxPending {
		callers.Go(func() {
			if err := look(r, fmt.Sprint("other ", i), time.Now(), auth.ErrUnavailable); err != nil {
				t.Error(err)
			}
		})
	}
	callers.Wait()
	if after := runtime.NumGoroutine(); after > before+20 {
		t.Errorf("%d goroutines before, %d with a hung Redis", before, after)
	}
	holds(t, r, "seen", nil)
	eventually(t, recovery, "the hang is known", func() error {
		if events := j.all(); events[len(events)-1].up {
			return errors.New("still up")
		}
		return nil
	})
	if !r.down.Load() {
		t.Error("lookups still wait for a Redis that is known to hang")
	}
	holds(t, r, "seen", nil)
	holds(t, r, "unseen", auth.ErrUnavailable)

	server.signal(syscall.SIGCONT)
	eventually(t, recovery, "unseen keys work", func() error { return look(r, "unseen", time.Now(), nil) })
	holds(t, r, "seen", nil)
	eventually(t, recovery, "keys work that were asked for meanwhile", func() error { return look(r, "other 0", time.Now(), auth.ErrInvalid) })
}

func TestCloseDoesNotWaitForAHungRedis(t *testing.T) {
	server := startRedis(t)
	r, _ := open(t, server.url(), nil)
	put(t, r, "a")
	holds(t, r, "a", nil)
	server.signal(syscall.SIGSTOP)
	closed := make(chan struct{})
	go func() {
		r.Close()
		close(closed)
	}()
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("Close hangs with Redis")
	}
	holds(t, r, "b", auth.ErrUnavailable)
	if _, err := r.List(t.Context()); !errors.Is(err, errClosed) {
		t.Errorf("List of a closed store: %v", err)
	}
}

func TestStartWithoutRedis(t *testing.T) {
	server := startRedis(t)
	server.kill()
	r, j := openAway(t, server.url(), nil)
	holds(t, r, "a", auth.ErrUnavailable)
	eventually(t, recovery, "its absence is told once", func() error {
		if events := j.all(); len(events) != 1 || events[0].up {
			return fmt.Errorf("events %v", events)
		}
		return nil
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := r.List(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "refused") {
		t.Errorf("List without Redis: %v; it should tell why", err)
	}
	server.start()
	eventually(t, recovery, "the store works", func() error { return look(r, "a", time.Now(), auth.ErrInvalid) })
}

func TestFirstLookupWaitsForTheConnection(t *testing.T) {
	server := startRedis(t)
	r, _ := openAway(t, server.url(), func(c *RedisConfig) { c.Timeout = 5 * time.Second })
	holds(t, r, "a", auth.ErrInvalid)
}

func TestRedisIsAskedAsSeldomAsAllowed(t *testing.T) {
	server := startRedis(t)
	tool, _ := open(t, server.url(), nil)
	put(t, tool, "good", "bad")
	disable(t, tool, "bad", true)
	r, _ := open(t, server.url(), func(c *RedisConfig) { c.Timeout, c.NegativeTTL = 5*time.Second, c.CacheTTL/2 })
	before := server.reads()
	var callers sync.WaitGroup
	for range 200 {
		callers.Go(func() {
			holds(t, r, "good", nil)
			holds(t, r, "bad", auth.ErrInvalid)
		})
	}
	callers.Wait()
	if n := server.reads() - before; n != 2 {
		t.Errorf("%d questions for a stampede on two keys, want one each", n)
	}
	for _, row := range []struct {
		intent string
		after  time.Duration
		want   int
	}{
		{"after negative_ttl the refused key is asked for again", r.config.NegativeTTL, 3},
		{"after cache_ttl the other one is too", r.config.CacheTTL, 4 + 1},
	} {
		for range 3 {
			at := time.Now().Add(row.after)
			if err := errors.Join(look(r, "good", at, nil), look(r, "bad", at, auth.ErrInvalid)); err != nil {
				t.Error(err)
			}
		}
		if n := server.reads() - before; n != row.want {
			t.Errorf("%s: %d questions in all, want %d", row.intent, n, row.want)
		}
	}
}

func TestGarbageInRedis(t *testing.T) {
	server := startRedis(t)
	r, j := open(t, server.url(), nil)
	good := record("good")
	put(t, r, "good")
	for _, garbage := range []string{"x", "{}", `{"id":"key_0"}`, `null`, strings.Repeat("[", 9000),
		`{"id":"` + record("bad").ID + `","client":"c","admin":true}`} {
		if err := r.Put(t.Context(), record("bad")); err != nil {
			t.Fatal(err)
		}
		server.do("SET", r.names.of(record("bad").Digest), garbage)
		before := len(j.all())
		eventually(t, everywhere, "garbage opens nothing", func() error { return look(r, "bad", time.Now(), auth.ErrInvalid) })
		eventually(t, everywhere, "garbage is reported", func() error {
			if events := j.all()[before:]; len(events) == 0 || !events[0].up || !strings.Contains(fmt.Sprint(events[0].err), record("bad").ID) {
				return fmt.Errorf("events %v for %.40q", events, garbage)
			}
			return nil
		})
		list, err := r.List(t.Context())
		if len(list) != 1 || list[0].ID != good.ID || err == nil || !strings.Contains(err.Error(), record("bad").ID) {
			t.Errorf("a list with %.40q: %v, %v; want the good record, and an error for the other", garbage, list, err)
		}
		if err := r.Delete(t.Context(), record("bad").ID); err != nil {
			t.Fatalf("garbage cannot be removed: %v", err)
		}
	}
	server.do("HSET", r.names.of(record("bad").Digest), "f", "v")
	eventually(t, everywhere, "another type opens nothing", func() error { return look(r, "bad", time.Now(), auth.ErrInvalid) })
	holds(t, r, "good", nil)
}

func TestRedisRefusesTheGateway(t *testing.T) {
	server := startRedis(t, "--requirepass", "right")
	_, j := openAway(t, strings.Replace(server.url(), "//", "//:wrong-secret@", 1), nil)
	eventually(t, recovery, "the refusal is told", func() error {
		if len(j.all()) == 0 {
			return errors.New("no event")
		}
		return nil
	})
	if e := j.all()[0]; e.up || !strings.Contains(e.err.Error(), "WRONGPASS") || strings.Contains(e.err.Error(), "wrong-secret") {
		t.Errorf("reported %v, want WRONGPASS, and no password", e)
	}
	r, _ := open(t, strings.Replace(server.url(), "//", "//:right@", 1)+"/3", nil)
	put(t, r, "a")
	holds(t, r, "a", nil)
}

// TestRedisForbidsReading takes away the permission that a lookup needs, and nothing else.
func TestRedisForbidsReading(t *testing.T) {
	server := startRedis(t)
	r, j := open(t, server.url(), nil)
	put(t, r, "seen", "unseen")
	eventually(t, everywhere, "the key works", func() error { return look(r, "seen", time.Now(), nil) })
	server.do("ACL", "SETUSER", "default", "-getrange")
	eventually(t, recovery, "the refusal is told", func() error {
		if events := j.all(); events[len(events)-1].up || !strings.Contains(events[len(events)-1].err.Error(), "NOPERM") {
			return fmt.Errorf("events %v", events)
		}
		return nil
	})
	holds(t, r, "seen", nil)
	holds(t, r, "unseen", auth.ErrUnavailable)
	server.do("ACL", "SETUSER", "default", "+getrange")
	eventually(t, recovery, "unseen keys work", func() error { return look(r, "unseen", time.Now(), nil) })
	if events := j.all(); len(events) != 3 {
		t.Errorf("reported %v, want up, down, up", events)
	}
}

func TestNothingIsLeftRunning(t *testing.T) {
	server := startRedis(t)
	before := runtime.NumGoroutine()
	for range 3 {
		r, _ := open(t, server.url(), nil)
		holds(t, r, "a", auth.ErrInvalid)
		server.kill()
		eventually(t, recovery, "the loss is known", func() error { return look(r, "b", time.Now(), auth.ErrUnavailable) })
		server.start()
		eventually(t, recovery, "it works again", func() error { return look(r, "b", time.Now(), auth.ErrInvalid) })
		r.Close()
		r.Close()
	}
	eventually(t, recovery, "all goroutines have ended", func() error {
		if after := runtime.NumGoroutine(); after > before {
			return fmt.Errorf("%d goroutines before, %d after", before, after)
		}
		return nil
	})
}
