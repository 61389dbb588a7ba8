package engine

import "context"

// worker is a goroutine that works for a part of the configuration while that is in use. The zero value has
// not begun. It is for one caller at a time.
type worker struct {
	stop context.CancelFunc
	done chan struct{} // closed when the work has ended
}

// begun says whether start has been called.
func (w *worker) begun() bool { return w.done != nil }

// start begins to work, until finish is called or life ends.
func (w *worker) start(life context.Context, work func(ctx context.Context)) {
	ctx, stop := context.WithCancel(life)
	w.stop, w.done = stop, make(chan struct{})
	go func() {
		defer close(w.done)
		work(ctx)
	}()
}

// finish ends the work and waits for it.
func (w *worker) finish() {
	if w.begun() {
		w.stop()
		<-w.done
	}
}
