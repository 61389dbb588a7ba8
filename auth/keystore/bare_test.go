package keystore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// newBareRedis makes a store that is connected to nothing, in an epoch that lasts. Questions wait in its queue.
func newBareRedis(t testing.TB) *Redis {
	t.Helper()
	r, err := NewRedis(RedisConfig{URL: "redis://127.0.0.1:1", Timeout: time.Hour,
		CacheTTL: time.Hour, NegativeTTL: time.Hour, StaleIfError: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.config.Timeout = time.Nanosecond
	r.down.Store(false)
	r.epoch.Store(&epoch{})
	return r
}

// bareSession makes a session of the current epoch.
func (r *Redis) bareSession() *session {
	r.session = &session{epoch: r.epoch.Load(), lost: make(chan struct{})}
	return r.session
}

// learn takes an entry as if Redis had given it.
func (r *Redis) learn(e *entry) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.keep(&session{epoch: r.epoch.Load()}, &flight{digest: e.digest, now: time.Now().UnixNano(), entry: e})
}

func goodEntry(key string) *entry {
	k := record(key)
	return newEntry(&k)
}

func badEntry(key string) *entry {
	return &entry{digest: auth.DigestKey([]byte(key)), refused: unknownKey}
}

func TestRefusedKeysAreBounded(t *testing.T) {
	r := newBareRedis(t)
	r.learn(goodEntry("good"))
	for i := range 3 * maxUnknown {
		r.learn(badEntry(fmt.Sprint(i)))
	}
	if r.unknown.count > maxUnknown {
		t.Errorf("%d refused keys are kept, want at most %d", r.unknown.count, maxUnknown)
	}
	holds(t, r, "good", nil)
}

func TestQuestionsAreBounded(t *testing.T) {
	r := newBareRedis(t)
	for i := range maxPending {
		if err := look(r, fmt.Sprint(i), time.Now(), storeSlow); err != nil {
			t.Fatal(err)
		}
	}
	if err := look(r, "0", time.Now(), storeSlow); err != nil {
		t.Errorf("a question that is under way: %v", err)
	}
	if err := look(r, "one more", time.Now(), storeFull); err != nil {
		t.Error(err)
	}
	r.giveUp()
	if len(r.pending) != 0 || len(r.queue) != 0 {
		t.Errorf("%d questions wait for nobody", len(r.pending))
	}
	if err := look(r, "0", time.Now(), storeDown); err != nil {
		t.Error(err)
	}
}

func TestCallerLeaves(t *testing.T) {
	r := newBareRedis(t)
	r.config.Timeout = time.Hour
	ctx, leave := context.WithCancel(t.Context())
	leave()
	if _, err := r.Lookup(ctx, auth.DigestKey([]byte("a")), time.Now()); !errors.Is(err, auth.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
}

// TestChangeOvertakesTheAnswer has news of a change come between a question and its answer: the answer is old.
func TestChangeOvertakesTheAnswer(t *testing.T) {
	r := newBareRedis(t)
	s := r.bareSession()
	d := auth.DigestKey([]byte("a"))
	_, f, err := r.board(d, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	<-r.queue
	r.mu.Lock()
	r.forget(d)
	r.mu.Unlock()
	again := r.land(s, []*flight{f}, []*entry{goodEntry("a")})
	if len(again) != 1 || again[0] != f || f.entry != nil || r.known.find(d) != nil {
		t.Fatalf("the old answer was used: %+v, known %v", f, r.known.find(d))
	}
	if again = r.land(s, again, []*entry{badEntry("a")}); len(again) != 0 || f.entry == nil {
		t.Fatal("the new answer was not used")
	}
	<-f.done
	holds(t, r, "a", auth.ErrInvalid)
}

// TestAnswerAfterTheLoss has the connection break between an answer and its use. Nobody would tell of a change
// any more, so that a good answer is not kept; a bad one still ends the use of an older good one.
func TestAnswerAfterTheLoss(t *testing.T) {
	for _, row := range []struct {
		intent string
		answer *entry
		want   error
	}{
		{"a good answer leaves the older one", goodEntry("a"), nil},
		{"a bad answer ends it", badEntry("a"), auth.ErrUnavailable},
	} {
		r := newBareRedis(t)
		s := r.bareSession()
		r.learn(goodEntry("a"))
		old := r.known.find(row.answer.digest)
		_, f, err := r.board(row.answer.digest, time.Now().Add(r.config.CacheTTL))
		if err != nil {
			t.Fatal(err)
		}
		r.invalidated(s, nil)
		if r.land(s, []*flight{f}, []*entry{row.answer}); f.entry != row.answer {
			t.Errorf("%s: who asked got %v", row.intent, f.entry)
		}
		if got := r.known.find(row.answer.digest); row.want == nil && got != old || row.want != nil && got != nil {
			t.Errorf("%s: kept %v", row.intent, got)
		}
		r.down.Store(true)
		if err := look(r, "a", time.Now(), row.want); err != nil {
			t.Errorf("%s: %v", row.intent, err)
		}
	}
}

// TestStaleness counts the time from the last moment at which an entry was known to be current.
func TestStaleness(t *testing.T) {
	r := newBareRedis(t)
	r.learn(goodEntry("a"))
	e := r.known.find(auth.DigestKey([]byte("a")))
	last := time.Unix(0, e.read).Add(30 * time.Minute)
	r.epoch.Load().confirmed.Store(last.UnixNano())
	r.epoch.Store(nil)
	for _, down := range []bool{true, false} {
		r.down.Store(down)
		if err := look(r, "a", last.Add(r.config.StaleIfError), nil); err != nil {
			t.Errorf("at the end of stale_if_error, down %v: %v", down, err)
		}
		if err := look(r, "a", last.Add(r.config.StaleIfError+1), auth.ErrUnavailable); err != nil {
			t.Errorf("after it, down %v: %v", down, err)
		}
	}
}

// TestAnswerThatHasJustCome is for the caller who found nothing current a moment before.
func TestAnswerThatHasJustCome(t *testing.T) {
	r := newBareRedis(t)
	for _, e := range []*entry{goodEntry("good"), badEntry("bad")} {
		r.learn(e)
		if got, f, err := r.board(e.digest, time.Now()); got != e || f != nil || err != nil {
			t.Errorf("asked again: %v, %v, %v", got, f, err)
		}
	}
}

// TestLossIsForgivenForAWhile has questions wait for the next session after a loss, but not after a hang.
func TestLossIsForgivenForAWhile(t *testing.T) {
	for _, row := range []struct {
		intent string
		err    error
		down   bool
	}{
		{"a loss", errLost, false},
		{"a hang", context.DeadlineExceeded, true},
	} {
		r := newBareRedis(t)
		r.config.Timeout = time.Hour
		r.fail(r.bareSession(), row.err)
		t.Cleanup(func() { r.grace.Stop() })
		if r.epoch.Load() != nil || r.session != nil || r.down.Load() != row.down {
			t.Errorf("after %s: epoch %v, session %v, down %v", row.intent, r.epoch.Load(), r.session, r.down.Load())
		}
		if r.giveUp(); !r.down.Load() {
			t.Errorf("after %s and the time for another session, questions still wait", row.intent)
		}
	}
}
