package watch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fsnotify/fsnotify"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

func TestWatchSeesChanges(t *testing.T) {
	type step = func(t *testing.T, at string)
	old := func(t *testing.T, at string) { write(t, at, "conf", "old") }
	tests := []struct {
		intent string
		file   string
		before step
		change step
	}{
		{"written in place, as by cat >", "conf", old, func(t *testing.T, at string) {
			write(t, at, "conf", "new")
		}},
		{"saved by rename, as editors do: the inode that was watched is gone", "conf", old, func(t *testing.T, at string) {
			write(t, at, "conf.tmp", "new")
			rename(t, at, "conf.tmp", "conf")
		}},
		{"deleted: the reader has to hear that it is gone", "conf", old, func(t *testing.T, at string) {
			remove(t, at, "conf")
		}},
		{"created after the start, in a folder that is created too", "sub/conf", old, func(t *testing.T, at string) {
			write(t, at, "sub/conf", "new")
		}},
		{"certbot: a link points to the next file of an archive", "live/cert.pem", func(t *testing.T, at string) {
			write(t, at, "archive/cert1.pem", "old")
			write(t, at, "archive/cert2.pem", "new")
			link(t, at, "../archive/cert1.pem", "live/cert.pem")
		}, func(t *testing.T, at string) {
			link(t, at, "../archive/cert2.pem", "live/cert.pem")
		}},
		{"Kubernetes: the link in the middle is swapped, the one that is named stays", "conf", func(t *testing.T, at string) {
			write(t, at, "..1/conf", "old")
			write(t, at, "..2/conf", "new")
			link(t, at, "..1", "..data")
			link(t, at, "..data/conf", "conf")
		}, func(t *testing.T, at string) {
			link(t, at, "..2", "..data")
		}},
		{"the file at the far end of a link is written", "link", func(t *testing.T, at string) {
			write(t, at, "far/conf", "old")
			link(t, at, "far/conf", "link")
		}, func(t *testing.T, at string) {
			write(t, at, "far/conf", "new")
		}},
		{"the whole folder is replaced by another of the same name", "sub/conf", func(t *testing.T, at string) {
			write(t, at, "sub/conf", "old")
			write(t, at, "next/conf", "new")
		}, func(t *testing.T, at string) {
			rename(t, at, "sub", "gone")
			rename(t, at, "next", "sub")
		}},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			at := t.TempDir()
			test.before(t, at)
			calls := start(t, filepath.Join(at, test.file))
			test.change(t, at)
			await(t, calls)
		})
	}
}

func TestWatchGoesOnAfterEachChange(t *testing.T) {
	at := t.TempDir()
	write(t, at, "conf", "0")
	calls := start(t, filepath.Join(at, "conf"))
	steps := []struct {
		intent string
		do     func()
	}{
		{"the file goes away", func() { remove(t, at, "conf") }},
		{"it comes back as it was: the reader has to hear that too", func() { write(t, at, "conf", "0") }},
		{"the new inode is watched", func() { write(t, at, "conf", "1") }},
		{"a rename replaces it", func() { write(t, at, "tmp", "2"); rename(t, at, "tmp", "conf") }},
		{"the renamed inode is watched", func() { write(t, at, "conf", "3") }},
		{"a link replaces it", func() { write(t, at, "far/conf", "4"); link(t, at, "far/conf", "conf") }},
		{"the folder behind the new link is watched", func() { write(t, at, "far/conf", "5") }},
	}
	for _, step := range steps {
		t.Log(step.intent)
		step.do()
		await(t, calls)
	}
}

func TestNewThenRunMissesNothing(t *testing.T) {
	at := t.TempDir()
	write(t, at, "conf", "old")
	w, err := New([]string{filepath.Join(at, "conf")})
	if err != nil {
		t.Fatal(err)
	}
	write(t, at, "conf", "new")
	calls := make(chan struct{}, 100)
	runUntilEnd(t, func(ctx context.Context) error {
		return w.Run(ctx, time.Millisecond, func() { calls <- struct{}{} })
	})
	await(t, calls)
}

func TestWatch(t *testing.T) {
	at := t.TempDir()
	calls := make(chan struct{}, 100)
	runUntilEnd(t, func(ctx context.Context) error {
		w, err := New([]string{filepath.Join(at, "conf")})
		if err != nil {
			return err
		}
		return w.Run(ctx, time.Millisecond, func() { calls <- struct{}{} })
	})
	for i := 0; ; i++ { // it has begun at some time: go on with changes until it has
		write(t, at, "conf", strconv.Itoa(i))
		select {
		case <-calls:
			return
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestRun has a clock and events of its own, so that it can also show what is not reported.
func TestRun(t *testing.T) {
	const debounce = 100 * time.Millisecond
	tests := []struct {
		intent string
		do     func(t *testing.T, f *fake)
		want   int
	}{
		{"nothing happens", func(*testing.T, *fake) {}, 0},
		{"a change is told once the file is at rest", func(t *testing.T, f *fake) {
			f.write(t, "new")
			time.Sleep(debounce)
		}, 1},
		{"not before that", func(t *testing.T, f *fake) {
			f.write(t, "new")
			time.Sleep(debounce - 1)
		}, 0},
		{"a burst is one change", func(t *testing.T, f *fake) {
			for _, text := range []string{"n", "ne", "new"} {
				f.write(t, text)
				time.Sleep(debounce / 2)
			}
			time.Sleep(debounce)
		}, 1},
		{"the same bytes are no change", func(t *testing.T, f *fake) {
			f.write(t, "old")
			time.Sleep(debounce)
		}, 0},
		{"neither is a change that was taken back", func(t *testing.T, f *fake) {
			f.write(t, "new")
			f.write(t, "old")
			time.Sleep(debounce)
		}, 0},
		{"events of other files do not even make it look", func(t *testing.T, f *fake) {
			write(t, filepath.Dir(f.file), filepath.Base(f.file), "new")
			f.events <- fsnotify.Event{Name: f.file + ".log", Op: fsnotify.Write}
			time.Sleep(2 * debounce)
		}, 0},
		{"a change without an event is found by the recheck", func(t *testing.T, f *fake) {
			write(t, filepath.Dir(f.file), filepath.Base(f.file), "new")
			time.Sleep(recheck)
		}, 1},
		{"an overflow of the event queue is a reason to look", func(t *testing.T, f *fake) {
			write(t, filepath.Dir(f.file), filepath.Base(f.file), "new")
			f.errors <- fsnotify.ErrEventOverflow
			time.Sleep(debounce)
		}, 1},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				if got := callsDuring(t, f, debounce, func() { test.do(t, f) }); got != test.want {
					t.Errorf("changed was called %d times, want %d", got, test.want)
				}
			})
		})
	}
}

// callsDuring counts the calls of changed while something is done to a Watcher that runs.
func callsDuring(t *testing.T, f *fake, debounce time.Duration, do func()) (calls int) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, debounce, func() { calls++ }) }()
	time.Sleep(debounce)
	synctest.Wait() // its first look is over
	do()
	synctest.Wait()
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run returned %v after its context was done, want nil", err)
	}
	return calls
}

func TestRunEndsWhenTheKernelDoes(t *testing.T) {
	f := newFake(t)
	close(f.events)
	if err := f.Run(t.Context(), time.Second, func() {}); !errors.Is(err, fsnotify.ErrClosed) {
		t.Errorf("Run returned %v, want %v", err, fsnotify.ErrClosed)
	}
}

// fake is a Watcher of one file that holds "old", whose events come from the test.
type fake struct {
	*Watcher
	file   string
	events chan fsnotify.Event
	errors chan error
}

func newFake(t *testing.T) *fake {
	at := t.TempDir()
	write(t, at, "conf", "old")
	f := &fake{file: filepath.Join(at, "conf"), events: make(chan fsnotify.Event), errors: make(chan error)}
	f.Watcher = &Watcher{
		files:  []string{f.file},
		events: f.events,
		errors: f.errors,
		follow: func([]string) error { return nil },
		close:  func() error { return nil },
	}
	if err := f.retrace(); err != nil {
		t.Fatal(err)
	}
	f.seen = f.read()
	return f
}

func (f *fake) write(t *testing.T, text string) {
	write(t, filepath.Dir(f.file), filepath.Base(f.file), text)
	f.events <- fsnotify.Event{Name: f.file, Op: fsnotify.Write}
}

// start watches file, with the kernel's events, until the test ends.
func start(t *testing.T, file string) <-chan struct{} {
	w, err := New([]string{file})
	if err != nil {
		t.Fatal(err)
	}
	calls := make(chan struct{}, 100)
	runUntilEnd(t, func(ctx context.Context) error {
		return w.Run(ctx, 5*time.Millisecond, func() { calls <- struct{}{} })
	})
	return calls
}

func runUntilEnd(t *testing.T, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func await(t *testing.T, calls <-chan struct{}) {
	t.Helper()
	select {
	case <-calls:
	case <-time.After(patience):
		t.Fatal("the change was not told")
	}
}

// write replaces the file's bytes in place; folders are made as needed.
func write(t *testing.T, at, name, text string) {
	t.Helper()
	path := filepath.Join(at, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.WriteFile(path, []byte(text), 0o644))
}

func rename(t *testing.T, at, from, to string) {
	t.Helper()
	must(t, os.Rename(filepath.Join(at, from), filepath.Join(at, to)))
}

func remove(t *testing.T, at, name string) {
	t.Helper()
	must(t, os.Remove(filepath.Join(at, name)))
}

// link makes name a symbolic link, atomically if there is one already.
func link(t *testing.T, at, target, name string) {
	t.Helper()
	path := filepath.Join(at, name)
	must(t, os.MkdirAll(filepath.Dir(path), 0o755))
	must(t, os.Symlink(target, path+".new"))
	must(t, os.Rename(path+".new", path))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
