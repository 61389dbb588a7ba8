package upstream

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"
)

// Whatever a target does, an answer is that to its request: nobody gets another's, nobody waits for ever, no
// connection has more requests than it may have, and nothing is left behind.
func TestLaneLaw(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		depth := rapid.IntRange(1, 8).Draw(rt, "depth")
		clients := rapid.IntRange(1, 12).Draw(rt, "clients")
		seed := rapid.Uint64().Draw(rt, "seed")
		var failure error
		synctest.Test(t, func(t *testing.T) { failure = laneLaw(depth, clients, seed) })
		if failure != nil {
			rt.Fatal(failure)
		}
	})
}

func laneLaw(depth, clients int, seed uint64) error {
	l := newLaneTest(depth, whimsical(seed))
	var running sync.WaitGroup
	errs := make([]error, clients)
	good := make([]int, clients)
	for i := range clients {
		running.Go(func() { good[i], errs[i] = l.lawfulClient(i, rand.New(rand.NewPCG(seed, uint64(i)))) })
	}
	running.Wait()
	l.end()
	if l.most > depth {
		return fmt.Errorf("%d requests in flight on a connection, of %d", l.most, depth)
	}
	answered := 0
	for _, n := range good {
		answered += n
	}
	if answered == 0 {
		return errors.New("nobody was answered")
	}
	return errors.Join(errs...)
}

// lawfulClient makes requests, now and then leaves early, and tells what must not be. good is how many answers it had.
func (l *laneTest) lawfulClient(i int, dice *rand.Rand) (good int, err error) {
	for j := range 20 {
		time.Sleep(time.Duration(dice.IntN(3)) * time.Millisecond)
		nonce := fmt.Sprintf("n%d-%d", i, j)
		method := []string{"GET", "GET", "HEAD", "OPTIONS"}[dice.IntN(4)]
		var deadline time.Time
		if dice.IntN(4) == 0 {
			deadline = time.Now().Add(time.Duration(dice.IntN(60)) * time.Millisecond)
		}
		p := l.place(0)
		for ; p == nil; p = l.place(0) {
			time.Sleep(100 * time.Millisecond) // suspended
		}
		if dice.IntN(8) == 0 {
			leave := time.AfterFunc(time.Duration(dice.IntN(30))*time.Millisecond, p.Tether().Cut)
			_, _, err = l.askLeaving(p, leave, method, nonce)
		} else {
			_, _, err = l.askBy(p, method, nonce, deadline)
		}
		var e *Error
		switch {
		case err == nil:
			good++
		case errors.Is(err, ErrMoved), errors.As(err, &e), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe):
		default:
			return good, err
		}
	}
	return good, nil
}

// askLeaving is askBy for a client that leaves, or would have: a lease that was cut is discarded.
func (l *laneTest) askLeaving(p *Place, leave *time.Timer, method, nonce string) (status int, body string, err error) {
	r, err := p.Ask(request(method, nonce), method == "HEAD", time.Time{})
	if err == nil {
		status = r.Status.Code
		for _, f := range r.Fields {
			if string(f.Name) == "X-Nonce" && string(f.Value) != nonce {
				err = fmt.Errorf("the answer to %s is that to %s", nonce, f.Value)
			}
		}
	}
	p.end(nil, leave.Stop() && p.Reusable() && err == nil)
	return status, "", err
}
