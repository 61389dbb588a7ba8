package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/engine/listen"
)

// streaming answers / at once, and /stream never ends.
func streaming(t *testing.T) (url string) {
	t.Helper()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, "ok\n")
		if r.URL.Path == "/stream" {
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}
	}))
	t.Cleanup(service.Close)
	return service.URL
}

// keyGateway is a gateway in the test's process that wants keys.
type keyGateway struct {
	keyFixture
	address string
}

// writeKeyGateway writes the configuration of a gateway that does not run yet.
func writeKeyGateway(t *testing.T, more string) keyGateway {
	t.Helper()
	address := freeAddress(t)
	config := writeConfig(t, fmt.Sprintf(keysConfig, address, freeAddress(t), streaming(t))+more)
	return keyGateway{keyFixture{config: config}, address}
}

func (g keyGateway) start(t *testing.T) {
	t.Helper()
	p, err := newProcess(g.config, &listen.Set{}, io.Discard, io.Discard, func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.end(make(chan os.Signal), false) })
}

func (g keyGateway) create(t *testing.T, client string) keyJSON {
	t.Helper()
	return g.view(t, "create", "--client", client)
}

func (g keyGateway) open(t *testing.T, path, key string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, "GET", "http://"+g.address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("X-API-Key", key)
	request.Close = true
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { response.Body.Close() })
	return response
}

// answers waits until the gateway answers a key with a status.
func (g keyGateway) answers(t *testing.T, key string, status int) {
	t.Helper()
	last := 0
	for end := time.Now().Add(2 * time.Second); last != status && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		last = g.open(t, "/", key).StatusCode
	}
	if last != status {
		t.Errorf("the gateway answers %d, want %d", last, status)
	}
}

// stream opens a stream with a key. The channel is closed when the gateway ends it.
func (g keyGateway) stream(t *testing.T, key string) (ended chan struct{}) {
	t.Helper()
	response := g.open(t, "/stream", key)
	body := bufio.NewReader(response.Body)
	if line, err := body.ReadString('\n'); err != nil || line != "ok\n" {
		t.Fatalf("%d %q %v", response.StatusCode, line, err)
	}
	ended = make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = body.ReadByte()
	}()
	return ended
}

// revoke runs the verb, which has to succeed.
func (g keyGateway) revoke(t *testing.T, args ...string) (out, errOut string) {
	t.Helper()
	code, out, errOut := sluice(append([]string{"revoke", "-c", g.config}, args...)...)
	if code != exitOK {
		t.Fatalf("%q: exit code %d: %s%s", args, code, out, errOut)
	}
	return out, errOut
}

// A running gateway refuses what is revoked, and cuts what it has opened.
func TestRevokeInRunningGateway(t *testing.T) {
	redis := fmt.Sprintf(inRedis, startRedis(t))
	for _, row := range []struct{ name, more string }{{"file", ""}, {"redis", redis}} {
		t.Run(row.name, func(t *testing.T) {
			g := writeKeyGateway(t, row.more)
			g.start(t)
			other := g.create(t, "Other")
			g.answers(t, other.Key, 200)
			kept := g.stream(t, other.Key)
			for _, c := range []struct {
				intent string
				revoke func(k keyJSON)
			}{
				{"its record goes", func(k keyJSON) {
					if out, errOut := g.keys(t, "", "revoke", k.ID); errOut != "" || out != "revoked "+k.ID+" of App\n" {
						t.Errorf("%s%s", out, errOut)
					}
				}},
				{"it is replaced at once", func(k keyJSON) { g.view(t, "rotate", k.Key) }},
				{"its id is revoked", func(k keyJSON) {
					if out, errOut := g.revoke(t, "--key", k.ID); errOut != "" || !strings.HasPrefix(out, "revoked "+k.ID+", until 20") {
						t.Errorf("%s%s", out, errOut)
					}
				}},
				{"its client is revoked, up to now", func(keyJSON) { g.revoke(t, "--client", "App", "--before", "now", "--for", "1h") }},
			} {
				k := g.create(t, "App")
				g.answers(t, k.Key, 200)
				cut := g.stream(t, k.Key)
				c.revoke(k)
				g.answers(t, k.Key, 401)
				select {
				case <-cut:
				case <-time.After(5 * time.Second):
					t.Errorf("%s: what the key has opened goes on", c.intent)
				}
			}
			const legacy = "a-key-that-comes-back"
			for range 2 {
				g.keys(t, legacy, "import", "--client", "App")
				g.answers(t, legacy, 200)
				g.keys(t, "", "revoke", legacy)
				g.answers(t, legacy, 401)
			}
			after := g.create(t, "App")
			g.answers(t, after.Key, 200)
			g.answers(t, other.Key, 200)
			select {
			case <-kept:
				t.Error("somebody else's stream was cut")
			default:
			}
		})
	}
}

// Without a gateway the store is told, and a gateway that starts later obeys.
func TestRevokeWithoutGateway(t *testing.T) {
	redis := fmt.Sprintf(inRedis, startRedis(t))
	for _, row := range []struct{ name, more, where string }{{"file", "", "revoked.log"}, {"redis", redis, "Redis"}} {
		t.Run(row.name, func(t *testing.T) {
			g := writeKeyGateway(t, row.more)
			k, other := g.create(t, "App"), g.create(t, "Other")
			out, errOut := g.revoke(t, "--client", "App", "--format", "json")
			if !strings.Contains(errOut, "no gateway is running at 127.0.0.1:") || !strings.HasSuffix(errOut, row.where+"\n") {
				t.Errorf("it does not say what it did: %s", errOut)
			}
			var entry struct{ Client, Expires string }
			if err := json.Unmarshal([]byte(out), &entry); err != nil || entry.Client != "App" || entry.Expires == "" {
				t.Errorf("%v: %s", err, out)
			}
			g.start(t)
			g.answers(t, other.Key, 200)
			g.answers(t, k.Key, 401)
		})
	}
}

func TestRevokeMisuse(t *testing.T) {
	g := writeKeyGateway(t, "[auth.jwt.main]\nissuer = \"https://auth.example.com/\"\naudiences = [\"a\"]\nalgorithms = [\"HS256\"]\nsecret = \"0123456789abcdef0123456789abcdef\"\n")
	rows := []struct {
		intent string
		args   []string
		want   string
	}{
		{"nothing", nil, "want one of --jti, --sub, --client and --key"},
		{"two things", []string{"--jti", "a", "--client", "b"}, "want one of --jti, --sub, --client and --key"},
		{"an argument", []string{"a"}, "unknown command"},
		{"an issuer of a client", []string{"--client", "a", "--issuer", "main"}, "--issuer goes with --jti and --sub only"},
		{"an issuer that there is not", []string{"--jti", "a", "--issuer", "mian"}, `sluice: there is no issuer "mian"`},
		{"half an id", []string{"--key", "key_0123"}, "--key wants the id of a key"},
		{"a key with a typo", []string{"--key", "slk_secret"}, "--key wants the id of a key"},
		{"a time that is none", []string{"--client", "a", "--before", "yesterday"}, "--before: want a time"},
		{"no time", []string{"--client", "a", "--for", "0s"}, "--for: want a time"},
		{"a time beyond bounds", []string{"--client", "a", "--for", "4000d"}, "it ends in more than 3660 days"},
		{"a long name", []string{"--client", strings.Repeat("a", 513)}, "the id must be 1 to 512 bytes"},
		{"an unknown format", []string{"--client", "a", "--format", "xml"}, "--format is text or json"},
	}
	check := func() {
		t.Helper()
		for _, c := range rows {
			code, out, errOut := sluice(append([]string{"revoke", "-c", g.config}, c.args...)...)
			if code != exitUsage || out != "" || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "slk_secret") {
				t.Errorf("%s: exit code %d, want %q: %s%s", c.intent, code, c.want, out, errOut)
			}
		}
	}
	check()
	if text, err := os.ReadFile(filepath.Join(filepath.Dir(g.config), "revoked.log")); len(text) > 0 {
		t.Errorf("something was revoked: %s %v", text, err)
	}
	g.start(t)
	check() // the gateway says the same
	if out, errOut := g.revoke(t, "--jti", "a", "--issuer", "main"); errOut != "" || !strings.HasPrefix(out, "revoked jti a of jwt:main, until ") {
		t.Errorf("%s%s", out, errOut)
	}
}

func TestRevokeFaults(t *testing.T) {
	nobody := freeAddress(t)
	refusing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = io.WriteString(w, `{"reason":"not_revoked","detail":"the disk is full"}`)
	}))
	defer refusing.Close()
	at := func(address string) string { return "[admin]\nlisten = \"" + address + "\"\n" }
	for _, c := range []struct{ intent, config, want string }{
		{"nobody would keep it", at(nobody) + "[auth.revocation]\nfile = \"\"\n", "no gateway is running at " + nobody + "; revocations are kept in the gateway's memory only"},
		{"neither gateway nor Redis is there", at(nobody) + fmt.Sprintf(inRedis, nobody), "no gateway is running at " + nobody + "; cannot connect to Redis"},
		{"a gateway that cannot keep it has the last word", at(strings.TrimPrefix(refusing.URL, "http://")), ": the disk is full\n"},
		{"a folder in place of the log", at(nobody) + "[auth.revocation]\nfile = \".\"\n", "cannot open revocations"},
		{"a store that there is not", at(nobody) + "[auth.revocation]\nstore = \"etcd\"\n", ":4:1: auth.revocation.store: "},
		{"no configuration", "[admin", "not TOML"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			config := writeConfig(t, c.config)
			code, out, errOut := sluice("revoke", "--client", "a", "-c", config)
			if code != exitFailed || out != "" || !strings.Contains(errOut, c.want) {
				t.Errorf("exit code %d, want %q: %s%s", code, c.want, out, errOut)
			}
			if _, err := os.Stat(filepath.Join(filepath.Dir(config), "revoked.log")); err == nil {
				t.Error("it was written somewhere all the same")
			}
		})
	}
}

// While no route needs credentials, there is nothing to revoke, and nothing open.
func TestRevokeWithoutAuthentication(t *testing.T) {
	g := writeKeyGateway(t, "")
	text, err := os.ReadFile(g.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(g.config, []byte(strings.Replace(string(text), `["keys"]`, `["none"]`, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	g.start(t)
	if code, _, errOut := sluice("revoke", "--client", "a", "-c", g.config); code != exitFailed || !strings.Contains(errOut, "No route needs credentials") {
		t.Errorf("%d %s", code, errOut)
	}
	k := g.create(t, "App")
	if _, errOut := g.keys(t, "", "revoke", k.ID); errOut != "" {
		t.Errorf("%s", errOut)
	}
}
