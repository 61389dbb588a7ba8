package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/sluice-gateway/sluice/"

// goPackage is what go list tells of a package; tests are not part of it.
type goPackage struct {
	ImportPath string
	Name       string
	Doc        string
	Dir        string
	GoFiles    []string
	Imports    []string // by itself
	Deps       []string // by itself and by what it imports
}

// room is the package's path in the module.
func (p *goPackage) room() string { return strings.TrimPrefix(p.ImportPath, module) }

// goPackages lists all packages of the module.
func goPackages(t *testing.T) []*goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Name,Doc,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []*goPackage
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(goPackage)
		err := decoder.Decode(p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// within reports whether an import path is root or lies below it.
func within(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }

// Rooms that are yet to be built are listed too: the law is there before they are.
func TestImportDirections(t *testing.T) {
	const (
		fasthttp   = "github.com/valyala/fasthttp"
		toml       = "github.com/BurntSushi/toml"
		zerolog    = "github.com/rs/zerolog"
		prometheus = "github.com/prometheus"
		otel       = "go.opentelemetry.io"
		engine     = module + "engine"
		router     = module + "router"
		auth       = module + "auth"
		limiter    = module + "limiter"
		admin      = module + "engine/admin"
	)
	deaf := []string{fasthttp, toml, zerolog, prometheus, otel, "net/http", engine}
	laws := []struct {
		room string // and what lies below it
		not  []string
		why  string
	}{
		{"router", slices.Concat(deaf, []string{auth, limiter}), "a router takes bytes and returns an index: others could use it"},
		{"limiter", slices.Concat(deaf, []string{auth, router}), "a limiter takes a key, a cost and the time: others could use it"},
		{"auth", slices.Concat([]string{fasthttp, toml, zerolog, prometheus, otel, engine}, []string{router, limiter}), "auth takes tokens and returns principals; key sets are fetched with net/http"},
		{"engine", []string{"github.com/spf13/cobra", module + "cmd"}, "the engine can be embedded and tested without a command line"},
		{"engine/config", []string{fasthttp, zerolog, router, auth, limiter}, "a configuration is data: what compiles it lies above"},
		{"engine/wire", []string{fasthttp, toml, zerolog, "net/http"}, "there is one parser, and it is ours"},
	}
	for _, p := range goPackages(t) {
		for _, law := range laws {
			if !within(p.room(), law.room) {
				continue
			}
			for _, not := range law.not {
				if i := slices.IndexFunc(p.Deps, func(d string) bool { return within(d, not) && !within(d, module+law.room) }); i >= 0 {
					t.Errorf("%s needs %s: %s", p.room(), p.Deps[i], law.why)
				}
			}
		}
		if p.room() == "engine" && slices.Contains(p.Deps, admin) {
			t.Errorf("engine needs engine/admin, which is its client")
		}
	}
}

// TestWhoImports holds what may enter the house by one door only.
func TestWhoImports(t *testing.T) {
	laws := []struct {
		path string
		by   []string
		why  string
	}{
		{"github.com/valyala/fasthttp", []string{"engine", "engine/upstream", "bench"}, "what it cannot do is worked around in two places only"},
		{"github.com/BurntSushi/toml", []string{"engine/config"}, "a file is read once, and strictly"},
		{"github.com/rs/zerolog", []string{"cmd/sluice", "engine", "engine/admin", "engine/telemetry"}, "those below return errors, and the engine logs them"},
		{"github.com/spf13/cobra", []string{"cmd/sluice"}, "the command line is the command's"},
		{"net/http", []string{"cmd/sluice", "engine", "engine/admin"}, "clients are served by the engine's own parser; the engine itself takes the names of statuses from it, see TestEngineServesNothingByNetHTTP"},
		{"os/signal", []string{"cmd/sluice"}, "a process has one owner of its signals"},
		{"unsafe", []string{"engine"}, "it is for a string that does not outlive a call"},
		{"github.com/coder/websocket", nil, "it is for tests"},
		{"pgregory.net/rapid", nil, "it is for tests"},
	}
	for _, p := range goPackages(t) {
		for _, law := range laws {
			if slices.Contains(p.Imports, law.path) && !slices.Contains(law.by, p.room()) {
				t.Errorf("%s imports %s: %s", p.room(), law.path, law.why)
			}
		}
	}
}

// TestLeaves holds that what the engine is made of does not know each other.
func TestLeaves(t *testing.T) {
	leaves := map[string][]string{ // and the rooms that each may import
		"router":           {},
		"engine/config":    {},
		"engine/telemetry": {},
		"engine/listen":    {},
		"engine/watch":     {},
		"engine/wire":      {},
		"engine/certs":     {"engine/watch"}, // certificates are reloaded when their files change
		"engine/upstream":  {"engine/wire"},  // both sides of the gateway speak one grammar
		"engine/admin":     {"engine", "engine/config"},
	}
	for _, p := range goPackages(t) {
		allowed, isLeaf := leaves[p.room()]
		if !isLeaf {
			continue
		}
		delete(leaves, p.room())
		for _, path := range p.Imports {
			room, ours := strings.CutPrefix(path, module)
			if ours && !slices.Contains(allowed, room) {
				t.Errorf("%s imports %s", p.room(), room)
			}
		}
	}
	for room := range leaves {
		t.Errorf("there is no package %s any more", room)
	}
}

func TestPackageNamesAndDocs(t *testing.T) {
	drawers := []string{"util", "utils", "common", "helper", "helpers", "types", "base", "misc", "shared", "lib"}
	for _, p := range goPackages(t) {
		if slices.Contains(drawers, p.Name) {
			t.Errorf("package %s: a name that says nothing", p.room())
		}
		want := "Package " + p.Name + " "
		if p.Name == "main" {
			want = "Command " + p.room()[strings.LastIndexByte(p.room(), '/')+1:] + " "
		}
		if !strings.HasPrefix(p.Doc, want) {
			t.Errorf("%s: its doc does not begin with %q", p.room(), want)
		}
	}
}
