package config

import (
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const wantPrefix = "# want: "

// TestBadFiles holds every file in testdata/bad against the faults its first lines announce: these and no others.
func TestBadFiles(t *testing.T) {
	for _, path := range badFiles(t) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".toml"), func(t *testing.T) {
			data := readFile(t, path)
			want := announced(data)
			_, faults := Parse("gateway.toml", data, testEnvironment())
			var got []string
			for _, f := range faults {
				got = append(got, strings.TrimPrefix(f.String(), "gateway.toml:"))
			}
			if len(want) == 0 {
				t.Error("the file announces no fault")
			}
			if !slices.Equal(got, want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}

// TestEveryRuleHasABadFile reads the messages out of our own source, and wants each to be announced by a file.
func TestEveryRuleHasABadFile(t *testing.T) {
	var all []string
	for _, path := range badFiles(t) {
		all = append(all, announced(readFile(t, path))...)
	}
	text := strings.Join(all, "\n")
	for message, place := range messages(t) {
		if !messagePattern(message).MatchString(text) {
			t.Errorf("%s: no file in testdata/bad has %q", place, message)
		}
	}
}

func badFiles(t *testing.T) []string {
	paths, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no bad files: %v", err)
	}
	return paths
}

func announced(data []byte) []string {
	var want []string
	for line := range strings.Lines(string(data)) {
		if fault, ok := strings.CutPrefix(line, wantPrefix); ok {
			want = append(want, strings.TrimSuffix(fault, "\n"))
		}
	}
	return want
}

// messages finds the literals that this package makes faults of, and where they stand.
func messages(t *testing.T) map[string]string {
	sources, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]string)
	files := token.NewFileSet()
	for _, path := range sources {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				if message := messageOf(call); message != "" && message != "%s" && message != "no such file" {
					found[message] = files.Position(call.Pos()).String()
				}
			}
			return true
		})
	}
	return found
}

// messageOf gives the format of a call that makes a fault, or "".
func messageOf(call *ast.CallExpr) string {
	arguments := map[string]int{"fault": 1, "suggest": 2, "unless": 1, "New": 0, "Sprintf": 0}
	var name string
	switch f := call.Fun.(type) {
	case *ast.Ident:
		name = f.Name
	case *ast.SelectorExpr:
		name = f.Sel.Name
	}
	index, ok := arguments[name]
	if !ok || index >= len(call.Args) {
		return ""
	}
	literal, ok := call.Args[index].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return ""
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil || !strings.Contains(text, " ") || strings.HasPrefix(text, "BUG") {
		return ""
	}
	return text
}

func messagePattern(format string) *regexp.Regexp {
	return regexp.MustCompile(regexp.MustCompile(`%[a-z]`).ReplaceAllString(regexp.QuoteMeta(format), ".*"))
}

// testEnvironment has one variable and three files.
func testEnvironment() Environment {
	return Environment{
		LookupEnv: func(name string) (string, bool) {
			return canary, name == "CANARY"
		},
		ReadFile: func(path string) ([]byte, error) {
			switch path {
			case "canary.key":
				return []byte(canary + "\n"), nil
			case "cluster.key":
				return []byte(strings.Repeat("k", 32)), nil
			case "empty.key":
				return nil, nil
			}
			return nil, &os.PathError{Op: "open", Path: path, Err: errors.New("no such file or directory")}
		},
	}
}

// canary is a secret that must not turn up anywhere.
const canary = "canary-7f3a9c"

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
