package main

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/sluice-gateway/sluice/engine/config"
)

func someCredentials(t *testing.T) *credentials {
	t.Helper()
	c, err := newCredentials(t.TempDir(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// somewhere is a place with all that a configuration can name.
func somewhere(t *testing.T, c *credentials, f features) place {
	t.Helper()
	return place{folder: t.TempDir(), listen: "127.0.0.1:18080", admin: "127.0.0.1:18081", spare: "127.0.0.1:18082", upstream: "127.0.0.1:18083", cores: 1, credentials: c, features: f}
}

// asked are the features that any scenario asks of a rival, each once.
func asked(name string) (all []features) {
	for _, s := range allScenarios("token") {
		for _, e := range s.entries {
			f := e.traffic.features
			f.routes = min(f.routes, 100)
			if e.rival == name && !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	return all
}

// Sluice has no fault to find but what it says it does not do yet.
func TestSluiceTakesItsConfigurations(t *testing.T) {
	c := someCredentials(t)
	for _, f := range asked("sluice") {
		text := sluiceConfig(somewhere(t, c, f))
		_, faults := config.Parse("gateway.toml", []byte(text), config.Environment{})
		for _, fault := range faults {
			if fault.Message != "not supported yet" {
				t.Errorf("%+v: %v\n%s", f, fault, text)
			}
		}
	}
}

// Every configuration of a rival is one that the rival itself takes.
func TestConfigurationsAreTaken(t *testing.T) {
	judges := map[string]func(program, file string) *exec.Cmd{
		"nginx":   func(p, file string) *exec.Cmd { return exec.Command(p, "-t", "-e", os.DevNull, "-c", file) },
		"haproxy": func(p, file string) *exec.Cmd { return exec.Command(p, "-c", "-f", file) },
	}
	c := someCredentials(t)
	for _, v := range allRivals() {
		judge, ok := judges[v.name]
		if !ok {
			continue
		}
		program, err := v.find(context.Background(), "")
		if err != nil {
			t.Logf("%s is not installed", v.name)
			continue
		}
		for _, f := range asked(v.name) {
			if v.lacks(program, f) != "" {
				continue
			}
			p := somewhere(t, c, f)
			p.program = program
			command, err := v.setup(p)
			if err != nil {
				t.Fatal(err)
			}
			if out, err := judge(program, command[len(command)-1]).CombinedOutput(); err != nil {
				text, _ := os.ReadFile(command[len(command)-1])
				t.Errorf("%s, %+v: %v\n%s%s", v.name, f, err, out, text)
			}
		}
	}
}

func TestFeaturesAreConfigured(t *testing.T) {
	f := features{keys: true, limit: 7, strip: true, log: true, metrics: true, tls: true}
	p := somewhere(t, someCredentials(t), f)
	all := map[string]string{
		"sluice": sluiceConfig(p), "nginx": nginxConfig(p), "haproxy": haproxyConfig(p), "caddy": caddyConfig(p, true), "traefik": traefikConfig(p) + traefikRoutes(p),
	}
	cases := []struct{ gateway, want, intent string }{
		{"sluice", `auth = ["keys"]`, "a key is asked for"},
		{"sluice", `rate = "7/s"`, "a limit"},
		{"sluice", "strip_prefix = true", "the prefix goes"},
		{"sluice", `min_version = "1.3"`, "TLS"},
		{"nginx", "return 401", "a key is asked for"},
		{"nginx", "rate=7r/s", "a limit"},
		{"nginx", "proxy_pass http://app/;", "the prefix goes"},
		{"nginx", "ssl_protocols TLSv1.3", "TLS"},
		{"haproxy", "deny_status 401", "a key is asked for"},
		{"haproxy", "sc_http_req_rate(0) gt 7", "a limit"},
		{"haproxy", "replace-path", "the prefix goes"},
		{"haproxy", "ssl-min-ver TLSv1.3", "TLS"},
		{"caddy", "respond @unknown 401", "a key is asked for"},
		{"caddy", "events 7", "a limit"},
		{"caddy", "uri strip_prefix /api", "the prefix goes"},
		{"caddy", "protocols tls1.3", "TLS"},
		{"traefik", "Header(`X-API-Key`", "a key is asked for"},
		{"traefik", "average: 7", "a limit"},
		{"traefik", `prefixes: ["/api"]`, "the prefix goes"},
		{"traefik", "VersionTLS13", "TLS"},
	}
	for _, c := range cases {
		if !strings.Contains(all[c.gateway], c.want) {
			t.Errorf("%s, %s: no %q in\n%s", c.gateway, c.intent, c.want, all[c.gateway])
		}
	}
	if strings.Contains(caddyConfig(p, false), "rate_limit") {
		t.Error("Caddy is told of limits without a module for them")
	}
}

func TestCredentialsAreOfOneKey(t *testing.T) {
	c := someCredentials(t)
	public, err := os.ReadFile(c.public)
	if err != nil {
		t.Fatal(err)
	}
	key, err := jwt.ParseRSAPublicKeyFromPEM(public)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jwt.Parse(c.token, func(*jwt.Token) (any, error) { return key, nil }, jwt.WithValidMethods([]string{"RS256"}),
		jwt.WithIssuer(tokenIssuer), jwt.WithAudience(tokenAudience), jwt.WithExpirationRequired())
	if err != nil || token.Header["kid"] != "1" {
		t.Errorf("%v, %v", token, err)
	}
	set, err := keySet(key)
	written, readErr := os.ReadFile(c.jwks)
	if err != nil || readErr != nil || string(set) != string(written) {
		t.Errorf("%s is not the token's key: %v, %v", written, err, readErr)
	}
}

func TestChoicesAreNamed(t *testing.T) {
	all := allRivals()
	if chosen, err := pick(all, "haproxy,sluice"); err != nil || len(chosen) != 2 || chosen[0].name != "haproxy" {
		t.Errorf("%v, %v", chosen, err)
	}
	if _, err := pick(all, "sluice,apache"); err == nil {
		t.Error("a rival that does not exist is chosen")
	}
}

// Every entry has a rival, and the first entry of a scenario is what others are held against.
func TestScenariosAreWhole(t *testing.T) {
	names := map[string]bool{direct: true}
	for _, v := range allRivals() {
		names[v.name] = true
	}
	seen := map[string]bool{}
	for _, s := range allScenarios("token") {
		if seen[s.name] {
			t.Errorf("two scenarios %q", s.name)
		}
		seen[s.name] = true
		if s.missing == "" && (len(s.entries) == 0 || s.entries[0].rival != "sluice" || s.connections < 1) {
			t.Errorf("%s: %+v", s.name, s)
		}
		twice := map[string]bool{}
		for _, e := range s.entries {
			if !names[e.rival] || twice[e.name] {
				t.Errorf("%s: %s is nobody, or there twice", s.name, e.name)
			}
			twice[e.name] = true
		}
	}
}

// A build that was cut short, or failed, leaves nothing that the next run takes for a program.
func TestFailedBuildLeavesNoProgram(t *testing.T) {
	folder := t.TempDir()
	m := module{name: "broken", main: ".", files: map[string]string{"go.mod": "module rival\n", "main.go": "package main\n\nfunc\n"}}
	for range 2 {
		if program, err := m.build(context.Background(), folder); err == nil {
			t.Fatalf("built %s", program)
		}
	}
	left, _ := filepath.Glob(filepath.Join(folder, "program*"))
	if len(left) > 0 {
		t.Errorf("left %q", left)
	}
}
