package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestBadFiles: the rules that only compiling can judge, a file for each. Its first line is the place,
// the key and a part of the message of its only fault.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			first, _, _ := strings.Cut(string(text), "\n")
			want := strings.SplitN(strings.TrimPrefix(first, "# want: "), ": ", 3)
			faults := Check(file)
			if len(faults) != 1 {
				t.Fatalf("%d faults:\n%v", len(faults), faults)
			}
			f := faults[0]
			if place := fmt.Sprintf("%d:%d", f.Line, f.Column); place != want[0] || f.Key != want[1] || !strings.Contains(f.Message, want[2]) {
				t.Errorf("got  %s: %s: %s\nwant %s", place, f.Key, f.Message, strings.Join(want, ": "))
			}
		})
	}
}

// TestReadmeConfiguration: the first configuration that a newcomer copies is a good one.
func TestReadmeConfiguration(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```toml\n(.*?)```").FindAllSubmatch(readme, -1)
	if len(blocks) == 0 {
		t.Fatal("the README shows no configuration")
	}
	for _, b := range blocks {
		path := filepath.Join(t.TempDir(), "gateway.toml")
		if err := os.WriteFile(path, b[1], 0o600); err != nil {
			t.Fatal(err)
		}
		if faults := Check(path); len(faults) > 0 {
			t.Errorf("%v in\n%s", faults, b[1])
		}
	}
}
