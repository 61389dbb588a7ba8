package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// lateness is how long a line may wait for others to be written with.
	lateness = 50 * time.Millisecond
	// flushTime is how long the end waits for an output that has stalled.
	flushTime = 2 * time.Second
)

// AccessOutput is where an AccessLog writes.
type AccessOutput struct {
	io.Writer
	path string // empty: it is no file of ours
}

// OpenAccessOutput opens what [log].access names: "stdout", "off" or a file's path, which is appended to.
func OpenAccessOutput(name string, stdout io.Writer) (*AccessOutput, error) {
	switch name {
	case "off":
		return &AccessOutput{}, nil
	case "stdout":
		return &AccessOutput{Writer: stdout}, nil
	}
	// Without O_NONBLOCK, opening a named pipe would wait for its reader.
	file, err := os.OpenFile(name, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640) // #nosec G302 G304 -- for whoever collects logs
	if err != nil {
		return nil, fmt.Errorf("cannot open the access log: %w", err)
	}
	return &AccessOutput{Writer: file, path: name}, nil
}

// Close closes a file; what is not one stays. No output has nothing to close.
func (o *AccessOutput) Close() error {
	if o == nil {
		return nil
	}
	if file, ok := o.Writer.(*os.File); ok && o.path != "" {
		return file.Close()
	}
	return nil
}

// bound bounds how long a stalled reader of the output may hold its writer up from now on; zero: for ever. What is
// no pipe or socket of ours knows no such bound.
func (o *AccessOutput) bound(within time.Duration) {
	file, ok := o.Writer.(*os.File)
	if !ok {
		return
	}
	end := time.Time{}
	if within > 0 {
		end = time.Now().Add(within)
	}
	_ = file.SetWriteDeadline(end)
}

// AccessTrouble is why lines are dropped.
type AccessTrouble struct {
	Stalled bool  // the output does not keep up
	Err     error // it cannot be written, or not be opened again
}

// trouble is what there is to report.
type trouble struct {
	stalled atomic.Bool
	failed  atomic.Pointer[error]
	shut    atomic.Pointer[error] // why the file could not be opened again, until that is told
	changed chan struct{}
}

func (t *trouble) now() (now AccessTrouble) {
	now.Stalled = t.stalled.Load()
	if err := t.failed.Load(); err != nil {
		now.Err = *err
	}
	return now
}

// notify leaves word for who listens to c, if there is none yet. c has room for one.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// drop counts lines that are lost: because of err or, without one, because there is no room.
func (l *AccessLog) drop(lines uint64, err error) {
	l.dropped.Add(lines)
	if err != nil && l.trouble.failed.Swap(&err) == nil || err == nil && !l.trouble.stalled.Load() && l.trouble.stalled.CompareAndSwap(false, true) {
		notify(l.trouble.changed)
	}
}

// Switch makes the log write to another output, or to the same if that is nil, and take a sample of successes. The
// old output is closed once it has the lines that were logged before, or, if it is a pipe that nobody reads, soon.
func (l *AccessLog) Switch(output *AccessOutput, sample float64) {
	l.threshold.Store(sampleThreshold(sample))
	if output == nil {
		return
	}
	if current := l.current.Load(); current != nil {
		current.bound(flushTime) // before next is known: whoever adopts that frees it again
	}
	if passed := l.next.Swap(output); passed != nil {
		_ = passed.Close()
	}
	notify(l.ordered)
	l.enabled.Store(output.Writer != nil)
}

// Reopen opens the log's file again, as after it was renamed. It returns at once; an error is reported, and the old
// file stays in use.
func (l *AccessLog) Reopen() {
	l.reopen.Store(true)
	notify(l.ordered)
}

// Run writes what is logged until ctx ends, and then what is left, unless its output has stalled.
func (l *AccessLog) Run(ctx context.Context) {
	ending, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		(&accessWriter{log: l, output: &AccessOutput{}}).run(ending)
	}()
	told := AccessTrouble{}
	for ctx.Err() == nil {
		select {
		case <-l.trouble.changed:
			told = l.tell(told)
		case <-ctx.Done():
		}
	}
	close(ending)
	select {
	case <-ended:
	case <-time.After(flushTime):
		l.trouble.stalled.Store(true) // it ends with the process
	}
	l.tell(told)
}

// tell reports what has changed since it was told last.
func (l *AccessLog) tell(told AccessTrouble) AccessTrouble {
	if err := l.trouble.shut.Swap(nil); err != nil {
		l.options.Report(AccessTrouble{Err: *err}, l.dropped.Load())
	}
	now := l.trouble.now()
	if now.Stalled != told.Stalled || (now.Err == nil) != (told.Err == nil) {
		l.options.Report(now, l.dropped.Load())
	}
	return now
}

// accessWriter writes the lines of a log, on its own goroutine: it alone may be held up.
type accessWriter struct {
	log    *AccessLog
	output *AccessOutput
	torn   []byte // the rest of a line that was not written whole
}

func (w *accessWriter) run(ending <-chan struct{}) {
	r := &w.log.ring
	late := time.NewTimer(lateness)
	late.Stop()
	waiting := false // for lateness to pass
	for {
		select {
		case chunk := <-r.full:
			w.write(chunk)
		case <-r.wake:
			if !waiting {
				late.Reset(lateness)
				waiting = true
			}
		case <-late.C:
			waiting = false
			w.flush()
		case <-w.log.ordered:
			w.flush()
			w.obey()
		case <-ending:
			w.flush()
			w.obey()
			_ = w.output.Close()
			return
		}
	}
}

// flush writes all that there is.
func (w *accessWriter) flush() {
	r := &w.log.ring
	r.collect()
	for {
		select {
		case chunk := <-r.full:
			w.write(chunk)
		case line := <-r.spill:
			w.emit(line)
		default:
			return
		}
	}
}

// write writes a chunk and gives it back.
func (w *accessWriter) write(chunk []byte) {
	w.emit(chunk)
	l := w.log
	l.ring.release(chunk)
	if l.ring.relaxed() && l.trouble.stalled.CompareAndSwap(true, false) {
		notify(l.trouble.changed)
	}
}

// emit writes lines, counts them, and keeps the rest of one that was cut.
func (w *accessWriter) emit(text []byte) {
	l := w.log
	if w.output.Writer == nil {
		w.obey() // it was switched on just now
	}
	if w.output.Writer == nil {
		return // or off, while lines were under way
	}
	if !w.mend() {
		l.drop(lines(text), *l.trouble.failed.Load())
		return
	}
	n, err := w.output.Write(text)
	if err == nil {
		l.written.Add(lines(text))
		if l.trouble.failed.Swap(nil) != nil {
			notify(l.trouble.changed)
		}
		return
	}
	rest := text[n:]
	l.written.Add(lines(text[:n]))
	if n > 0 && text[n-1] != '\n' {
		end := bytes.IndexByte(rest, '\n') + 1
		w.torn = append(w.torn[:0], rest[:end]...)
		rest = rest[end:]
	}
	l.drop(lines(rest), err)
}

// mend writes the rest of a line that was cut, so that the next one begins on its own.
func (w *accessWriter) mend() bool {
	if len(w.torn) == 0 {
		return true
	}
	n, err := w.output.Write(w.torn)
	w.torn = w.torn[:copy(w.torn, w.torn[n:])]
	if err != nil {
		w.log.trouble.failed.Store(&err)
		return false
	}
	w.log.written.Add(1)
	return true
}

func lines(chunk []byte) uint64 { return uint64(bytes.Count(chunk, []byte{'\n'})) } // #nosec G115 -- not negative

// obey does what was ordered. A file that was opened for a switch may have been renamed since.
func (w *accessWriter) obey() {
	next, again := w.log.next.Swap(nil), w.log.reopen.Swap(false)
	if next != nil {
		w.adopt(next)
	}
	if !again || w.output.path == "" {
		return
	}
	next, err := OpenAccessOutput(w.output.path, nil)
	if err != nil {
		w.log.trouble.shut.Store(&err)
		notify(w.log.trouble.changed)
		return
	}
	w.adopt(next)
}

// adopt goes on with another output.
func (w *accessWriter) adopt(next *AccessOutput) {
	if !w.mend() {
		w.torn = w.torn[:0]
		w.log.dropped.Add(1)
	}
	_ = w.output.Close()
	w.output = next
	w.log.current.Store(next)
	next.bound(0) // it may have been left in a hurry before
}
