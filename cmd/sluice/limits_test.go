package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-gateway/sluice/engine/listen"
)

// limitsConfig has limits of three shapes, on one route.
const limitsConfig = `
[server]
listen = ["%s"]
[admin]
listen = "%s"
token  = "sesame"
[upstream.v1]
targets = ["%s"]
[[limit]]
name  = "per-ip"
key   = ["ip", "route"]
rate  = "5/h"
burst = 5
tiers = { gold = "50/h", free = "1/h" }
[[limit]]
name = "total"
key  = []
rate = "1000/d"
burst = 1000
mode = "shadow"
hidden = true
[[route]]
name   = "one"
path   = "/*"
auth   = ["none"]
limits = ["per-ip", "total"]
to     = "v1"
`

// serveLimits runs a gateway with limitsConfig in the test's process.
func serveLimits(t *testing.T, adminAddress string) (address, config string) {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }))
	t.Cleanup(service.Close)
	address = freeAddress(t)
	config = writeConfig(t, fmt.Sprintf(limitsConfig, address, adminAddress, service.URL))
	p, err := newProcess(config, &listen.Set{}, io.Discard, io.Discard, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(make(chan os.Signal), false) })
	return address, config
}

func TestLimits(t *testing.T) {
	address, config := serveLimits(t, freeAddress(t))
	for i, want := range []int{200, 200, 200, 200, 200, 429, 429} {
		if status, body := send(t, "GET", "http://"+address+"/x"); status != want {
			t.Fatalf("request %d: want %d, have %d %s", i, want, status, body)
		}
	}
	cases := []struct {
		args   []string
		code   int
		want   []string // in what it prints, on either side
		intent string
	}{
		{[]string{"show"}, 0, []string{"LIMIT   ALGORITHM     KEY        RATE    BURST  MODE     REFUSED  WOULD REFUSE\n",
			"per-ip  token_bucket  ip, route  5/h     5      enforce  2        0\n",
			"total   token_bucket  -          1000/d  1000   shadow   0        0\n",
			"2 of 1572864 buckets in use; 2 begun, 0 evicted; 0 requests counted in shared ones\n"}, "all limits"},
		{[]string{"show", "--format", "json"}, 0, []string{`"name": "per-ip"`, `"refused": 2`, `"capacity": 1572864`}, "the same for machines"},
		{[]string{"show", "per-ip"}, 0, []string{"algorithm    token_bucket\n", "key          ip, route\n", "tiers        free 1/h, gold 50/h\n",
			"mode         enforce\n", "refused      2\n"}, "one limit"},
		{[]string{"show", "per-ip", "--format", "json"}, 0, []string{`"gold": "50/h"`}, "one limit for machines"},
		{[]string{"show", "total"}, 0, []string{"mode         shadow, hidden from clients\n", "TIER  RATE    REMAINING  OF    FULL IN\n", "-     1000/d  995"},
			"a limit with one bucket shows it"},
		{[]string{"show", "per-ip", "127.0.0.1", "one"}, 0, []string{"TIER  RATE  REMAINING  OF  FULL IN\n", "-     5/h   0          5   59m"}, "a drained bucket"},
		{[]string{"show", "per-ip", "127.0.0.1", "one", "--format", "json"}, 0,
			[]string{`"limit": "per-ip"`, `"127.0.0.1",`, `"remaining": 0`}, "the same for machines"},
		{[]string{"show", "per-ip", "127.0.0.2", "one"}, 0, []string{"full: nothing was taken lately\n"}, "the bucket of somebody else"},
		{[]string{"show", "nothing"}, 1, []string{`has no limit "nothing"`}, "an unknown limit"},
		{[]string{"show", "nothing", "x"}, 1, []string{`: There is no limit "nothing".`}, "a bucket of an unknown limit"},
		{[]string{"show", "per-ip", "127.0.0.1"}, 2, []string{"want 2 values: ip, route", "Run 'sluice limits show --help'"}, "a value too few"},
		{[]string{"reset", "per-ip", "localhost", "one"}, 2, []string{`ip is an address, which "localhost" is not`, "Run 'sluice limits reset --help'"},
			"a name for an address"},
		{[]string{"reset", "per-ip", "127.0.0.1", "two"}, 2, []string{`there is no route "two"`}, "an unknown route"},
		{[]string{"reset"}, 2, []string{"requires at least 1 arg(s)"}, "nothing to reset"},
		{[]string{"bogus"}, 2, []string{"unknown command"}, "an unknown verb"},
		{[]string{"show", "--format", "xml"}, 2, []string{"--format is text or json"}, "an unknown format"},
		{[]string{"reset", "per-ip", "127.0.0.1", "one"}, 0, []string{"reset 1 bucket\n"}, "a reset"},
		{[]string{"reset", "per-ip", "127.0.0.1", "one"}, 0, []string{"nothing to reset: the bucket is full\n"}, "once more"},
		{[]string{"reset", "total", "--format", "json"}, 0, []string{`"limit": "total"`, `"reset": 1`}, "a reset for machines"},
	}
	for _, c := range cases {
		code, out, errOut := sluice(append([]string{"limits", "-c", config}, c.args...)...)
		if code != c.code {
			t.Errorf("%s: want exit code %d, have %d: %s%s", c.intent, c.code, code, out, errOut)
		}
		for _, want := range c.want {
			if !strings.Contains(out+errOut, want) {
				t.Errorf("%s: want %q in:\n%s%s", c.intent, want, out, errOut)
			}
		}
		if (code == exitOK) != (errOut == "") {
			t.Errorf("%s: exit code %d with %q on standard error", c.intent, code, errOut)
		}
		if code == exitOK && strings.Contains(strings.Join(c.args, " "), "json") && !json.Valid([]byte(out)) {
			t.Errorf("%s: no JSON: %s", c.intent, out)
		}
	}
	if status, _ := send(t, "GET", "http://"+address+"/x"); status != 200 {
		t.Errorf("after the reset: %d", status)
	}
}

func TestLimitsOverUnixSocket(t *testing.T) {
	_, config := serveLimits(t, "unix:admin.sock")
	if _, err := os.Stat(filepath.Join(filepath.Dir(config), "admin.sock")); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := sluice("limits", "show", "-c", config); code != exitOK || !strings.Contains(out, "per-ip") {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
}
