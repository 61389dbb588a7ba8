package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
)

// The rivals that come as Go modules, at fixed versions, so that two runs compare the same.
const (
	caddyVersion   = "v2.11.9"
	limitsVersion  = "v0.1.0"
	traefikVersion = "v3.7.13"
)

// module is a small module of its own, in which a rival is built.
type module struct {
	name  string
	files map[string]string
	get   []string // modules that its go.mod is to require
	main  string   // the package to build
}

// kept builds a module's program once, and keeps it in the user's cache.
func (m module) kept(ctx context.Context) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	return m.build(ctx, filepath.Join(cache, "sluice-rivals", m.name))
}

// build builds a module's program in a folder, unless it is there.
func (m module) build(ctx context.Context, folder string) (string, error) {
	program := filepath.Join(folder, "program")
	if _, err := os.Stat(program); err == nil {
		return program, nil
	}
	fmt.Printf("building %s, once: this can take many minutes\n", m.name)
	for name, text := range m.files {
		path := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return "", err
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			return "", err
		}
	}
	if len(m.get) > 0 {
		if err := goCommand(ctx, folder, append([]string{"get"}, m.get...)...); err != nil {
			return "", err
		}
	}
	half := program + ".half" // a build that is cut short leaves no program
	if err := goCommand(ctx, folder, "build", "-mod=mod", "-trimpath", "-ldflags", "-s -w", "-o", half, m.main); err != nil {
		return "", err
	}
	return program, os.Rename(half, program)
}

// buildCaddy builds Caddy with the module for limits, or without it if that cannot be had.
func buildCaddy(ctx context.Context, _ string) (string, error) {
	const limits = "github.com/mholt/caddy-ratelimit"
	m := func(name, imported string, get ...string) module {
		return module{name: name, main: ".", get: append(get, "github.com/caddyserver/caddy/v2@"+caddyVersion), files: map[string]string{
			"go.mod": "module rival\n\ngo 1.26.0\n",
			"main.go": "package main\n\nimport (\n\tcaddycmd \"github.com/caddyserver/caddy/v2/cmd\"\n\t_ \"github.com/caddyserver/caddy/v2/modules/standard\"\n" + imported +
				")\n\nfunc main() { caddycmd.Main() }\n",
		}}
	}
	program, err := m("caddy-"+caddyVersion+"-limits", "\t_ \""+limits+"\"\n", limits+"@"+limitsVersion).kept(ctx)
	if err == nil {
		return program, nil
	}
	fmt.Printf("caddy is built without limits: %v\n", err)
	return m("caddy-"+caddyVersion, "").kept(ctx)
}

// buildTraefik builds Traefik with the replacements of its own go.mod, which hold only in its own tree. One of them is
// a module within that tree, which the module proxy leaves out: it is empty there too, but for two types to add fields
// to. The pages of its dashboard are left out by the proxy as well.
func buildTraefik(ctx context.Context, _ string) (string, error) {
	return module{name: "traefik-" + traefikVersion, main: "github.com/traefik/traefik/v3/cmd/traefik", files: map[string]string{
		"go.mod": `module rival

go 1.26.0

require github.com/traefik/traefik/v3 ` + traefikVersion + `

replace (
	github.com/abbot/go-http-auth => github.com/containous/go-http-auth v0.4.1-0.20260804094822-b975dcaa8c48
	github.com/gorilla/mux => github.com/containous/mux v0.0.0-20250523120546-41b6ec3aed59
	github.com/traefik/traefik/dynamic/ext => ./ext
)

exclude github.com/tencentcloud/tencentcloud-sdk-go v3.0.83+incompatible
`,
		"ext/go.mod": "module github.com/traefik/traefik/dynamic/ext\n\ngo 1.26.0\n",
		"ext/ext.go": "// Package ext adds nothing.\npackage ext\n\ntype HTTP struct{}\n\ntype Router struct{}\n",
	}}.kept(ctx)
}
