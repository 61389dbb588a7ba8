package certs

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/sluice-gateway/sluice/engine/watch"
)

// debounce is how long the files must be at rest: longer than it takes to write a certificate and its key.
const debounce = 500 * time.Millisecond

// Reload reads all files again and tells whether the Store now serves anything else. A pair that cannot be
// read or used, half written or of which only one file is new, is served as it was; the error names it,
// and the other pairs are reloaded all the same.
func (s *Store) Reload() (changed bool, err error) {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	old := s.current.Load().entries
	entries := slices.Clone(old)
	var errs []error
	for i, pair := range s.pairs {
		fresh, err := load(pair, old[i])
		if err != nil {
			errs = append(errs, err)
			continue
		}
		changed = changed || fresh != old[i]
		entries[i] = fresh
	}
	if changed {
		s.current.Store(newIndex(entries))
	}
	return changed, errors.Join(errs...)
}

// Run reloads the Store whenever its files change, renames and swapped links included, and finds within a
// minute what the kernel does not report. It calls onReload, on the goroutine that called Run, after each
// reload that changed something, failed, or is the first to succeed after a failure. It returns nil when
// ctx is done, and an error at once if the files cannot be watched.
func (s *Store) Run(ctx context.Context, onReload func(changed bool, err error)) error {
	return s.run(ctx, debounce, onReload)
}

func (s *Store) run(ctx context.Context, rest time.Duration, onReload func(changed bool, err error)) error {
	var files []string
	for _, pair := range s.pairs {
		files = append(files, pair.Cert, pair.Key)
	}
	watcher, err := watch.New(files)
	if err != nil {
		return err
	}
	failed := false
	reload := func() {
		changed, err := s.Reload()
		if changed || err != nil || failed {
			onReload(changed, err)
		}
		failed = err != nil
	}
	reload() // what changed since New
	return watcher.Run(ctx, rest, reload)
}
