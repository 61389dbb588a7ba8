package keystore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// maxFile bounds what is read of a file: some 200 000 records.
const maxFile = 64 << 20

// FileConfig says where the records are and how they are written down.
type FileConfig struct {
	Path   string // the file; when it is a symbolic link, the file behind it is read and replaced
	Decode func(data []byte) ([]auth.KeyRecord, error)
	Encode func(records []auth.KeyRecord) ([]byte, error) // nil: the file is only read
}

// File is a store in one file, held in memory. A missing file is an empty store. It starts nothing: whoever
// watches the file calls Reload. It is safe for concurrent use.
type File struct {
	config  FileConfig
	entries atomic.Pointer[index]
	loading sync.Mutex // so that an older reading does not replace a newer one
}

// NewFile reads the file, and fails if it is there and cannot be used.
func NewFile(config FileConfig) (*File, error) {
	f := &File{config: config}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Reload reads the file again. When that fails, nothing changes.
func (f *File) Reload() error {
	f.loading.Lock()
	defer f.loading.Unlock()
	records, err := f.read()
	if err != nil {
		return err
	}
	f.entries.Store(newIndex(records))
	return nil
}

// Len is the number of records in memory.
func (f *File) Len() int { return f.entries.Load().count }

// Lookup does what auth.KeyLookup says. It takes no lock, allocates nothing, and never fails with ErrUnavailable.
func (f *File) Lookup(_ context.Context, d auth.Digest, now time.Time) (*auth.Principal, error) {
	e := f.entries.Load().find(d)
	if e == nil {
		return nil, unknownKey
	}
	return e.answer(now)
}

// read gives the records of the file, all of them good and no two of one key.
func (f *File) read() ([]auth.KeyRecord, error) {
	data, err := readAll(f.config.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read key store: %w", err)
	}
	records, err := f.config.Decode(data)
	if err != nil {
		return nil, fmt.Errorf("cannot read key store %q: %w", f.config.Path, err)
	}
	if err := check(records); err != nil {
		return nil, fmt.Errorf("cannot use key store %q: %w", f.config.Path, err)
	}
	return records, nil
}

func readAll(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe is not waited for
	if err != nil {
		return nil, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(err, fmt.Errorf("%q is not a regular file", path))
	}
	data, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%q is larger than %d bytes", path, maxFile)
	}
	return data, err
}

// check holds records to their rules, and gives those an id that have none.
func check(records []auth.KeyRecord) error {
	seen := make(map[string]struct{}, len(records))
	for i := range records {
		r := &records[i]
		if r.ID == "" {
			r.ID = r.Digest.KeyID()
		}
		if err := r.Validate(); err != nil {
			return err
		}
		if _, twice := seen[r.ID]; twice {
			return fmt.Errorf("key %q is there twice", r.ID)
		}
		seen[r.ID] = struct{}{}
	}
	return nil
}
