package config

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/BurntSushi/toml"
)

func parseFile(t *testing.T, path string) (*File, Faults) {
	t.Helper()
	return Parse("gateway.toml", readFile(t, path), testEnvironment())
}

func TestGoodFilesHaveNoFaults(t *testing.T) {
	paths, _ := filepath.Glob("testdata/good/*.toml")
	if len(paths) < 2 {
		t.Fatalf("found only %v", paths)
	}
	for _, path := range paths {
		if _, faults := parseFile(t, path); len(faults) > 0 {
			t.Errorf("%s:\n%v", path, faults)
		}
	}
}

func TestLoadedValues(t *testing.T) {
	f, _ := parseFile(t, "testdata/good/full.toml")
	users, uploads := f.Route[0], f.Route[1]
	stable, canary10 := f.Upstream["users-stable"], f.Split["users-canary-10"]
	for _, row := range []struct {
		intent    string
		got, want any
	}{
		{"a duration", f.Server.Drain, 45 * time.Second},
		{"a size", f.Server.MaxHeaderBytes, 32 * KiB},
		{"ranges of addresses", f.Server.TrustedProxies[0], netip.MustParsePrefix("10.0.0.0/8")},
		{"a secret from the environment", f.Admin.Token.Reveal(), canary},
		{"an empty string in place of a default", f.Auth.Identity.Tier, ""},
		{"a target without a weight has 1", stable.Targets[0].Weight, 1},
		{"a target with a weight", stable.Targets[1].Weight, 2},
		{"a target's host", stable.Targets[1].URL.Host, "10.0.1.55:3003"},
		{"an inline table is a table", stable.Timeouts.Response, 5 * time.Second},
		{"a bound on requests in flight", stable.MaxInFlight, 64},
		{"what a table leaves out keeps its default", stable.Retry.Budget, 0.2},
		{"a map of weights", canary10.Weights["users-stable"], 90},
		{"cases of a switch", f.Switch["users-by-version"].Cases["v2"], "users-canary-10"},
		{"a route without auth takes that of [defaults]", users.Auth[0], "none"},
		{"a route's own body limit", users.MaxBodyBytes, 64 * KiB},
		{"\"0\" is no limit, and is not inherited over", uploads.MaxBodyBytes, Size(0)},
		{"a route's default timeout", uploads.Timeout, 30 * time.Second},
		{"header edits", users.RequestHeaders.Set["X-Edge"], "eu-1"},
		{"no cors table", users.CORS == nil, true},
		{"a breaker without a word of it", stable.Breaker != nil, true},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %v, want %v", row.intent, row.got, row.want)
		}
	}
}

func TestRouteInheritsBodyLimitOfServer(t *testing.T) {
	f, _ := Parse("x.toml", []byte("[server]\nmax_body_bytes = \"1MiB\"\n[[route]]\nname = \"a\"\n"), Environment{})
	if got := f.Route[0].MaxBodyBytes; got != MiB {
		t.Errorf("got %v", got)
	}
}

func TestRelativePathsStartAtTheFilesFolder(t *testing.T) {
	data := readFile(t, "testdata/good/full.toml")
	var asked string
	f, _ := Parse("/srv/shop/gateway.toml", []byte("[admin]\ntoken = \"file:admin.key\"\n"+strings.Replace(string(data), "[admin]\nlisten = \"10.0.0.5:9901\"\ntoken  = \"env:CANARY\"\n", "", 1)), Environment{
		ReadFile: func(path string) ([]byte, error) { asked = path; return []byte("x"), nil },
	})
	for _, row := range []struct{ intent, got, want string }{
		{"a secret's file", asked, "/srv/shop/admin.key"},
		{"a certificate", f.Server.TLS.Certificates[0].Cert, "/srv/shop/tls/shop.pem"},
		{"an absolute path stays", f.Server.TLS.Certificates[1].Cert, "/etc/ssl/partner.pem"},
		{"a socket", f.Server.Listen[1], "unix:/srv/shop/run/sluice.sock"},
		{"an address stays", f.Server.Listen[0], ":80"},
		{"inside a named table", f.Upstream["users-canary"].TLS.CA, "/srv/shop/tls/internal-ca.pem"},
		{"an empty path stays", f.Upstream["users-stable"].TLS.CA, ""},
		{"a default", f.Auth.Keys.File, "/srv/shop/keys.toml"},
		{"the access log's words stay", f.Log.Access, "off"},
	} {
		if row.got != row.want {
			t.Errorf("%s: got %q, want %q", row.intent, row.got, row.want)
		}
	}
}

// TestContract loads a file that has every key: all of it must be understood, and the rows of notYet must be all that is refused.
func TestContract(t *testing.T) {
	_, faults := parseFile(t, "testdata/contract.toml")
	var got []string
	for _, f := range faults {
		if f.Message != "not supported yet" {
			t.Errorf("%v", f)
		}
		got = append(got, f.Key)
	}
	want := []string{
		"server.tls.http2",
		"server.tls.acme",
		"route[0].cors",
	}
	if !slices.Equal(got, want) {
		t.Errorf("refused\n%q\nwant\n%q", got, want)
	}
}

// TestContractWritesEveryKey keeps testdata/contract.toml whole; that it has no other keys is TestContract's.
func TestContractWritesEveryKey(t *testing.T) {
	f, _ := parseFile(t, "testdata/contract.toml")
	walkTables(reflect.ValueOf(f).Elem(), "", func(table reflect.Value, key string) {
		if strings.HasPrefix(key, "upstream.users-canary") {
			return
		}
		for _, field := range tableFields(table.Type()) {
			if name := childKey(key, field.Tag.Get("toml")); f.source.at[name] == (position{}) {
				t.Errorf("no %s", name)
			}
		}
	})
}

// walkTables visits every table that was written as one.
func walkTables(v reflect.Value, key string, visit func(table reflect.Value, key string)) {
	switch {
	case isScalar(v.Type()):
	case v.Kind() == reflect.Pointer:
		if !v.IsNil() {
			walkTables(v.Elem(), key, visit)
		}
	case v.Kind() == reflect.Struct:
		visit(v, key)
		for _, f := range tableFields(v.Type()) {
			walkTables(v.FieldByIndex(f.Index), childKey(key, f.Tag.Get("toml")), visit)
		}
	case v.Kind() == reflect.Slice && v.Type() != reflect.TypeFor[[]Target]():
		for i := range v.Len() {
			walkTables(v.Index(i), elementKey(key, i), visit)
		}
	case v.Kind() == reflect.Map:
		for name, element := range v.Seq2() {
			walkTables(element, childKey(key, name.String()), visit)
		}
	}
}

// TestDefaultsAreTheContracts compares each value of testdata/contract.toml with the default of its key, except
// where the contract says "(example)" or a value only makes sense in its example.
func TestDefaultsAreTheContracts(t *testing.T) {
	examples := []string{
		"server.tls.certificates[0].cert", "server.tls.certificates[0].key",
		"server.tls.acme.domains", "server.tls.acme.email",
		"redis.url", "cluster.peers", "cluster.secret",
		"auth.jwt.main.issuer", "auth.jwt.main.audiences", "auth.jwt.main.jwks",
		"auth.introspection.partner.url", "auth.introspection.partner.client_id", "auth.introspection.partner.client_secret",
		"limit[0].name", "limit[0].rate", "limit[0].burst",
		"switch.users-by-version.header", "switch.users-by-version.default",
		"route[0].name", "route[0].path", "route[0].strip_prefix", "route[0].auth", "route[0].scopes", "route[0].limits",
		"route[0].to", "route[0].max_body_bytes", "route[0].response_headers.remove",
	}
	var raw map[string]any
	if _, err := toml.Decode(string(readFile(t, "testdata/contract.toml")), &raw); err != nil {
		t.Fatal(err)
	}
	l := loader{file: Default(), env: testEnvironment()}
	l.table(reflect.ValueOf(l.file).Elem(), raw, "")
	walkTables(reflect.ValueOf(l.file).Elem(), "", func(table reflect.Value, key string) {
		defaults := reflect.New(table.Type()).Elem()
		setDefaults(defaults)
		for _, f := range tableFields(table.Type()) {
			name := childKey(key, f.Tag.Get("toml"))
			isValue := isScalar(f.Type) || f.Type == reflect.TypeFor[[]string]()
			if !isValue || slices.Contains(examples, name) {
				continue
			}
			got, want := defaults.FieldByIndex(f.Index), table.FieldByIndex(f.Index)
			if fmt.Sprint(got.Interface()) != fmt.Sprint(want.Interface()) {
				t.Errorf("%s: the default is %v, the contract says %v", name, got, want)
			}
		}
	})
}

func TestSecretsAreNeverShown(t *testing.T) {
	text := "[admin]\ntoken = \"env:CANARY\"\n[redis]\nurl = \"env:CANARY\"\n[cluster]\nsecret = \"file:canary.key\"\n" +
		"[auth.jwt.a]\nsecret = \"env:CANARY\"\nissuer = \"i\"\n[auth.introspection.b]\nclient_secret = \"env:CANARY\"\n"
	f, faults := Parse("gateway.toml", []byte(text), testEnvironment())
	if f.Admin.Token.Reveal() != canary || f.Auth.JWT["a"].Secret.Reveal() != canary {
		t.Fatal("the secrets were not read")
	}
	shown := []any{f, *f, f.Admin, *f.Redis, *f.Cluster, *f.Auth.JWT["a"], *f.Auth.Introspection["b"], f.Admin.Token, &f.Admin.Token}
	for _, value := range shown {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if out := fmt.Sprintf(verb, value); strings.Contains(out, canary) || strings.Contains(out, fmt.Sprintf("%x", canary)) {
				t.Errorf("%s of %T shows a secret", verb, value)
			}
		}
		out, err := json.Marshal(value)
		if err != nil || strings.Contains(string(out), canary) {
			t.Errorf("JSON of %T shows a secret, or fails: %v", value, err)
		}
	}
	if strings.Contains(faults.Error(), canary) {
		t.Errorf("a fault shows a secret:\n%v", faults)
	}
	for _, change := range Diff(Default(), f) {
		if strings.Contains(fmt.Sprint(change), canary) {
			t.Errorf("a change shows a secret: %v", change.Key)
		}
	}
}

func TestLoadSaysWhyAFileCannotBeRead(t *testing.T) {
	f, faults := Load("testdata/none.toml")
	if f != nil || faults.Error() != "testdata/none.toml:1:1: cannot read: no such file or directory" {
		t.Errorf("got %v, %v", f, faults)
	}
}

func TestLoadReadsAFile(t *testing.T) {
	f, faults := Load("testdata/good/minimal.toml")
	if len(faults) > 0 || len(f.Route) != 1 {
		t.Errorf("got %v, %v", f, faults)
	}
}

func TestHashTellsFilesApart(t *testing.T) {
	a, _ := Parse("a.toml", []byte("# a"), Environment{})
	b, _ := Parse("b.toml", []byte("# b"), Environment{})
	again, _ := Parse("c.toml", []byte("# a"), Environment{})
	if len(a.Hash()) != 12 || a.Hash() == b.Hash() || a.Hash() != again.Hash() {
		t.Errorf("got %q, %q, %q", a.Hash(), b.Hash(), again.Hash())
	}
	if got := Default().Hash(); got != "" {
		t.Errorf("a File without text has hash %q", got)
	}
}

func TestNoFaultsAreNoError(t *testing.T) {
	if err := Faults(nil).Err(); err != nil {
		t.Errorf("got %v", err)
	}
	if err := (Faults{{}}).Err(); err == nil {
		t.Error("a fault is not an error")
	}
}
