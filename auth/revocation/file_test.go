package revocation

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/auth"
)

// opened is a File that a test has opened, and what it reported.
type opened struct {
	*File
	reports
}

func open(t testing.TB, path string, now time.Time) *opened {
	t.Helper()
	o := &opened{}
	var err error
	o.File, err = OpenFile(FileConfig{Path: path, List: New(Config{}), Report: o.reports.add}, now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func (o *opened) revoke(t testing.TB, id string) {
	t.Helper()
	must(t, o.Add(context.Background(), Entry{Kind: Token, ID: id, Expires: at(60)}, at(0)))
}

func (o *opened) knows(id string) bool {
	return o.list.Revoked(&auth.Principal{Method: "jwt:main", Client: "c", Credential: id}, at(0))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func logPath(t testing.TB) string { return filepath.Join(t.TempDir(), "revoked.log") }

func read(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

func TestLinesAreExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEntry(t)
		line := appendLine(nil, e)
		if len(line) > maxLine || bytes.Count(line, []byte("\n")) != 1 {
			t.Fatalf("a line of %d bytes with %d ends", len(line), bytes.Count(line, []byte("\n")))
		}
		line = line[:len(line)-1]
		if got, err := parseLine(line); err != nil || got != e {
			t.Fatalf("%q is read as %+v, %v; want %+v", line, got, err, e)
		}
		i := rapid.IntRange(0, len(line)-1).Draw(t, "at")
		line[i] ^= byte(rapid.IntRange(1, 255).Draw(t, "flip"))
		if got, err := parseLine(line); err == nil {
			t.Fatalf("with a byte changed, %q is read as %+v", line, got)
		}
	})
}

func FuzzParseLine(f *testing.F) {
	f.Add(string(appendLine(nil, Entry{Kind: Token, ID: "id", Issuer: "jwt:main", Before: at(0), Expires: at(1), Created: at(0)})))
	f.Add(string(appendLine(nil, Entry{Kind: Client, ID: "a \"b\"\x00é", Expires: at(1)})))
	f.Fuzz(func(t *testing.T, line string) {
		line = strings.TrimSuffix(line, "\n")
		for _, line := range []string{line, fmt.Sprintf("%s %s", checksum([]byte(line)), line)} {
			if e, err := parseLine([]byte(line)); err == nil {
				if again := string(appendLine(nil, e)); again != line+"\n" {
					t.Fatalf("%q is read as what is written as %q", line, again)
				}
			}
		}
	})
}

func TestFileSurvives(t *testing.T) {
	path := logPath(t)
	first := open(t, path, at(0))
	entries := []Entry{
		{Kind: Token, ID: "t", Issuer: "jwt:main", Expires: at(60)},
		{Kind: Subject, ID: "line\nend \"quoted\" \x00 é", Before: at(0).Add(123), Expires: at(60)},
		{Kind: Client, ID: "c", Expires: at(5)},
		{Kind: Key, ID: "k", Expires: at(60), Created: at(-7)},
	}
	for _, e := range entries {
		must(t, first.Add(t.Context(), e, at(0)))
		must(t, first.Add(t.Context(), e, at(1))) // again: not a line more
	}
	if n := bytes.Count(read(t, path), []byte("\n")); n != len(entries) {
		t.Errorf("%d lines for %d entries", n, len(entries))
	}
	must(t, first.Close())
	again := open(t, path, at(1))
	if got, want := sorted(again.list, at(1)), sorted(first.list, at(1)); got != want || again.list.Len() != len(entries) {
		t.Errorf("read again:\n%s\nwant\n%s", got, want)
	}
	must(t, again.Close())
	if later := open(t, path, at(6)); later.list.Len() != len(entries)-1 {
		t.Errorf("%d entries when one has ended, want %d", later.list.Len(), len(entries)-1)
	}
	info, err := os.Stat(path)
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("the log has mode %v, want 0600", info.Mode())
	}
	if n := bytes.Count(read(t, path), []byte("\n")); n != len(entries)-1 {
		t.Errorf("%d lines after it was opened with an ended one, want %d", n, len(entries)-1)
	}
}

// TestTwoOpeners shares a log as the old and the new process of an upgrade do.
func TestTwoOpeners(t *testing.T) {
	path := logPath(t)
	a, b := open(t, path, at(0)), open(t, path, at(0))
	for i := range 50 {
		a.revoke(t, fmt.Sprint("a", i))
		b.revoke(t, fmt.Sprint("b", i))
	}
	if !b.knows("a49") {
		t.Error("who appends has not read what was there")
	}
	must(t, a.Poll(at(0)))
	if !a.knows("b49") {
		t.Error("Poll has not read what was added")
	}
	must(t, b.tidyNow(at(0)))
	a.revoke(t, "to the replaced log")
	must(t, b.Poll(at(0)))
	must(t, a.Poll(at(0)))
	for _, o := range []*opened{a, b} {
		if o.list.Len() != 101 || !o.knows("to the replaced log") {
			t.Errorf("%d entries, want 101", o.list.Len())
		}
	}
	must(t, a.Close())
	must(t, b.Close())
	if c := open(t, path, at(0)); c.list.Len() != 101 || len(c.all()) > 0 {
		t.Errorf("%d entries in the log, want 101; reported %v", c.list.Len(), c.all())
	}
}

// tidyNow rewrites the log, whether it is worth it or not.
func (o *opened) tidyNow(now time.Time) error {
	o.turn <- struct{}{}
	defer func() { <-o.turn }()
	if err := o.log.hold(now); err != nil {
		return err
	}
	defer o.log.release()
	return o.log.rewrite(now)
}

// TestManyOpenersLoseNothing has several add, at the same time, while others rewrite the log.
func TestManyOpenersLoseNothing(t *testing.T) {
	const openers, writers, each = 3, 4, 25
	path := logPath(t)
	var adding sync.WaitGroup
	for n := range openers {
		o := open(t, path, at(0))
		for w := range writers {
			adding.Go(func() {
				for i := range each {
					if err := o.Add(t.Context(), Entry{Kind: Token, ID: fmt.Sprint(n, w, i), Expires: at(60)}, at(0)); err != nil {
						t.Error(err)
					}
				}
			})
		}
		adding.Go(func() {
			for range 5 {
				if err := errors.Join(o.tidyNow(at(0)), o.Poll(at(0))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	adding.Wait()
	if o := open(t, path, at(0)); o.list.Len() != openers*writers*each || len(o.all()) > 0 {
		t.Errorf("%d entries, want %d; reported %v", o.list.Len(), openers*writers*each, o.all())
	}
}

func TestFileRunsFollowsOthers(t *testing.T) {
	path := logPath(t)
	o, err := OpenFile(FileConfig{Path: path, List: New(Config{})}, time.Now())
	must(t, err)
	runs(t, o)
	changed := o.list.Changed()
	other, err := OpenFile(FileConfig{Path: path, List: New(Config{})}, time.Now())
	must(t, err)
	start := time.Now()
	must(t, other.Add(t.Context(), token("x"), time.Now()))
	must(t, other.Close())
	select {
	case <-changed:
		if took := time.Since(start); took > soon {
			t.Errorf("it took %s", took)
		}
	case <-time.After(tardy):
		t.Fatal("it never came")
	}
	if err := other.Add(t.Context(), token("y"), time.Now()); !errors.Is(err, ErrClosed) {
		t.Errorf("Add after Close: %v, want %v", err, ErrClosed)
	}
}

func TestTidy(t *testing.T) {
	path := logPath(t)
	var b []byte
	for i := range 3 * spare {
		b = appendLine(b, Entry{Kind: Token, ID: fmt.Sprint(i), Expires: at(1 + i%16)})
	}
	must(t, os.WriteFile(path, b, 0o600))
	o := open(t, path, at(0))
	must(t, o.tidy(at(0)))
	if n := bytes.Count(read(t, path), []byte("\n")); n != 3*spare {
		t.Errorf("%d lines while all are alive, want %d", n, 3*spare)
	}
	o.list.Expire(at(9)) // a little more than half
	must(t, o.tidy(at(9)))
	if n := bytes.Count(read(t, path), []byte("\n")); n != 3*spare {
		t.Errorf("%d lines when a rewrite is not worth it, want %d", n, 3*spare)
	}
	o.list.Expire(at(16))
	must(t, o.tidy(at(16)))
	if n := bytes.Count(read(t, path), []byte("\n")); n != 0 {
		t.Errorf("%d lines when all have ended, want none", n)
	}
}

func TestFullListIsReportedAndTheLogKept(t *testing.T) {
	path := logPath(t)
	o := open(t, path, at(0))
	for i := range 20 {
		o.revoke(t, fmt.Sprint(i))
	}
	must(t, o.Close())
	content := read(t, path)
	var r reports
	small, err := OpenFile(FileConfig{Path: path, List: New(Config{MaxEntries: 10}), Report: r.add}, at(0))
	must(t, err)
	defer small.Close()
	if errs := r.all(); len(errs) != 10 || !errors.Is(errs[0], ErrFull) {
		t.Errorf("reported %v, want the ten that have no room", errs)
	}
	if err := small.Add(t.Context(), Entry{Kind: Token, ID: "more", Expires: at(60)}, at(0)); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v, want %v", err, ErrFull)
	}
	if !bytes.HasPrefix(read(t, path), content) {
		t.Error("the log was rewritten without the entries that had no room")
	}
}

func BenchmarkOpenFile(b *testing.B) {
	const n = 100_000
	var lines []byte
	for i := range n {
		lines = appendLine(lines, Entry{Kind: Token, ID: fmt.Sprintf("%036d", i), Expires: at(60), Created: at(0)})
	}
	path := logPath(b)
	must(b, os.WriteFile(path, lines, 0o600))
	for b.Loop() {
		o, err := OpenFile(FileConfig{Path: path, List: New(Config{})}, at(0))
		must(b, err)
		must(b, o.Close())
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/n, "ns/line")
}

func BenchmarkFileAddParallel(b *testing.B) {
	o := open(b, logPath(b), at(0))
	var mu sync.Mutex
	next := 0
	b.SetParallelism(50)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			mu.Lock()
			next++
			id := fmt.Sprint(next)
			mu.Unlock()
			must(b, o.Add(b.Context(), Entry{Kind: Token, ID: id, Expires: at(60)}, at(0)))
		}
	})
}
