package revocation

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"
)

const (
	poll     = 250 * time.Millisecond // how often a File looks for what other processes added
	patience = 10 * time.Second       // how long a File waits for another process to let go of the log
	spare    = 1024                   // dead lines that are not worth a rewrite
)

// FileConfig says where a File keeps entries.
type FileConfig struct {
	Path string // of the log; made, for the owner's eyes only, if it is not there
	List *List  // whom it feeds

	// Report is told what goes wrong in the background or is found wrong in the log, and nil once all is well
	// again after something went wrong in the background. It is called by whoever found out, one at a time,
	// must not call the File, and may be nil.
	Report func(err error)
}

// File is a Store that keeps entries in a log, a line each, which survives the process. Add returns when the
// line is on the disk; those who add at the same time share the wait.
//
// Any number of processes may have the log open: an old gateway and the new one that takes over, and
// commands. They take turns by flock(2), and read what others have added, within a second while Run is
// running. The log is replaced by one without dead lines, atomically, if an eighth are dead when it is opened,
// or half later on; the others follow, for which they read all of it again.
//
// What a crash cut off at the end of the log was not acknowledged, and is dropped. A line elsewhere that is
// not as it was written is reported and skipped, and the first log with such lines is kept beside the new
// one, with the suffix ".bad", when it is replaced. A log that was removed or shortened by others is
// written again.
type File struct {
	list   *List
	report func(error)
	turn   chan struct{} // full while somebody uses log
	log    log

	mu     sync.Mutex
	next   *commit
	closed bool
}

// commit is entries that are written together.
type commit struct {
	entries []Entry
	now     time.Time
	done    chan struct{} // closed when errs is set
	errs    []error       // by entry; nil: no error
}

// OpenFile reads the log into the List. It fails if the log cannot be read or made, or another process does
// not let go of it. Wrong lines are no failure, and neither is a full List: they are reported.
func OpenFile(c FileConfig, now time.Time) (*File, error) {
	path, err := filepath.EvalSymlinks(c.Path)
	if err != nil {
		path = c.Path // not there yet
	}
	f := &File{list: c.List, report: oneAtATime(c.Report), turn: make(chan struct{}, 1)}
	f.log = log{path: path, list: c.List, report: f.report}
	if err := f.log.hold(now); err != nil {
		f.log.close()
		return nil, fmt.Errorf("cannot open revocations %q: %w", c.Path, err)
	}
	if dead := f.log.dead(now); dead > f.log.lines/8 || f.log.bad > 0 {
		if err := f.log.rewrite(now); err != nil {
			f.report(err)
		}
	}
	f.log.release()
	return f, nil
}

func oneAtATime(report func(error)) func(error) {
	if report == nil {
		return func(error) {}
	}
	var mu sync.Mutex
	return func(err error) {
		mu.Lock()
		defer mu.Unlock()
		report(err)
	}
}

// Add implements Store. It waits for the disk, whatever becomes of ctx meanwhile.
func (f *File) Add(ctx context.Context, e Entry, now time.Time) error {
	if err := e.Check(now); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("cannot revoke: %w", err)
	}
	if f.list.covers(e) {
		return nil
	}
	if e.Created.IsZero() {
		e.Created = now
	}
	c, i, err := f.join(e, now)
	if err != nil {
		return err
	}
	select {
	case <-c.done:
	case f.turn <- struct{}{}:
		f.write()
		<-f.turn
	}
	<-c.done
	if c.errs != nil {
		return c.errs[i]
	}
	return nil
}

// join adds an entry to those that are written next, as the i-th.
func (f *File) join(e Entry, now time.Time) (c *commit, i int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, 0, ErrClosed
	}
	if f.next == nil {
		f.next = &commit{done: make(chan struct{})}
	}
	c = f.next
	c.now = now
	c.entries = append(c.entries, e)
	return c, len(c.entries) - 1, nil
}

// write writes what is to be written next, if anything is. The caller has the turn.
func (f *File) write() {
	f.mu.Lock()
	c := f.next
	f.next = nil
	f.mu.Unlock()
	if c == nil {
		return
	}
	defer close(c.done)
	if err := f.commit(c); err != nil {
		c.errs = make([]error, len(c.entries))
		for i := range c.errs {
			c.errs[i] = err
		}
		return
	}
	for i, e := range c.entries {
		if _, err := f.list.Add(e, c.now); err != nil {
			if c.errs == nil {
				c.errs = make([]error, len(c.entries))
			}
			c.errs[i] = err
			f.log.partial = true
		}
	}
}

func (f *File) commit(c *commit) error {
	if err := f.log.hold(c.now); err != nil {
		return fmt.Errorf("cannot keep revocations in %q: %w", f.log.path, err)
	}
	defer f.log.release()
	if err := f.log.append(c.entries); err != nil {
		return fmt.Errorf("cannot keep revocations in %q: %w", f.log.path, err)
	}
	return nil
}

// Poll puts in force what other processes have added to the log since the last look. Run does so all the time.
func (f *File) Poll(now time.Time) error {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	if f.isClosed() {
		return ErrClosed
	}
	if f.log.quiet() {
		return nil
	}
	if err := f.log.hold(now); err != nil {
		return fmt.Errorf("cannot read revocations %q: %w", f.log.path, err)
	}
	f.log.release()
	return nil
}

func (f *File) isClosed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.closed
}

// Run implements Store.
func (f *File) Run(ctx context.Context) {
	look, tidy := time.NewTicker(poll), time.NewTicker(forget)
	defer look.Stop()
	defer tidy.Stop()
	failing := false
	for {
		var err error
		select {
		case <-ctx.Done():
			return
		case now := <-look.C:
			err = f.Poll(now)
		case now := <-tidy.C:
			f.list.Expire(now)
			err = f.tidy(now)
		}
		if failed := err != nil; failed != failing {
			failing = failed
			f.report(err)
		}
	}
}

// tidy rewrites the log if more than half of it is dead.
func (f *File) tidy(now time.Time) error {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	if f.isClosed() || f.log.lines <= 2*f.list.Len()+spare {
		return nil
	}
	if err := f.log.hold(now); err != nil {
		return fmt.Errorf("cannot read revocations %q: %w", f.log.path, err)
	}
	defer f.log.release()
	return f.log.rewrite(now)
}

// Close implements Store. Entries whose Add has not returned are written first or fail.
func (f *File) Close() error {
	f.turn <- struct{}{}
	defer func() { <-f.turn }()
	f.mu.Lock()
	closed := f.closed
	f.closed = true
	f.mu.Unlock()
	if closed {
		return nil
	}
	f.write()
	if err := f.log.close(); err != nil {
		return fmt.Errorf("cannot close revocations %q: %w", f.log.path, err)
	}
	return nil
}
