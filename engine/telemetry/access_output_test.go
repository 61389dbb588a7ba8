package telemetry

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// gate is an output that takes nothing until it is opened.
type gate struct {
	memory
	open chan struct{}
}

func (g *gate) Write(p []byte) (int, error) {
	<-g.open
	return g.memory.Write(p)
}

// While its output stalls, a log takes what there is room for and drops the rest, and nobody waits. It says so, once
// when it begins and once when it is over; and no line is cut.
func TestAccessStall(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	l, told, stop := startAccess(t, &AccessOutput{Writer: out}, 1)
	r := fullRecord()
	n := uint64(0)
	for ; ; n++ { // returns at once, each time: this test's time is up otherwise
		l.Write(r)
		if _, dropped := l.Counts(); dropped >= 1000 {
			n++
			break
		}
	}
	eventually(t, func() bool { return len(told.list()) == 1 && told.list()[0].Stalled })
	close(out.open)
	eventually(t, func() bool { return len(told.list()) == 2 && !told.list()[1].Stalled })
	l.Write(r)
	n++
	stop()
	written, dropped := l.Counts()
	lines := out.lines()
	if written+dropped != n || uint64(len(lines)) != written {
		t.Errorf("of %d lines %d were written, %d dropped, and %d are there", n, written, dropped, len(lines))
	}
	if room := uint64(mostChunks * chunkSize); written*uint64(len(lines[0])) > room+chunkSize+uint64(len(lines[0])) {
		t.Errorf("%d lines of %d bytes were kept in %d", written, len(lines[0]), room)
	}
	for _, line := range lines {
		if line != lines[0] {
			t.Fatalf("a line was cut: %q", line)
		}
	}
}

// The end does not wait for ever for an output that has stalled.
func TestAccessEndsAlthoughStalled(t *testing.T) {
	out := &gate{open: make(chan struct{})}
	l, _, stop := startAccess(t, &AccessOutput{Writer: out}, 1)
	l.Write(fullRecord())
	stop()
	close(out.open)
}

// disk is an output that becomes full, in the middle of a line, and has room again later.
type disk struct {
	memory
	room int
}

func (d *disk) Write(p []byte) (int, error) {
	d.mu.Lock()
	n := min(len(p), d.room)
	d.room -= n
	d.mu.Unlock()
	_, _ = d.memory.Write(p[:n])
	if n < len(p) {
		return n, errors.New("no space left on device")
	}
	return n, nil
}

func (d *disk) empty() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = 1 << 30
}

// A full disk costs lines, and no line is cut: the rest of the one that was follows when there is room.
func TestAccessDiskFull(t *testing.T) {
	r := fullRecord()
	for _, room := range []int{0, 1, 500, 1000, 3333} {
		out := &disk{room: room}
		l, told, stop := startAccess(t, &AccessOutput{Writer: out}, 1)
		const n = 20
		for range n {
			l.Write(r)
		}
		eventually(t, func() bool { return len(told.list()) == 1 && told.list()[0].Err != nil })
		out.empty()
		l.Write(r)
		eventually(t, func() bool { return len(told.list()) == 2 && told.list()[1].Err == nil })
		stop()
		lines := out.lines()
		written, dropped := l.Counts()
		if written+dropped != n+1 || uint64(len(lines)) != written || dropped == 0 {
			t.Errorf("room for %d: %d written, %d dropped, %d are there", room, written, dropped, len(lines))
		}
		for _, line := range lines {
			if line != lines[len(lines)-1] {
				t.Errorf("room for %d: a line was cut: %q", room, line)
			}
		}
	}
}

func openAccess(t testing.TB, path string) *AccessOutput {
	t.Helper()
	out, err := OpenAccessOutput(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func readLines(t testing.TB, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return splitLines(string(text))
}

// A file that is renamed under load and opened again: every line is in one of the two, whole.
func TestAccessReopen(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	l, told, stop := startAccess(t, openAccess(t, path), 1)
	r := fullRecord()
	const n = 4000
	for i := range n {
		l.Write(r)
		if i == n/2 {
			if err := os.Rename(path, path+".1"); err != nil {
				t.Fatal(err)
			}
			l.Reopen()
			eventually(t, func() bool { _, err := os.Stat(path); return err == nil })
		}
	}
	stop()
	first, second := readLines(t, path+".1"), readLines(t, path)
	if len(first) == 0 || len(second) == 0 || len(first)+len(second) != n {
		t.Errorf("%d and %d lines of %d", len(first), len(second), n)
	}
	for _, line := range append(first, second...) {
		if line != first[0] {
			t.Fatalf("a line was cut: %q", line)
		}
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o027 != 0 {
		t.Errorf("the file's mode: %v %v", info.Mode(), err)
	}
	if len(told.list()) > 0 {
		t.Errorf("reported %v", told.list())
	}
}

// A file that cannot be opened again is reported, and the old one stays.
func TestAccessReopenFails(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "access.log")
	l, told, stop := startAccess(t, openAccess(t, path), 1)
	if err := os.Rename(dir, dir+".moved"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	eventually(t, func() bool { return len(told.list()) == 1 && told.list()[0].Err != nil })
	l.Write(fullRecord())
	stop()
	if n := len(readLines(t, filepath.Join(dir+".moved", "access.log"))); n != 1 {
		t.Errorf("%d lines", n)
	}
}

// Switching from one output to another, off, and on again loses nothing that was logged for one.
func TestAccessSwitch(t *testing.T) {
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	l, _, stop := startAccess(t, openAccess(t, a), 1)
	r := fullRecord()
	for _, next := range []string{b, "off", a, "off", b} {
		l.Write(r)
		out, err := OpenAccessOutput(next, nil)
		if err != nil {
			t.Fatal(err)
		}
		l.Switch(out, 1)
		eventually(t, func() bool { return l.next.Load() == nil && len(l.ordered) == 0 })
	}
	l.Write(r)
	stop()
	if n, m := len(readLines(t, a)), len(readLines(t, b)); n != 2 || m != 2 {
		t.Errorf("%d lines and %d, want 2 and 2", n, m)
	}
	if written, dropped := l.Counts(); written != 4 || dropped != 0 {
		t.Errorf("%d written, %d dropped", written, dropped)
	}
}

func TestAccessOutputs(t *testing.T) {
	if _, err := OpenAccessOutput(filepath.Join(t.TempDir(), "no", "such"), nil); err == nil {
		t.Error("a file in a folder that is not there")
	}
	out := &memory{}
	if o, err := OpenAccessOutput("stdout", out); err != nil || o.Writer != out || o.Close() != nil {
		t.Error("standard output")
	}
}

// A log can be moved away from a pipe that nobody reads any more.
func TestAccessLeavesAStalledPipe(t *testing.T) {
	folder := t.TempDir()
	pipe, file := filepath.Join(folder, "pipe"), filepath.Join(folder, "file")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := os.OpenFile(pipe, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	l, told, stop := startAccess(t, openAccess(t, pipe), 1)
	r := fullRecord()
	for {
		if _, dropped := l.Counts(); dropped > 0 {
			break
		}
		l.Write(r)
	}
	eventually(t, func() bool { return len(told.list()) > 0 && told.list()[0].Stalled })
	l.Switch(openAccess(t, file), 1)
	eventually(t, func() bool { return l.next.Load() == nil })
	before, _ := l.Counts()
	l.Write(r)
	stop()
	text, err := os.ReadFile(file)
	if after, _ := l.Counts(); err != nil || after != before+1 || len(splitLines(string(text))) != 1 {
		t.Errorf("%d lines were written of one, and the file has %.300q, %v", after-before, text, err)
	}
}
