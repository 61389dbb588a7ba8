package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// rival is a gateway that can be set up for scenarios.
type rival struct {
	name    string
	program string // on the PATH, or made by build; empty: it is our own
	build   func(ctx context.Context, folder string) (program string, err error)
	version []string // arguments that make the program tell its version
	lacks   func(program string, f features) string
	// setup writes a configuration into a folder and gives the command that starts the gateway on it.
	setup func(place) ([]string, error)
}

func (r rival) label() string { return r.name }

// place is where a gateway is set up.
type place struct {
	folder, listen, upstream string
	admin, spare             string // more addresses, for those that need some
	self, program            string // our own binary; the gateway's
	cores                    int
	credentials              *credentials
	features                 features
}

func (p place) write(name, text string) (string, error) {
	path := filepath.Join(p.folder, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

func (p place) file(name string) string { return filepath.Join(p.folder, name) }

func nothing(string, features) string { return "" }

func allRivals() []rival {
	return []rival{
		{name: "sluice", build: buildSluice, version: []string{"version"}, lacks: nothing, setup: setupSluice},
		{name: "nginx", program: "nginx", version: []string{"-v"}, lacks: lacksOfNginx, setup: setupNginx},
		{name: "haproxy", program: "haproxy", version: []string{"-v"}, lacks: nothing, setup: setupHAProxy},
		{name: "caddy", program: "caddy", build: buildCaddy, version: []string{"version"}, lacks: lacksOfCaddy, setup: setupCaddy},
		{name: "traefik", program: "traefik", build: buildTraefik, version: []string{"version"}, lacks: lacksOfTraefik, setup: setupTraefik},
		{name: "fasthttp", lacks: lacksOfFloor, setup: func(p place) ([]string, error) {
			return []string{p.self, "serve", "-listen", p.listen, "-upstream", p.upstream}, nil
		}},
	}
}

func lacksOfFloor(_ string, f features) string {
	if f != (features{}) {
		return "it only forwards"
	}
	return ""
}

// find is the program of a rival: what its module gives before what the PATH has, as that is usually older. It
// returns "" if the rival needs none.
func (r rival) find(ctx context.Context, folder string) (string, error) {
	var failed error
	if r.build != nil {
		program, err := r.build(ctx, folder)
		if err == nil {
			return program, nil
		}
		failed = err
	}
	if r.program == "" {
		return "", failed
	}
	program, err := exec.LookPath(r.program)
	if err != nil && failed != nil {
		err = failed
	}
	return program, err
}

// tell is the first line of what a program tells of its version.
func (r rival) tell(program string) string {
	if len(r.version) == 0 {
		return ""
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, program, r.version...).CombinedOutput()
	if err != nil {
		return "unknown"
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	first = strings.TrimPrefix(first, r.name+" version: ")
	first, _, _ = strings.Cut(first, " - ")  // an address
	first, _, _ = strings.Cut(first, " h1:") // a checksum
	return strings.Join(strings.Fields(first), " ")
}

// buildSluice builds the gateway of this tree: the harness is started in its module's folder.
func buildSluice(ctx context.Context, folder string) (string, error) {
	program, version := filepath.Join(folder, "sluice"), "dev"
	if out, err := exec.CommandContext(ctx, "git", "describe", "--tags", "--always", "--dirty").Output(); err == nil {
		version = strings.TrimSpace(string(out))
	}
	return program, goCommand(ctx, "../..", "build", "-trimpath", "-ldflags", "-s -w -X main.version="+version, "-o", program, "./cmd/sluice")
}

func goCommand(ctx context.Context, folder string, args ...string) error {
	c := exec.CommandContext(ctx, "go", args...)
	c.Dir = folder
	c.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	if out, err := c.CombinedOutput(); err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return fmt.Errorf("go %s: %w: %s", args[0], err, strings.Join(lines[max(0, len(lines)-2):], " "))
	}
	return nil
}
