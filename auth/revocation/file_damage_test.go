package revocation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestCrashAnywhere cuts the log after every byte of its last two lines, as a crash may while they are written.
func TestCrashAnywhere(t *testing.T) {
	path := logPath(t)
	whole := open(t, path, at(0))
	for i := range 5 {
		whole.revoke(t, fmt.Sprint(i))
	}
	must(t, whole.Close())
	content := read(t, path)
	ends := []int{0}
	for i, c := range content {
		if c == '\n' {
			ends = append(ends, i+1)
		}
	}
	for cut := ends[3]; cut <= len(content); cut++ {
		path := logPath(t)
		must(t, os.WriteFile(path, content[:cut], 0o600))
		o := open(t, path, at(0))
		kept, torn := 0, true
		for i := range 5 { // a line counts when all but its end is there
			if cut >= ends[i+1]-1 {
				kept++
			}
			torn = torn && cut != ends[i+1] && cut != ends[i+1]-1
		}
		for i := range 5 {
			if got := o.knows(fmt.Sprint(i)); got != (i < kept) {
				t.Fatalf("cut after %d of %d bytes: entry %d is in force: %v", cut, len(content), i, got)
			}
		}
		if reported := len(o.all()); (reported == 1) != torn || reported > 1 {
			t.Fatalf("cut after %d bytes: reported %v, want it told %v", cut, o.all(), torn)
		}
		o.revoke(t, "next")
		must(t, o.Close())
		again := open(t, path, at(0))
		if again.list.Len() != kept+1 || !again.knows("next") || len(again.all()) != 0 {
			t.Fatalf("cut after %d bytes and gone on: %d entries, want %d, reported %v", cut, again.list.Len(), kept+1, again.all())
		}
		must(t, again.Close())
	}
}

func TestWrongLinesAreSkipped(t *testing.T) {
	line := func(id string) string { return string(appendLine(nil, Entry{Kind: Token, ID: id, Expires: at(60)})) }
	signed := func(text string) string { return fmt.Sprintf("%s %s\n", checksum([]byte(text)), text) }
	tests := []struct {
		intent string
		wrong  string
	}{
		{"empty", "\n"},
		{"text", "hello\n"},
		{"zeroes, as a crash of the machine may leave", strings.Repeat("\x00", 500) + "\n"},
		{"a bit has changed", strings.Replace(line("x"), "token", "tokem", 1)},
		{"its beginning is lost", line("x")[3:]},
		{"far too long", strings.Repeat("x", 5*maxLine) + "\n"},
		{"just too long", strings.Repeat("x", maxLine) + "\n"},
		{"a kind of the future", signed(`device 2026-11-23T13:00:00Z - - "x" ""`)},
		{"no end", signed(`token - - - "x" ""`)},
		{"a time that is none", signed(`token soon - - "x" ""`)},
		{"written in another way", signed(`token 2026-11-23T13:00:00.000Z - - "x" ""`)},
		{"no issuer", signed(`token 2026-11-23T13:00:00Z - - "x"`)},
		{"more than an issuer", signed(`token 2026-11-23T13:00:00Z - - "x" "" ""`)},
		{"no quotes", signed(`token 2026-11-23T13:00:00Z - - x y`)},
		{"an id that is not text", signed(`token 2026-11-23T13:00:00Z - - "\xff" ""`)},
		{"in force for too long", string(appendLine(nil, Entry{Kind: Token, ID: "x", Expires: epoch().Add(2 * MaxLife)}))},
	}
	for _, test := range tests {
		path := logPath(t)
		content := line("a") + test.wrong + line("b")
		must(t, os.WriteFile(path, []byte(content), 0o600))
		o := open(t, path, at(0))
		if !o.knows("a") || !o.knows("b") || o.list.Len() != 2 {
			t.Errorf("%s: %d entries, want those before and after it", test.intent, o.list.Len())
		}
		if errs := o.all(); len(errs) != 1 || !strings.Contains(errs[0].Error(), "line 2 of") {
			t.Errorf("%s: reported %v, want line 2", test.intent, errs)
		}
		if o.log.bad > 0 {
			t.Errorf("%s: %d wrong lines left after a rewrite", test.intent, o.log.bad)
		}
		if kept, err := os.ReadFile(path + ".bad"); !o.log.partial && (err != nil || string(kept) != content) {
			t.Errorf("%s: the log as it was is not kept: %v", test.intent, err)
		}
		must(t, o.Close())
	}
}

func TestManyWrongLinesAreNotReportedOneByOne(t *testing.T) {
	path := logPath(t)
	must(t, os.WriteFile(path, []byte(strings.Repeat("wrong\n", 1000)), 0o600))
	o := open(t, path, at(0))
	if n := len(o.all()); n != maxReports+1 {
		t.Errorf("%d reports, want %d and their number", n, maxReports)
	}
}

func TestFileThatOthersDamage(t *testing.T) {
	tests := []struct {
		intent string
		damage func(path string) error
	}{
		{"removed", os.Remove},
		{"emptied", func(path string) error { return os.Truncate(path, 0) }},
		{"shortened in the middle of a line", func(path string) error { return os.Truncate(path, 150) }},
		{"replaced by another", func(path string) error {
			return errors.Join(os.WriteFile(path+".x", appendLine(nil, Entry{Kind: Token, ID: "theirs", Expires: at(60)}), 0o600), os.Rename(path+".x", path))
		}},
	}
	for _, test := range tests {
		path := logPath(t)
		o := open(t, path, at(0))
		for i := range 5 {
			o.revoke(t, fmt.Sprint(i))
		}
		must(t, test.damage(path))
		must(t, o.Poll(at(0)))
		o.revoke(t, "next")
		must(t, o.Close())
		again := open(t, path, at(0))
		for _, id := range []string{"0", "4", "next"} {
			if !again.knows(id) {
				t.Errorf("%s: %s is lost", test.intent, id)
			}
		}
		must(t, again.Close())
	}
}

func TestFileThatCannotBeWritten(t *testing.T) {
	path := logPath(t)
	o := open(t, path, at(0))
	o.revoke(t, "before")
	must(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+".away"))
	if err := o.Add(t.Context(), Entry{Kind: Token, ID: "lost", Expires: at(60)}, at(0)); err == nil || o.knows("lost") {
		t.Errorf("without a folder: %v, in force %v; want an error and not", err, o.knows("lost"))
	}
	if !o.knows("before") {
		t.Error("what was known is forgotten")
	}
	must(t, os.Rename(filepath.Dir(path)+".away", filepath.Dir(path)))
	o.revoke(t, "after")
	if _, err := OpenFile(FileConfig{Path: filepath.Join(path, "none"), List: New(Config{})}, at(0)); err == nil {
		t.Error("a log that cannot be made is opened")
	}
}

// TestDiskIsFull writes where the size of files is bounded: half a line comes to lie in the log.
func TestDiskIsFull(t *testing.T) {
	if path := os.Getenv("REVOCATION_FULL"); path != "" {
		o := open(t, path, at(0))
		for i := 0; ; i++ {
			if err := o.Add(t.Context(), Entry{Kind: Token, ID: fmt.Sprint(i), Expires: at(60)}, at(0)); err != nil {
				fmt.Println("STOPPED", i, o.knows(fmt.Sprint(i)))
				return
			}
		}
	}
	path := logPath(t)
	command := exec.Command("bash", "-c", `trap "" XFSZ; ulimit -f 4; exec "$0" -test.run '^TestDiskIsFull$'`, os.Args[0])
	command.Env = append(os.Environ(), "REVOCATION_FULL="+path)
	out, err := command.CombinedOutput()
	var stopped int
	var inForce bool
	_, line, _ := strings.Cut(string(out), "STOPPED ")
	if n, scanErr := fmt.Sscan(line, &stopped, &inForce); n != 2 || err != nil {
		t.Fatalf("%v, %v: %s", err, scanErr, out)
	}
	o := open(t, path, at(0))
	if stopped == 0 || inForce || o.list.Len() != stopped || len(o.all()) != 0 {
		t.Errorf("%d were acknowledged, %d are kept, the next is in force: %v; reported %v", stopped, o.list.Len(), inForce, o.all())
	}
}

// TestFileReportsOnceAndTheEnd loses the log's folder while Run looks at it.
func TestFileReportsOnceAndTheEnd(t *testing.T) {
	path := logPath(t)
	var r reports
	o, err := OpenFile(FileConfig{Path: path, List: New(Config{}), Report: r.add}, time.Now())
	must(t, err)
	runs(t, o)
	must(t, os.Rename(filepath.Dir(path), filepath.Dir(path)+".away"))
	eventually(t, "the loss is reported", func() bool { return len(r.all()) == 1 && errors.Is(r.all()[0], os.ErrNotExist) })
	must(t, os.Rename(filepath.Dir(path)+".away", filepath.Dir(path)))
	eventually(t, "its end is reported", func() bool { return len(r.all()) == 2 && r.all()[1] == nil })
	must(t, o.Add(context.Background(), token("after"), time.Now()))
}
