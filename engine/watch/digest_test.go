package watch

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// What is not a file of bytes is not read: a device never ends, and a pipe may never begin.
func TestIrregularFilesAreNotRead(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := unix.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "zero")
	if err := os.Symlink("/dev/zero", link); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, link, t.TempDir()} {
		if _, err := digest(path); err == nil {
			t.Errorf("%s was read", path)
		}
	}
}
