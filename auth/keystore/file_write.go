package keystore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

var _ Store = (*File)(nil)

// lockRetry is how often a writer looks whether the one before it has finished.
const lockRetry = 10 * time.Millisecond

// List reads the file, not the memory, and leaves the memory as it is.
func (f *File) List(context.Context) ([]auth.KeyRecord, error) {
	records, err := f.read()
	slices.SortFunc(records, func(a, b auth.KeyRecord) int { return strings.Compare(a.ID, b.ID) })
	return records, err
}

// Get reads the file too.
func (f *File) Get(_ context.Context, id string) (auth.KeyRecord, error) {
	records, err := f.read()
	if err != nil {
		return auth.KeyRecord{}, err
	}
	i := indexOf(records, id)
	if i < 0 {
		return auth.KeyRecord{}, ErrNotFound
	}
	return records[i], nil
}

// Put adds a record at the end of the file.
func (f *File) Put(ctx context.Context, record auth.KeyRecord) error {
	return f.Edit(ctx, func(records []auth.KeyRecord) ([]auth.KeyRecord, error) {
		if indexOf(records, record.ID) >= 0 {
			return nil, ErrExists
		}
		return append(records, record), nil
	})
}

// Update changes one record in its place.
func (f *File) Update(ctx context.Context, id string, change func(*auth.KeyRecord) error) error {
	return f.Edit(ctx, func(records []auth.KeyRecord) ([]auth.KeyRecord, error) {
		i := indexOf(records, id)
		if i < 0 {
			return nil, ErrNotFound
		}
		changed, err := amend(records[i], change)
		if err != nil {
			return nil, err
		}
		records[i] = changed
		return records, nil
	})
}

// Delete removes one record.
func (f *File) Delete(ctx context.Context, id string) error {
	return f.Edit(ctx, func(records []auth.KeyRecord) ([]auth.KeyRecord, error) {
		i := indexOf(records, id)
		if i < 0 {
			return nil, ErrNotFound
		}
		return slices.Delete(records, i, i+1), nil
	})
}

func indexOf(records []auth.KeyRecord, id string) int {
	return slices.IndexFunc(records, func(r auth.KeyRecord) bool { return r.ID == id })
}

// Edit reads the records of the file, lets change alter them, and replaces the file: a reader sees the old
// file or the new one, a crash leaves one of them, and of several writers, in this process or others, each
// sees what the one before it wrote. It waits for its turn as long as ctx allows. When change fails, or what
// it returns is not valid, the file stays as it is. The store's own memory is up to date afterwards.
//
// A new file is for its owner alone; one that is replaced keeps its owner and its mode. A file NAME.lock
// beside it stays there.
func (f *File) Edit(ctx context.Context, change func([]auth.KeyRecord) ([]auth.KeyRecord, error)) error {
	if f.config.Encode == nil {
		return fmt.Errorf("cannot write key store %q: it is read only", f.config.Path)
	}
	path, err := target(f.config.Path)
	if err != nil {
		return fmt.Errorf("cannot write key store: %w", err)
	}
	unlock, err := lock(ctx, path+".lock")
	if err != nil {
		return fmt.Errorf("cannot write key store %q: %w", path, err)
	}
	defer unlock()

	records, err := f.read()
	if err != nil {
		return err
	}
	if records, err = change(records); err != nil {
		return err
	}
	if err := check(records); err != nil {
		return fmt.Errorf("cannot write key store %q: %w", path, err)
	}
	data, err := f.config.Encode(records)
	if err != nil {
		return fmt.Errorf("cannot write key store %q: %w", path, err)
	}
	if len(data) > maxFile {
		return fmt.Errorf("cannot write key store %q: more than %d bytes", path, maxFile)
	}
	if err := replace(path, data); err != nil {
		return fmt.Errorf("cannot write key store: %w", err)
	}
	return f.Reload()
}

// target is the file behind a path, as a rename would replace a symbolic link instead.
func target(path string) (string, error) {
	real, err := filepath.EvalSymlinks(path)
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Lstat(path); err == nil {
			return "", fmt.Errorf("%q is a link to nothing", path)
		}
		return path, nil
	}
	return real, err
}

// lock waits until no other writer has the file. The kernel lets go of it when the process ends, however it does.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			file.Close()
			return nil, fmt.Errorf("cannot lock %q: %w", path, err)
		}
		timer := time.NewTimer(lockRetry)
		select {
		case <-ctx.Done():
			timer.Stop()
			file.Close()
			return nil, fmt.Errorf("another writer holds %q: %w", path, ctx.Err())
		case <-timer.C:
		}
	}
}

// replace puts data in the place of a file, durably.
func replace(path string, data []byte) error {
	folder := filepath.Dir(path)
	file, err := os.CreateTemp(folder, "."+filepath.Base(path)+".*") // with mode 0600
	if err != nil {
		return err
	}
	err = fill(file, path, data)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		os.Remove(file.Name())
		return err
	}
	entries, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer entries.Close()
	return entries.Sync()
}

// fill writes a new file to the disk, with the owner and mode of the one it is to replace.
func fill(file *os.File, old string, data []byte) error {
	info, err := os.Stat(old)
	if err == nil {
		if err := inherit(file, info); err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if _, err := file.Write(data); err != nil {
		return err
	}
	return file.Sync()
}

// inherit fails rather than take the file away from the gateway's user.
func inherit(file *os.File, old fs.FileInfo) error {
	now, err := file.Stat()
	if err != nil {
		return err
	}
	was, ok := old.Sys().(*syscall.Stat_t)
	is, same := now.Sys().(*syscall.Stat_t)
	if ok && same && (was.Uid != is.Uid || was.Gid != is.Gid) {
		if err := file.Chown(int(was.Uid), int(was.Gid)); err != nil {
			return fmt.Errorf("cannot keep the owner of %q: %w", old.Name(), err)
		}
	}
	return file.Chmod(old.Mode().Perm())
}
