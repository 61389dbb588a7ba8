package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	fileLines     = 400 // a file has fewer
	functionLines = 60  // a function has no more
)

// allowedVariables are the package-level variables beside sentinels, embedded files and literal tables.
func allowedVariables() map[string]string {
	return map[string]string{
		"main.version":       "the linker sets it",
		"router.pathClasses": "a constant table of all bytes, shorter to compute than to write",
	}
}

// judgeFiles tells what is wrong with the files of a package, tests aside.
func judgeFiles(t *testing.T, p listed) (faults []string) {
	t.Helper()
	for _, name := range p.GoFiles {
		name = filepath.Join(p.Dir, name)
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found, err := judgeSource(p.ImportPath+"/"+filepath.Base(name), source)
		if err != nil {
			t.Fatal(err)
		}
		faults = append(faults, found...)
	}
	return faults
}

// judgeSource tells what is wrong with one file. Its name begins with the import path.
func judgeSource(name string, source []byte) (faults []string, err error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, source, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	fault := func(at ast.Node, format string, args ...any) {
		faults = append(faults, fmt.Sprintf("%s: %s", files.Position(at.Pos()), fmt.Sprintf(format, args...)))
	}
	if n := bytes.Count(source, []byte("\n")); n >= fileLines {
		fault(file, "%d lines: a file has fewer than %d", n, fileLines)
	}
	for _, d := range file.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil && d.Name.Name == "init" {
				fault(d, "func init runs before anyone asked for it")
			}
			if n := files.Position(d.End()).Line - files.Position(d.Pos()).Line + 1; n > functionLines {
				fault(d, "%s has %d lines: at most %d", d.Name.Name, n, functionLines)
			}
		case *ast.GenDecl:
			for _, v := range variables(d) {
				if allowedVariables()[file.Name.Name+"."+v.Name] == "" {
					fault(v, "%s is a package-level variable: state has an owner", v.Name)
				}
			}
		}
	}
	command := strings.HasPrefix(name, ours+"/cmd/sluice/") || strings.HasPrefix(name, ours+"/bench/")
	if !command || file.Name.Name != "main" {
		ast.Inspect(file, func(n ast.Node) bool {
			if s, ok := n.(*ast.SelectorExpr); ok && isSelector(s, "os", "Exit") {
				fault(s, "os.Exit belongs to the command: it skips what others deferred")
			}
			return true
		})
	}
	return faults, nil
}

// variables are those that a declaration makes, less what cannot be state: sentinels, embedded files,
// tables and assertions of the compiler.
func variables(d *ast.GenDecl) (names []*ast.Ident) {
	if d.Tok != token.VAR {
		return nil
	}
	for _, s := range d.Specs {
		spec := s.(*ast.ValueSpec)
		if embeds(d.Doc) || embeds(spec.Doc) {
			continue
		}
		for i, name := range spec.Names {
			if name.Name != "_" && (i >= len(spec.Values) || !isConstant(spec.Values[i])) {
				names = append(names, name)
			}
		}
	}
	return names
}

func embeds(doc *ast.CommentGroup) bool {
	return doc != nil && slices.ContainsFunc(doc.List, func(c *ast.Comment) bool { return strings.HasPrefix(c.Text, "//go:embed ") })
}

func isConstant(value ast.Expr) bool {
	switch v := value.(type) {
	case *ast.CallExpr:
		s, ok := v.Fun.(*ast.SelectorExpr)
		return ok && isSelector(s, "errors", "New")
	case *ast.CompositeLit:
		switch v.Type.(type) {
		case *ast.ArrayType, *ast.MapType:
			return true
		}
	}
	return false
}

func isSelector(s *ast.SelectorExpr, x, name string) bool {
	id, ok := s.X.(*ast.Ident)
	return ok && id.Name == x && s.Sel.Name == name
}

// TestHouseHoldsTheBench holds the comparisons with other software, a module of their own, to the same laws.
func TestHouseHoldsTheBench(t *testing.T) {
	var sources []string
	for _, pattern := range []string{"versus/*.go", "versus/*/*.go"} {
		found, err := filepath.Glob(filepath.Join("..", "..", "bench", pattern))
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, found...)
	}
	judged := 0
	for _, name := range sources {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		source, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		faults, err := judgeSource(ours+strings.TrimPrefix(filepath.ToSlash(name), "../.."), source)
		if err != nil {
			t.Fatal(err)
		}
		for _, fault := range faults {
			t.Error(fault)
		}
		judged++
	}
	if judged < 10 {
		t.Errorf("judged %d files only", judged)
	}
}

func TestHouseSeesBrokenSource(t *testing.T) {
	cases := []struct {
		source string
		want   string // in the fault; empty: none
		intent string
	}{
		{"var ErrA = errors.New(`a`)", "", "a sentinel"},
		{"var table = [...]int{1, 2}", "", "a table"},
		{"var names = map[string]int{}", "", "a table by name"},
		{"//go:embed page.html\nvar page string", "", "an embedded file"},
		{"var _ error = fault{}", "", "an assertion of the compiler"},
		{"var count int", "count is a package-level variable", "state without an owner"},
		{"var cache = newCache()", "cache is a package-level variable", "built before main"},
		{"var a, b = errors.New(`a`), 1", "b is a package-level variable", "the second of two"},
		{"var (\n\tpool sync.Pool\n)", "pool is a package-level variable", "in a group"},
		{"func init() {}", "func init", "code before main"},
		{"func (x T) init() {}", "", "a method of that name is called by someone"},
		{"func f() { os.Exit(1) }", "os.Exit", "an exit out of reach of defer"},
		{"func f() { exit := os.Exit; exit(1) }", "os.Exit", "the same, kept in a variable"},
		{"func f() {\n" + strings.Repeat("\tg()\n", functionLines-2) + "}", "", "the longest function"},
		{"func f() {\n" + strings.Repeat("\tg()\n", functionLines-1) + "}", "f has 61 lines", "one line too long"},
		{strings.Repeat("//\n", fileLines), "a file has fewer", "a long file"},
	}
	for _, c := range cases {
		faults, err := judgeSource(ours+"/engine/x.go", []byte("package engine\n"+c.source+"\n"))
		if err != nil {
			t.Fatalf("%s: %v", c.intent, err)
		}
		if c.want == "" && len(faults) > 0 || c.want != "" && !strings.Contains(strings.Join(faults, "\n"), c.want) {
			t.Errorf("%s: want %q, have %q", c.intent, c.want, faults)
		}
	}
}
