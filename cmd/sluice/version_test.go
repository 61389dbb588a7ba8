package main

import (
	"strings"
	"testing"
)

func TestPrintVersion(t *testing.T) {
	tests := []struct {
		intent   string
		settings map[string]string
		want     string // behind the two lines that every build has
	}{
		{"a build without its source's history", nil, ""},
		{"a build of a commit", map[string]string{"vcs.revision": "abc", "vcs.time": "2026-01-02T03:04:05Z", "vcs.modified": "false"},
			"commit abc of 2026-01-02T03:04:05Z\n"},
		{"a build of what is not committed", map[string]string{"vcs.revision": "abc", "vcs.time": "2026-01-02T03:04:05Z", "vcs.modified": "true"},
			"commit abc of 2026-01-02T03:04:05Z, and changes\n"},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			var out strings.Builder
			if err := printVersion(&out, "v1.2.3", test.settings); err != nil {
				t.Fatal(err)
			}
			lines := strings.SplitAfterN(out.String(), "\n", 3)
			if lines[0] != "sluice v1.2.3\n" || !strings.HasPrefix(lines[1], "go") || lines[2] != test.want {
				t.Errorf("got %q", lines)
			}
		})
	}
}
