package main

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"testing"
)

// What keeps a file, and a function, in one head.
const (
	mostFileLines     = 400
	mostFunctionLines = 60
)

// source is a package's files without its tests.
type source struct {
	*goPackage
	set   *token.FileSet
	files []*ast.File
}

func sources(t *testing.T) []*source {
	t.Helper()
	var all []*source
	for _, p := range goPackages(t) {
		s := &source{goPackage: p, set: token.NewFileSet()}
		for _, name := range p.GoFiles {
			f, err := parser.ParseFile(s.set, filepath.Join(p.Dir, name), nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			s.files = append(s.files, f)
		}
		all = append(all, s)
	}
	return all
}

// place is where a node is, as editors open it.
func (s *source) place(n ast.Node) string {
	at := s.set.Position(n.Pos())
	return filepath.Join(s.room(), filepath.Base(at.Filename)) + ":" + at.String()[len(at.Filename)+1:]
}

func (s *source) inspect(visit func(ast.Node)) {
	for _, f := range s.files {
		ast.Inspect(f, func(n ast.Node) bool {
			if n != nil {
				visit(n)
			}
			return true
		})
	}
}

func TestSizes(t *testing.T) {
	for _, s := range sources(t) {
		for _, f := range s.files {
			if lines := s.set.File(f.Pos()).LineCount(); lines > mostFileLines {
				t.Errorf("%s: %d lines in a file", s.place(f), lines)
			}
		}
		s.inspect(func(n ast.Node) {
			f, ok := n.(*ast.FuncDecl)
			if !ok {
				return
			}
			if lines := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1; lines > mostFunctionLines {
				t.Errorf("%s: %d lines in %s", s.place(f), lines, f.Name.Name)
			}
		})
	}
}

// TestEngineServesNothingByNetHTTP draws the line that an import cannot: the engine may ask net/http for
// a status's name, and for nothing that reads or writes a message.
func TestEngineServesNothingByNetHTTP(t *testing.T) {
	for _, s := range sources(t) {
		if s.room() != "engine" {
			continue
		}
		for used, at := range s.uses("net/http") {
			if used != "StatusText" {
				t.Errorf("%s uses http.%s", at, used)
			}
		}
	}
}

func TestOnlyMainExits(t *testing.T) {
	exits := map[string][]string{
		"os":  {"Exit"},
		"log": {"Fatal", "Fatalf", "Fatalln"},
	}
	for _, s := range sources(t) {
		if s.room() == "cmd/sluice" {
			s.files = slices.DeleteFunc(s.files, func(f *ast.File) bool {
				return filepath.Base(s.set.Position(f.Pos()).Filename) == "main.go"
			})
		}
		for path, names := range exits {
			for used, at := range s.uses(path) {
				if slices.Contains(names, used) {
					t.Errorf("%s ends the process by %s.%s: only main may", at, path, used)
				}
			}
		}
	}
}

// uses lists the names of an imported package that a package mentions, and where.
func (s *source) uses(path string) map[string]string {
	names := map[string]string{}
	for _, f := range s.files {
		local := importName(f, path)
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				if x, ok := sel.X.(*ast.Ident); ok && local != "" && x.Name == local {
					names[sel.Sel.Name] = s.place(sel)
				}
			}
			return true
		})
	}
	return names
}

// importName is what a file calls an import; empty: it has none.
func importName(f *ast.File, path string) string {
	for _, spec := range f.Imports {
		if spec.Path.Value != `"`+path+`"` {
			continue
		}
		if spec.Name != nil {
			return spec.Name.Name
		}
		return filepath.Base(path)
	}
	return ""
}

// TestNoGlobalState holds that packages keep nothing between calls. A variable of a package may be an
// error, a file that was embedded, or a constant that Go has no const for: an array. The last two must
// never be written to. main.version is the linker's.
func TestNoGlobalState(t *testing.T) {
	for _, s := range sources(t) {
		written := s.written()
		for _, f := range s.files {
			for _, d := range f.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
					t.Errorf("%s: func init", s.place(f))
				}
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.VAR {
					continue
				}
				for _, spec := range g.Specs {
					s.checkVariable(t, g, spec.(*ast.ValueSpec), written)
				}
			}
		}
	}
}

func (s *source) checkVariable(t *testing.T, g *ast.GenDecl, spec *ast.ValueSpec, written map[string]bool) {
	t.Helper()
	for i, name := range spec.Names {
		switch {
		case name.Name == "_":
		case s.room() == "cmd/sluice" && name.Name == "version":
		case isEmbedded(g) && !written[name.Name]:
		case i < len(spec.Values) && isCall(spec.Values[i], "errors", "New") && !written[name.Name]:
		case i < len(spec.Values) && s.isArray(spec.Values[i]) && !written[name.Name]:
		default:
			t.Errorf("%s: %s is state of the package", s.place(name), name.Name)
		}
	}
}

func isEmbedded(g *ast.GenDecl) bool {
	return g.Doc != nil && slices.ContainsFunc(g.Doc.List, func(c *ast.Comment) bool {
		return len(c.Text) > len("//go:embed ") && c.Text[:len("//go:embed ")] == "//go:embed "
	})
}

func isCall(e ast.Expr, pkg, name string) bool {
	call, ok := e.(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && x.Name == pkg && sel.Sel.Name == name
}

// isArray reports whether an expression is an array, written out or made by a function of the package.
// Slices and maps are none: whoever is given one could change it.
func (s *source) isArray(e ast.Expr) bool {
	var typ ast.Expr
	switch e := e.(type) {
	case *ast.CompositeLit:
		typ = e.Type
	case *ast.CallExpr:
		typ = s.resultOf(e)
	}
	array, ok := typ.(*ast.ArrayType)
	return ok && array.Len != nil
}

func (s *source) resultOf(call *ast.CallExpr) (typ ast.Expr) {
	called, ok := call.Fun.(*ast.Ident)
	if !ok {
		return nil
	}
	s.inspect(func(n ast.Node) {
		f, ok := n.(*ast.FuncDecl)
		if ok && f.Recv == nil && f.Name.Name == called.Name && f.Type.Results.NumFields() == 1 {
			typ = f.Type.Results.List[0].Type
		}
	})
	return typ
}

// written names everything that the package assigns to, in whole or in part, or takes the address of.
// Local variables of the same name count too: the error is on the safe side.
func (s *source) written() map[string]bool {
	names := map[string]bool{}
	note := func(e ast.Expr) {
		if name := root(e); name != "" {
			names[name] = true
		}
	}
	s.inspect(func(n ast.Node) {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if n.Tok != token.DEFINE {
				for _, e := range n.Lhs {
					note(e)
				}
			}
		case *ast.IncDecStmt:
			note(n.X)
		case *ast.UnaryExpr:
			if n.Op == token.AND {
				note(n.X)
			}
		case *ast.SliceExpr:
			note(n.X)
		case *ast.RangeStmt:
			if n.Tok == token.ASSIGN {
				note(n.Key)
				note(n.Value)
			}
		}
	})
	return names
}

// root is the variable that an expression such as a[i].b reaches into.
func root(e ast.Expr) string {
	for {
		switch x := e.(type) {
		case *ast.Ident:
			return x.Name
		case *ast.IndexExpr:
			e = x.X
		case *ast.SelectorExpr:
			e = x.X
		case *ast.ParenExpr:
			e = x.X
		case *ast.StarExpr:
			e = x.X
		default:
			return ""
		}
	}
}
