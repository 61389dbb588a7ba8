package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// What goes wrong on the way to a gateway is told as what it means.
func TestControlFaults(t *testing.T) {
	answers := func(status int, body string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}))
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	cut := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	t.Cleanup(cut.Close)
	nobody := freeAddress(t)
	admin := func(text string) string { return "[admin]\n" + text + "\n" }
	for _, c := range []struct {
		intent, config string
		want           string
	}{
		{"nobody listens", admin(`listen = "` + nobody + `"`), "sluice: no gateway is running at " + nobody + "\n"},
		{"no socket is there", admin(`listen = "unix:none.sock"`), "sluice: no gateway is running at unix:"},
		{"the connection is cut", admin(`listen = "` + strings.TrimPrefix(cut.URL, "http://") + `"`), "cannot reach the gateway at 127.0.0.1:"},
		{"there is no admin side", admin(`listen = ""`), "the gateway has no admin side: admin.listen is empty"},
		{"systemd knows", admin(`listen = "systemd:admin"` + "\n" + `token = "t"`), "only systemd knows where that is"},
		{"another token", admin(`listen = "` + answers(401, `{"reason":"unauthorized","detail":"d"}`) + `"`), "does not take the admin.token of this configuration"},
		{"a refusal", admin(`listen = "` + answers(503, `{"reason":"draining","detail":"The gateway is shutting down."}`) + `"`), ": The gateway is shutting down.\n"},
		{"another server", admin(`listen = "` + answers(404, "404 page not found") + `"`), "is no gateway's admin side: status 404"},
		{"one that leads elsewhere", admin(`listen = "` + answers(302, "") + `"`), "is no gateway's admin side: status 302"},
		{"one that takes everything", admin(`listen = "` + answers(200, "<html>") + `"`), "is no gateway's admin side: invalid character"},
		{"a token that is not set", admin(`listen = "` + nobody + `"` + "\n" + `token = "env:SLUICE_TEST_NO_SUCH_VARIABLE"`), ":3:1: admin.token: "},
		{"a misspelt key beside it", admin(`lisen = ""`), ":2:1: admin.lisen: unknown key"},
		{"faults elsewhere do not matter", admin(`listen = "`+nobody+`"`) + "[server]\nnonsense = true\n", "sluice: no gateway is running"},
		{"what cannot be read at all does", "[admin", "not TOML"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			code, out, errOut := sluice("limits", "show", "-c", writeConfig(t, c.config))
			if code != exitFailed || out != "" || !strings.Contains(errOut, c.want) {
				t.Errorf("exit code %d, want %q in: %s%s", code, c.want, out, errOut)
			}
		})
	}
}

// The token goes to the admin side alone, whatever proxies the environment names.
func TestControlAsks(t *testing.T) {
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a proxy was asked") }))
	defer proxy.Close()
	t.Setenv("http_proxy", proxy.URL)
	t.Setenv("HTTP_PROXY", proxy.URL)
	var seen []string
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.Method+" "+r.RequestURI+" "+r.Host+" "+r.Header.Get("Authorization"))
		_, _ = io.WriteString(w, `{"reset":2}`)
	}))
	defer admin.Close()
	config := writeConfig(t, "[admin]\nlisten = \""+strings.TrimPrefix(admin.URL, "http://")+"\"\ntoken = \"sesame\"\n")
	code, out, errOut := sluice("limits", "reset", "-c", config, "per-header", "a b&c", "", "é/?")
	if code != exitOK || out != "reset 2 buckets\n" {
		t.Errorf("exit code %d: %s%s", code, out, errOut)
	}
	want := "DELETE /limits/per-header?key=a+b%26c&key=&key=%C3%A9%2F%3F localhost Bearer sesame"
	if len(seen) != 1 || seen[0] != want {
		t.Errorf("asked %q, want %q", seen, want)
	}
}
