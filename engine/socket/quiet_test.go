package socket

import (
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

// TestWokenIsNotQuiet: while a reader is being woken by bytes that it has not read yet, nobody takes the connection for
// quiet.
func TestWokenIsNotQuiet(t *testing.T) {
	p := startPoller(t)
	one, other := both(t, p, "tcp")
	if _, err := other.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); p.told.Load() == 0 || one.in.state.Load() != stirred; runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("it is never told")
		}
	}
	var begun, woken, looked atomic.Int64
	reach := func(n *atomic.Int64, round int64) {
		for n.Load() < round {
			runtime.Gosched()
		}
	}
	const rounds = 30000
	go func() {
		for i := int64(1); i <= rounds; i++ {
			one.in.stir()
			one.drained.Store(p.told.Load()) // as it was before the byte came
			begun.Store(i)
			one.pause()
			woken.Store(i)
			reach(&looked, i)
		}
	}()
	wrong := 0
	for i := int64(1); i <= rounds; i++ {
		reach(&begun, i)
		for woken.Load() < i {
			if one.Quiet() {
				wrong++
			}
		}
		looked.Store(i)
	}
	if wrong > 0 {
		t.Errorf("%d times it is quiet, with a byte unread that was told of", wrong)
	}
}
