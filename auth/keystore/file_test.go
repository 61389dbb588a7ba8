package keystore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// decodeLines and encodeLines stand for the notation of the file: a digest and a JSON record on each line.
func decodeLines(data []byte) (records []auth.KeyRecord, err error) {
	for line := range strings.Lines(string(data)) {
		digest, text, _ := strings.Cut(line, " ")
		d, err := auth.ParseDigest(digest)
		if err != nil {
			return nil, err
		}
		r, err := decodeRecord(d, []byte(text))
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

func encodeLines(records []auth.KeyRecord) ([]byte, error) {
	var b strings.Builder
	for _, r := range records {
		text, err := encodeRecord(&r)
		if err != nil {
			return nil, err
		}
		b.WriteString(r.Digest.String() + " " + string(text) + "\n")
	}
	return []byte(b.String()), nil
}

func newFile(t testing.TB, path string) *File {
	t.Helper()
	f, err := NewFile(FileConfig{Path: path, Decode: decodeLines, Encode: encodeLines})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestFileIsReloaded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	gateway, tool := newFile(t, path), newFile(t, path)
	want := func(intent, key string, want error) {
		t.Helper()
		if err := gateway.Reload(); err != nil {
			t.Fatal(err)
		}
		if err := look(gateway, key, time.Now(), want); err != nil {
			t.Errorf("%s: %v", intent, err)
		}
	}
	want("a missing file is an empty store", "a", auth.ErrInvalid)
	put(t, tool, "a", "b")
	holds(t, gateway, "a", auth.ErrInvalid)
	holds(t, tool, "a", nil)
	want("a new key", "a", nil)
	disable(t, tool, "a", true)
	want("a disabled key", "a", auth.ErrInvalid)
	want("its neighbour", "b", nil)
	disable(t, tool, "a", false)
	want("an enabled key", "a", nil)
	if err := tool.Delete(t.Context(), record("a").ID); err != nil {
		t.Fatal(err)
	}
	want("a removed key", "a", auth.ErrInvalid)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	want("a removed file", "b", auth.ErrInvalid)
}

func TestBadFileChangesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	f := newFile(t, path)
	put(t, f, "a")
	good, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ intent, text string }{
		{"garbage", "x"},
		{"a key twice", string(good) + string(good)},
		{"an id of another key", strings.Replace(string(good), record("a").ID, record("b").ID, 1)},
		{"half a record", string(good[:len(good)-9])},
	} {
		if err := os.WriteFile(path, []byte(row.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := f.Reload(); err == nil {
			t.Errorf("%s is accepted", row.intent)
		}
		holds(t, f, "a", nil)
		if err := f.Put(t.Context(), record("c")); err == nil {
			t.Errorf("%s is written over", row.intent)
		}
		if text, _ := os.ReadFile(path); string(text) != row.text {
			t.Errorf("%s: the file changed to %q", row.intent, text)
		}
		if _, err := NewFile(f.config); err == nil {
			t.Errorf("a gateway starts with %s", row.intent)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.Reload(); err == nil {
		t.Error("a folder is accepted")
	}
	holds(t, f, "a", nil)
}

func TestFileWithoutIDs(t *testing.T) {
	r := record("a")
	r.ID = ""
	path := filepath.Join(t.TempDir(), "keys")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := NewFile(FileConfig{Path: path, Decode: func([]byte) ([]auth.KeyRecord, error) { return []auth.KeyRecord{r}, nil }})
	if err != nil {
		t.Fatal(err)
	}
	if p, err := f.Lookup(t.Context(), r.Digest, time.Now()); err != nil || p.Credential != r.Digest.KeyID() {
		t.Errorf("got %+v, %v; want the id that the digest makes", p, err)
	}
	if err := f.Put(t.Context(), record("b")); err == nil {
		t.Error("a store without Encode was written")
	}
}

func TestFileExpiry(t *testing.T) {
	f := newFile(t, filepath.Join(t.TempDir(), "keys"))
	r := record("a")
	r.Expires = r.Created.Add(time.Hour)
	if err := f.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if err := look(f, "a", r.Expires.Add(-time.Nanosecond), nil); err != nil {
		t.Error(err)
	}
	if err := look(f, "a", r.Expires, auth.ErrInvalid); err != nil {
		t.Error(err)
	}
}

func TestFileIsPrivateAndReplacedWhole(t *testing.T) {
	folder := t.TempDir()
	path, link := filepath.Join(folder, "real"), filepath.Join(folder, "link")
	put(t, newFile(t, path), "a")
	wantMode(t, path, 0o600)
	if err := os.Symlink("real", link); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	open, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	before, _ := open.Stat()
	put(t, newFile(t, link), "b")
	wantMode(t, path, 0o640)
	if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link became %v, %v", info, err)
	}
	if after, _ := open.Stat(); after.Size() != before.Size() {
		t.Error("the old file was written into: a reader could see half of it")
	}
	holds(t, newFile(t, path), "b", nil)
	var names []string
	entries, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	if !slices.Equal(names, []string{"link", "real", "real.lock"}) {
		t.Errorf("the folder has %q: something was left behind", names)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := newFile(t, link).Put(t.Context(), record("a")); err == nil {
		t.Error("a link to nothing was written to")
	}
}

func wantMode(t *testing.T, path string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != want {
		t.Errorf("mode of %s is %v, %v; want %v", path, info.Mode(), err, want)
	}
}

func TestWriterWaitsForItsTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "keys")
	f := newFile(t, path)
	unlock, err := lock(t.Context(), path+".lock")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*lockRetry)
	defer cancel()
	if err := f.Put(ctx, record("a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second writer: %v", err)
	}
	unlock()
	put(t, f, "a")
}
