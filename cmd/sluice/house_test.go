package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const (
	ours     = "github.com/sluice-gateway/sluice"
	foreign  = "(a module that is not ours)"
	fasthttp = "github.com/valyala/fasthttp/..."
	tomlOnly = "github.com/BurntSushi/toml/..."
	jwxOnly  = "github.com/lestrrat-go/jwx/..."
	redis    = "github.com/redis/..."
	metrics  = "github.com/prometheus/..."
	otel     = "go.opentelemetry.io/otel/..."
	swim     = "github.com/hashicorp/..."
	telling  = ours + "/engine/telemetry/..."
)

// direction is one law of who imports whom. Patterns are those of the go command; "./" is our module.
type direction struct {
	of      []string // the packages that it binds ...
	but     []string // ... less these
	never   []string // what they do not import ...
	may     []string // ... less this
	closure bool     // not even through others
	reason  string
}

func directions() []direction {
	return []direction{
		{of: []string{"./router/..."}, never: []string{"./...", foreign}, may: []string{"./router/..."}, closure: true,
			reason: "a library that others can use needs the standard library only"},
		{of: []string{"./auth/..."}, never: []string{"./...", fasthttp, tomlOnly, telling}, may: []string{"./auth/..."}, closure: true,
			reason: "auth is deaf: it takes bytes and now, and returns values"},
		{of: []string{"./limiter/..."}, never: []string{"./...", fasthttp, tomlOnly, telling}, may: []string{"./limiter/..."}, closure: true,
			reason: "the limiter is deaf: it takes numbers and now, and returns values"},
		{of: []string{"./..."}, but: []string{"./engine"}, never: []string{fasthttp},
			reason: "only the request path knows which HTTP library carries it"},
		{of: []string{"./..."}, but: []string{"./engine/config"}, never: []string{tomlOnly},
			reason: "the notation of the configuration is the business of one package"},
		{of: []string{"./engine"}, never: []string{"./engine/admin", "./cmd/..."}, closure: true,
			reason: "the admin side is a client of the engine"},
		{of: []string{"./engine/config", "./engine/telemetry", "./engine/listen", "./engine/watch", "./engine/wire", "./engine/socket"},
			never: []string{"./..."}, closure: true, reason: "these rooms know nothing but their own duty"},
		{of: []string{"./engine/certs"}, never: []string{"./..."}, may: []string{"./engine/watch"}, closure: true,
			reason: "certificates are files that change, and no more"},
		{of: []string{"./engine/upstream"}, never: []string{"./..."}, may: []string{"./engine/wire", "./engine/socket"}, closure: true,
			reason: "the transport shares the grammar and the system calls with the front, and no more"},
		{of: []string{"./..."}, but: []string{"./engine", "./engine/upstream"}, never: []string{"./engine/wire", "./engine/socket"},
			reason: "bytes of HTTP are read by the two sides of the request path alone"},
		{of: []string{"./..."}, but: []string{"./auth", "./auth/jwks"}, never: []string{jwxOnly},
			reason: "who verifies tokens is told apart from who is told the outcome"},
		{of: []string{"./..."}, but: []string{"./auth/keystore", "./auth/revocation", "./limiter/central"}, never: []string{redis},
			reason: "Redis is a place to keep things: the rest of the gateway works without it"},
		{of: []string{"./..."}, but: []string{"./engine/telemetry"}, never: []string{metrics},
			reason: "what is counted is told apart from how it is published"},
		{of: []string{"./..."}, but: []string{"./engine/telemetry"}, never: []string{otel},
			reason: "who is traced does not know by whom"},
		{of: []string{"./..."}, but: []string{"./limiter/gossip"}, never: []string{swim},
			reason: "how members are found is known where packets are sent"},
		{of: []string{"./auth", "./auth/keystore", "./auth/revocation", "./limiter/...", "./router"}, never: []string{"net/http"},
			reason: "who decides does not fetch"},
		{of: []string{"./limiter"}, never: []string{redis, "./limiter/..."}, closure: true,
			reason: "a limit that is counted in this process needs no store"},
		{of: []string{"./..."}, but: []string{"./cmd/sluice"}, never: []string{"os/signal", "./cmd/..."},
			reason: "signals and the process belong to the command"},
		{of: []string{"./cmd/sluice/e2e"}, never: []string{"./..."}, closure: true,
			reason: "end-to-end tests know the gateway as a process only"},
	}
}

// listed is what the go command tells of a package.
type listed struct {
	ImportPath, Name, Doc, Dir string
	Standard                   bool
	Imports, Deps, GoFiles     []string
}

// listPackages lists our packages and all that they import.
func listPackages(t *testing.T) map[string]listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", "-json=ImportPath,Name,Doc,Dir,Standard,Imports,Deps,GoFiles", ours+"/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Logf("%s", exit.Stderr)
		}
		t.Fatal(err)
	}
	packages := map[string]listed{}
	for decoder := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return packages
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
}

// matches reports whether a package is among the patterns.
func matches(packages map[string]listed, patterns []string, importPath string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if pattern == foreign {
			return !isOurs(importPath) && !packages[importPath].Standard
		}
		if rest, local := strings.CutPrefix(pattern, "./"); local {
			pattern = ours + "/" + rest
		}
		root, tree := strings.CutSuffix(pattern, "/...")
		return importPath == root || tree && strings.HasPrefix(importPath, root+"/")
	})
}

func isOurs(importPath string) bool {
	return importPath == ours || strings.HasPrefix(importPath, ours+"/")
}

// misdirected names every import that breaks a direction.
func misdirected(packages map[string]listed, laws []direction) (faults []string) {
	for _, law := range laws {
		for _, p := range packages {
			if !isOurs(p.ImportPath) || !matches(packages, law.of, p.ImportPath) || matches(packages, law.but, p.ImportPath) {
				continue
			}
			imports := p.Imports
			if law.closure {
				imports = p.Deps
			}
			for _, i := range imports {
				if i != p.ImportPath && matches(packages, law.never, i) && !matches(packages, law.may, i) {
					faults = append(faults, fmt.Sprintf("%s imports %s: %s", p.ImportPath, i, law.reason))
				}
			}
		}
	}
	slices.Sort(faults)
	return faults
}

// misnamed tells what is wrong with the name or doc of a package.
func misnamed(p listed) (faults []string) {
	if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "base"}, p.Name) {
		faults = append(faults, p.ImportPath+": the name says nothing of what is in it")
	}
	begin := "Package " + p.Name + " "
	if p.Name == "main" {
		begin = "Command " + path.Base(p.ImportPath) + " "
	}
	if !strings.HasPrefix(p.Doc, begin) {
		faults = append(faults, fmt.Sprintf("%s: its doc does not begin with %q", p.ImportPath, begin))
	}
	return faults
}

func TestHouse(t *testing.T) {
	packages := listPackages(t)
	for _, fault := range misdirected(packages, directions()) {
		t.Error(fault)
	}
	found := 0
	for _, p := range packages {
		if !isOurs(p.ImportPath) {
			continue
		}
		found++
		for _, fault := range misnamed(p) {
			t.Error(fault)
		}
		for _, fault := range judgeFiles(t, p) {
			t.Error(fault)
		}
	}
	if found < 10 {
		t.Errorf("judged %d packages only", found)
	}
}

// A checker that finds nothing proves nothing: here every law is broken once.
func TestHouseSeesBrokenDirections(t *testing.T) {
	cases := []struct{ importer, imported, intent string }{
		{"router", "github.com/cespare/xxhash/v2", "the router stays with the standard library"},
		{"router", ours + "/engine/config", "the router is deaf"},
		{"auth", ours + "/limiter", "leaves do not know each other"},
		{"auth/jwks", "github.com/BurntSushi/toml", "a leaf's rooms are deaf too"},
		{"limiter", ours + "/engine/telemetry", "leaves count nothing themselves"},
		{"engine/admin", "github.com/valyala/fasthttp/fasthttputil", "fasthttp stays on the request path"},
		{"engine", "github.com/BurntSushi/toml", "TOML stays in config"},
		{"engine", ours + "/engine/admin", "never the reverse"},
		{"engine/listen", ours + "/engine/config", "a socket needs no configuration"},
		{"engine/certs", ours + "/engine/listen", "certs may know watch alone"},
		{"engine/upstream", ours + "/router", "the transport does not route"},
		{"engine/admin", ours + "/engine/wire", "the admin side parses no HTTP"},
		{"engine", "github.com/lestrrat-go/jwx/v2/jwt", "tokens are the business of auth"},
		{"engine", "github.com/redis/rueidis", "Redis stays in the stores"},
		{"limiter", ours + "/limiter/central", "the limiter works without a store"},
		{"engine", "go.opentelemetry.io/otel/trace", "spans are made by telemetry"},
		{"limiter", "github.com/hashicorp/memberlist", "the limiter knows numbers of peers alone"},
		{"limiter/gossip", ours + "/auth/revocation", "records are bytes"},
		{"auth", "net/http", "keys are fetched next door"},
		{"engine/admin", "github.com/prometheus/client_golang/prometheus/promhttp", "telemetry publishes"},
		{"engine/admin", "os/signal", "signals are the command's"},
		{"cmd/sluice/e2e", ours + "/engine", "end-to-end tests look from outside"},
	}
	for _, c := range cases {
		importer := listed{ImportPath: ours + "/" + c.importer, Imports: []string{c.imported}, Deps: []string{c.imported}}
		packages := map[string]listed{importer.ImportPath: importer, "os/signal": {ImportPath: "os/signal", Standard: true}}
		if faults := misdirected(packages, directions()); len(faults) == 0 {
			t.Errorf("%s imports %s, and nothing is said: %s", c.importer, c.imported, c.intent)
		}
	}
	sound := listed{ImportPath: ours + "/engine/certs", Imports: []string{ours + "/engine/watch"}, Deps: []string{ours + "/engine/watch"}}
	if faults := misdirected(map[string]listed{sound.ImportPath: sound}, directions()); len(faults) > 0 {
		t.Errorf("what is allowed is refused: %q", faults)
	}
}

func TestHouseSeesBrokenNames(t *testing.T) {
	cases := []struct {
		p      listed
		faults int
		intent string
	}{
		{listed{ImportPath: ours + "/engine", Name: "engine", Doc: "Package engine is the gateway."}, 0, "as it should be"},
		{listed{ImportPath: ours + "/cmd/sluice", Name: "main", Doc: "Command sluice is a gateway."}, 0, "a command"},
		{listed{ImportPath: ours + "/engine/util", Name: "util", Doc: "Package util is a drawer."}, 1, "a name without a meaning"},
		{listed{ImportPath: ours + "/engine", Name: "engine", Doc: "The gateway."}, 1, "a doc of another form"},
		{listed{ImportPath: ours + "/engine/common", Name: "common"}, 2, "no doc either"},
	}
	for _, c := range cases {
		if faults := misnamed(c.p); len(faults) != c.faults {
			t.Errorf("%s: want %d faults, have %q", c.intent, c.faults, faults)
		}
	}
}
