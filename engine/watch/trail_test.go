package watch

import (
	"path/filepath"
	"slices"
	"testing"
)

func TestTrail(t *testing.T) {
	at, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	write(t, at, "real/file", "x")
	link(t, at, "real/file", "near")
	link(t, at, filepath.Join(at, "near"), "absolute")
	link(t, at, "real", "folder")
	link(t, at, "folder/../near", "up")
	link(t, at, "loop", "loop")
	link(t, at, "nowhere/file", "dangling")

	tests := []struct {
		intent string
		file   string
		want   []string
	}{
		{"a plain file is its own trail", "real/file", []string{"real/file"}},
		{"a missing file is waited for in its folder", "real/none", []string{"real/none"}},
		{"a missing folder is waited for in the one above", "none/deep/file", []string{"none"}},
		{"a link and what it points to", "near", []string{"near", "real/file"}},
		{"links to links, with absolute targets", "absolute", []string{"absolute", "near", "real/file"}},
		{"a folder that is a link", "folder/file", []string{"folder", "real/file"}},
		{"dots after a link are taken from its target", "up", []string{"up", "folder", "near", "real/file"}},
		{"a link to nothing", "dangling", []string{"dangling", "nowhere"}},
	}
	for _, test := range tests {
		var want []string
		for _, entry := range test.want {
			want = append(want, filepath.Join(at, entry))
		}
		if got := trail(filepath.Join(at, test.file)); !slices.Equal(got, want) {
			t.Errorf("%s: trail(%q) = %q, want %q", test.intent, test.file, got, want)
		}
	}
	if got := trail(filepath.Join(at, "loop")); len(got) > maxLinks+1 {
		t.Errorf("a link to itself gave %d entries, want an end after %d links", len(got), maxLinks)
	}
}
