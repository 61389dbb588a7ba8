// Package watch tells when the content of files changes.
package watch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
	"golang.org/x/sys/unix"
)

// recheck is how often the files are read without being told to: the longest that a change may go
// unseen when the kernel does not report it (a network file system, a folder moved far above, a full
// event queue).
const recheck = time.Minute

// Watcher compares files with what they held when it was made.
//
// It watches folders, not files, and follows every symbolic link on the way to a file: files that are
// replaced by a rename, links that are swapped (certbot, Kubernetes volumes) and files that go away and
// come back are all seen. A file that cannot be read is a content of its own, so its loss is a change
// and its return is another. Chmod, touch and writing the same bytes again are none.
//
// A Watcher is not safe for concurrent use.
type Watcher struct {
	files  []string
	seen   map[string]content
	places map[string]struct{} // entries and folders whose events matter

	events <-chan fsnotify.Event
	errors <-chan error
	follow func(folders []string) error
	close  func() error
}

// content stands for what a file holds.
type content struct {
	sum [sha256.Size]byte
	err string // why it could not be read
}

// New takes note of the files, which need not exist, and watches them from here on. A caller who reads
// them after New and then calls Run misses no change. It fails when the kernel has no inotify instance or
// watch left to give, or a folder may not be read. Close the Watcher if Run is never called.
func New(files []string) (*Watcher, error) {
	w := &Watcher{}
	for _, file := range files {
		path, err := filepath.Abs(file)
		if err != nil {
			return nil, fmt.Errorf("cannot watch %q: %w", file, err)
		}
		w.files = append(w.files, path)
	}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("cannot watch files: %w", err)
	}
	w.events, w.errors, w.close = notify.Events, notify.Errors, notify.Close
	w.follow = func(folders []string) error { return follow(notify, folders) }
	if err := w.retrace(); err != nil {
		notify.Close()
		return nil, err
	}
	w.seen = w.read()
	return w, nil
}

// Close stops watching. It is not needed after Run.
func (w *Watcher) Close() error { return w.close() }

// Run calls changed, on the goroutine that called Run, once the files have been at rest for debounce after a
// change, and closes the Watcher when it returns. It returns nil when ctx is done.
func (w *Watcher) Run(ctx context.Context, debounce time.Duration, changed func()) error {
	defer w.Close()
	settled := time.NewTimer(debounce) // the first look is for what changed while New followed links
	defer settled.Stop()
	again := time.NewTicker(recheck)
	defer again.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case event, open := <-w.events:
			if !open {
				return fmt.Errorf("cannot watch files: %w", fsnotify.ErrClosed)
			}
			if w.concerns(event) {
				settled.Reset(debounce)
			}
		case <-w.errors: // events may be lost: look for ourselves
			settled.Reset(debounce)
		case <-settled.C:
			w.compare(changed)
		case <-again.C:
			w.compare(changed)
		}
	}
}

func (w *Watcher) concerns(event fsnotify.Event) bool {
	_, ok := w.places[filepath.Clean(event.Name)]
	return ok
}

func (w *Watcher) compare(changed func()) {
	_ = w.retrace() // a folder that vanished or may not be watched: the next recheck tries again
	now := w.read()
	if maps.Equal(now, w.seen) {
		return
	}
	w.seen = now
	changed()
}

func (w *Watcher) read() map[string]content {
	found := make(map[string]content, len(w.files))
	for _, file := range w.files {
		sum, err := digest(file)
		if err != nil {
			found[file] = content{err: err.Error()}
			continue
		}
		found[file] = content{sum: sum}
	}
	return found
}

// longest is how much of a file is looked at: more than anybody writes by hand, and no more than can be read
// in a moment.
const longest = 64 << 20

var errNotRegular = errors.New("watch: not a regular file")

// digest sums up a file's content. What is not a file of bytes, such as a pipe or a device, could be waited for
// or read for ever.
func digest(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return sum, err
	}
	if !info.Mode().IsRegular() {
		return sum, errNotRegular
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, longest)); err != nil {
		return sum, err
	}
	h.Sum(sum[:0])
	return sum, nil
}

// retrace finds again which folders decide what the files are, and watches those.
func (w *Watcher) retrace() error {
	places := map[string]struct{}{}
	var folders []string
	for _, file := range w.files {
		for _, entry := range trail(file) {
			folder := filepath.Dir(entry)
			places[entry], places[folder] = struct{}{}, struct{}{}
			folders = append(folders, folder)
		}
	}
	w.places = places
	slices.Sort(folders)
	return w.follow(slices.Compact(folders))
}

// follow makes folders, and nothing else, what notify watches. A folder is added even if it is watched
// already, for there may be another one under its name by now.
func follow(notify *fsnotify.Watcher, folders []string) error {
	for _, old := range notify.WatchList() {
		if !slices.Contains(folders, old) {
			_ = notify.Remove(old) // fails if the kernel dropped it first
		}
	}
	for _, folder := range folders {
		if err := notify.Add(folder); err != nil {
			return fmt.Errorf("cannot watch %q: %w", folder, err)
		}
	}
	return nil
}
