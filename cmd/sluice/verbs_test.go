package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// verbConfig has a route for every kind of destination.
const verbConfig = `
[server]
listen = ["127.0.0.1:18080"]
[admin]
listen = "127.0.0.1:19901"
[defaults]
auth = ["none"]
[upstream.v1]
targets = ["http://127.0.0.1:19001"]
[upstream.v2]
targets = ["http://127.0.0.1:19002"]
[split.canary]
weights = { v1 = 90, v2 = 10 }
[switch.version]
header  = "X-Version"
cases   = { "2" = "v2" }
default = "canary"
[[route]]
name    = "people"
methods = ["GET"]
path    = "/people/{id}"
to      = "v1"
[[route]]
name = "api"
path = "/api/*"
to   = "version"
`

// writeConfig writes a configuration to a folder of the test's own.
func writeConfig(t *testing.T, text string) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "gateway.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// sluice runs a command line as main does.
func sluice(args ...string) (code int, out, errOut string) {
	var stdout, stderr strings.Builder
	code = execute(args, strings.NewReader(""), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

func TestVerbs(t *testing.T) {
	good := writeConfig(t, verbConfig)
	bad := writeConfig(t, strings.NewReplacer(`to      = "v1"`, `to = "v9"`, "listen = [", "lisen = [").Replace(verbConfig))
	next := writeConfig(t, strings.Replace(verbConfig, "v1 = 90, v2 = 10", "v1 = 50, v2 = 50", 1))
	restart := writeConfig(t, strings.Replace(verbConfig, "19901", "19902", 1))
	cases := []struct {
		args   []string
		code   int
		want   []string // in what it prints, on either side
		intent string
	}{
		{[]string{"check", "-c", good}, 0, []string{": ok (2 routes, 2 upstreams)"}, "a sound file"},
		{[]string{"check", "-c", bad}, 1, []string{":3:1: server.lisen: unknown key (did you mean \"listen\"?)", `upstream, split or switch "v9"`},
			"every fault, with its line and the nearest name"},
		{[]string{"check", "-c", bad, "--format", "json"}, 1, []string{`"ok": false`, `"key": "server.lisen"`, `"line": 3`}, "faults for machines"},
		{[]string{"check", "-c", good + ".none"}, 1, []string{"no such file"}, "no file at all"},
		{[]string{"explain", "-c", good, "GET", "/people/42"}, 0,
			[]string{"forwarded by route people", "id = 42", "upstream   100% v1: http://127.0.0.1:19001", "GET /people/42 HTTP/1.1"}, "a route"},
		{[]string{"explain", "-c", good, "GET", "/nowhere"}, 0,
			[]string{"404 no_route", "other routes:", `people (/people/{id}): segment 1: "nowhere" is not "people"`}, "no route, and which were near"},
		{[]string{"explain", "-c", good, "PUT", "/people/42"}, 0, []string{"405 method_not_allowed", "allow      GET"}, "another method"},
		{[]string{"explain", "-c", good, "GET", "/api/x"}, 0,
			[]string{"header X-Version is not there -> canary", "canary: random", "90% v1", "10% v2"}, "a split, by chance"},
		{[]string{"explain", "-c", good, "GET", "/api/x", "-H", "X-Version: 2"}, 0, []string{`header X-Version "2" -> v2`, "100% v2"}, "a switch"},
		{[]string{"explain", "-c", good, "GET", "/api/x", "--format", "json"}, 0, []string{`"share": 0.9`, `"by": "random"`}, "the same for machines"},
		{[]string{"explain", "-c", bad, "GET", "/"}, 1, []string{"server.lisen"}, "a bad file explains nothing"},
		{[]string{"explain", "-c", good, "GET", "/", "--client", "nobody"}, 2, []string{"--client"}, "a client without an address"},
		{[]string{"diff", good, good}, 0, []string{"no changes"}, "the same"},
		{[]string{"diff", good, next}, 0, []string{"~ split.canary.weights.v1 = 90 -> 50", "upstreams kept:     v1, v2"}, "what a reload changes"},
		{[]string{"diff", "--exit-code", good, next}, 1, []string{"~ split"}, "a difference, for scripts"},
		{[]string{"diff", good, restart}, 0, []string{"need a restart:     admin.listen"}, "what a reload cannot change"},
		{[]string{"diff", good, bad}, 1, []string{"server.lisen"}, "a bad file has no difference"},
		{[]string{"version"}, 0, []string{"sluice dev\ngo"}, "the version"},
		{[]string{"schema"}, 0, []string{`"$schema"`}, "the schema"},
		{[]string{}, 0, []string{"sluice demo"}, "no verb: where to begin"},
		{[]string{"check", "--bogus"}, 2, []string{"unknown flag: --bogus", "Run 'sluice check --help'"}, "an unknown flag"},
		{[]string{"bogus"}, 2, []string{"unknown command"}, "an unknown verb"},
		{[]string{"explain", "GET"}, 2, []string{"accepts 2 arg(s)"}, "an argument missing"},
		{[]string{"check", "--format", "xml"}, 2, []string{"--format is text or json"}, "an unknown format"},
	}
	for _, c := range cases {
		code, out, errOut := sluice(c.args...)
		if code != c.code {
			t.Errorf("%s: want exit code %d, have %d: %s%s", c.intent, c.code, code, out, errOut)
		}
		for _, want := range c.want {
			if !strings.Contains(out+errOut, want) {
				t.Errorf("%s: want %q in:\n%s%s", c.intent, want, out, errOut)
			}
		}
	}
}

// Every verb tells how it is used, on standard output.
func TestHelp(t *testing.T) {
	for _, verb := range []string{"run", "check", "explain", "diff", "limits", "keys", "revoke", "demo", "schema", "version", "completion"} {
		code, out, errOut := sluice(verb, "--help")
		if code != exitOK || errOut != "" || !strings.Contains(out, "Usage:\n  sluice "+verb) {
			t.Errorf("%s --help: exit code %d: %s%s", verb, code, out, errOut)
		}
	}
}
