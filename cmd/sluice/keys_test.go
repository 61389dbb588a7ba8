package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/engine"
)

func TestKeysLife(t *testing.T) {
	onBothStores(t, func(t *testing.T, f keyFixture) {
		now := time.Now()
		made := f.view(t, "create", "--client", "MobileApp", "--tier", "gold", "--scopes", "write:orders,read:orders", "--rate", "1000/h", "--expires", "90d")
		p := f.works(t, made.Key, now, true)
		if p.Client != "MobileApp" || p.User != "MobileApp" || p.Tier != "gold" || p.Scopes.String() != "read:orders write:orders" ||
			p.Rate != (auth.Rate{N: 1000, Per: time.Hour}) || p.Credential != made.ID || !p.Expires.Equal(made.Expires) {
			t.Errorf("the key stands for %+v", p)
		}
		if life := made.Expires.Sub(now); !auth.LooksLikeKey(made.Key) || life < 90*day || life > 90*day+time.Hour {
			t.Errorf("made %+v", made)
		}
		f.works(t, made.Key, now.Add(91*day), false)
		shown := f.view(t, "show", made.ID)
		if byKey := f.view(t, "show", made.Key); !reflect.DeepEqual(shown, byKey) || shown.Key != "" || shown.State != "active" {
			t.Errorf("by its id %+v, by itself %+v", shown, byKey)
		}
		if out, errOut := f.keys(t, made.Key+"\n", "disable", "-"); out != "disabled "+made.ID+" of MobileApp\n" || errOut != "" {
			t.Errorf("disable: %s%s", out, errOut)
		}
		f.works(t, made.Key, now, false)
		if k := f.view(t, "enable", made.Key); k.State != "active" {
			t.Errorf("enabled: %+v", k)
		}
		f.works(t, made.Key, now, true)

		next := f.view(t, "rotate", made.ID, "--overlap", "7d")
		like := next
		like.ID, like.Key, like.Created, like.Replaces, like.Until = made.ID, made.Key, made.Created, "", time.Time{}
		if !reflect.DeepEqual(like, made) || next.Replaces != made.ID || next.ID == made.ID || next.Key == made.Key {
			t.Errorf("rotated %+v to %+v", made, next)
		}
		f.works(t, made.Key, now, true)
		f.works(t, next.Key, now, true)
		f.works(t, made.Key, now.Add(8*day), false)
		f.works(t, next.Key, now.Add(8*day), true)

		last := f.view(t, "rotate", next.Key)
		if !last.Until.IsZero() || last.Replaces != next.ID {
			t.Errorf("rotated at once: %+v", last)
		}
		f.works(t, next.Key, now, false)
		f.works(t, last.Key, now, true)
		var listed []keyJSON
		out, _ := f.keys(t, "", "list", "--format", "json")
		if err := json.Unmarshal([]byte(out), &listed); err != nil || len(listed) != 2 {
			t.Errorf("%v: %s", err, out)
		}
		f.keys(t, "", "revoke", last.ID)
		f.works(t, last.Key, now, false)
		f.keys(t, "", "revoke", made.Key)
		f.works(t, made.Key, now, false)
		if out, _ := f.keys(t, "", "list"); out != "no keys\n" {
			t.Errorf("after all are revoked: %s", out)
		}
		if code, _, errOut := sluice("keys", "revoke", made.Key, "-c", f.config); code != exitFailed || !strings.Contains(errOut, "there is no key "+made.ID) {
			t.Errorf("revoked twice: %d %s", code, errOut)
		}
	})
}

// The key is alone on standard output, so that a script can take it from there, and nowhere else.
func TestKeysArePrintedOnce(t *testing.T) {
	onBothStores(t, func(t *testing.T, f keyFixture) {
		out, errOut := f.keys(t, "", "create", "--client", "MobileApp", "--rate", "5/90s")
		key := strings.TrimSuffix(out, "\n")
		id := auth.DigestKey([]byte(key)).KeyID()
		if !auth.LooksLikeKey(key) || !strings.Contains(errOut, "id         "+id+"\n") || strings.Contains(errOut, key) {
			t.Errorf("%s%s", out, errOut)
		}
		rotated, errOut := f.keys(t, "", "rotate", key, "--overlap", "1h")
		if !auth.LooksLikeKey(strings.TrimSuffix(rotated, "\n")) || !strings.Contains(errOut, "replaces   "+id+", which works until 2") {
			t.Errorf("%s%s", rotated, errOut)
		}
		hash := auth.DigestKey([]byte(key)).String()
		for _, args := range [][]string{{"list"}, {"list", "--format", "json"}, {"show", key}, {"show", id, "--format", "json"}, {"disable", key}, {"revoke", key}} {
			out, errOut := f.keys(t, "", args...)
			if strings.Contains(out+errOut, key) || strings.Contains(out+errOut, hash) || !strings.Contains(out, id) {
				t.Errorf("%q prints %s%s", args, out, errOut)
			}
		}
		if out, _ := f.keys(t, "", "list"); !strings.HasPrefix(out, "ID ") || !strings.Contains(out, "MobileApp  -     -       5/1m30s") {
			t.Errorf("list:\n%s", out)
		}
	})
}

func TestKeysImport(t *testing.T) {
	onBothStores(t, func(t *testing.T, f keyFixture) {
		now := time.Now()
		longest := strings.Repeat("~", 512)
		idLike := "key_0123456789abcdef"
		out, errOut := f.keys(t, longest+"\r\n\nlegacy-key-of-a-partner\n"+idLike+"\nshort", "import", "--client", "Partner", "--scopes", "read:orders")
		if strings.Count(out, "key_") != 4 || strings.Contains(out, idLike) || !strings.Contains(errOut, "imported 4 keys") || !strings.Contains(errOut, "1 key of fewer than 20 characters") {
			t.Errorf("%s%s", out, errOut)
		}
		for _, key := range []string{longest, "legacy-key-of-a-partner", idLike, "short"} {
			if p := f.works(t, key, now, true); p.Client != "Partner" || p.Scopes.String() != "read:orders" {
				t.Errorf("%s: %+v", key, p)
			}
		}
		if k := f.view(t, "show", idLike); k.ID == idLike {
			t.Errorf("a key that looks like an id: %+v", k)
		}
		code, out, errOut := f.run("short\nanother key\n", "import", "--client", "Other")
		if code != exitFailed || out != "" || !strings.Contains(errOut, "line 2 is no key") || strings.Contains(errOut, "another") {
			t.Errorf("a space: %d %s%s", code, out, errOut)
		}
		code, out, errOut = f.run("short\na-key-that-is-new-here\n", "import", "--client", "Other")
		if code != exitFailed || strings.Count(out, "key_") != 1 || !strings.Contains(errOut, "line 1 (key_") {
			t.Errorf("one that is there: %d %s%s", code, out, errOut)
		}
		if p := f.works(t, "short", now, true); p.Client != "Partner" {
			t.Errorf("what was there is changed: %+v", p)
		}
		f.works(t, "a-key-that-is-new-here", now, true)

		f.keys(t, "", "revoke", "short")
		f.works(t, "short", now, false)
		f.keys(t, "short", "import", "--client", "Partner")
		f.works(t, "short", now, true)
	})
}

func (f keyFixture) run(in string, args ...string) (code int, out, errOut string) {
	var stdout, stderr strings.Builder
	code = execute(append([]string{"keys", "-c", f.config}, args...), strings.NewReader(in), &stdout, &stderr)
	return code, stdout.String(), stderr.String()
}

// A batch with one bad line is not stored at all.
func TestKeysImportRefuses(t *testing.T) {
	f := keyFixture{config: writeConfig(t, verbConfig)}
	for _, c := range []struct{ intent, in, want string }{
		{"nothing", "", "no keys on standard input"},
		{"blank lines", "\n\r\n", "no keys on standard input"},
		{"a byte too long", "good-1\n" + strings.Repeat("x", 513), "line 2 is no key"},
		{"a line without an end", "good-1\n" + strings.Repeat("x", 1<<20), "line 2 is no key: it is longer than 512 bytes"},
		{"a control character", "good-1\nsecret\x07\n", "line 2 is no key"},
		{"a letter beyond ASCII", "good-1\nsecrét\n", "line 2 is no key"},
		{"the same key twice", "good-1\n\nsecret\nsecret\n", "line 4 has the key of line 3 again"},
	} {
		code, out, errOut := f.run(c.in, "import", "--client", "c")
		if code != exitFailed || out != "" || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "secr") {
			t.Errorf("%s: %d %s%s", c.intent, code, out, errOut)
		}
	}
	if out, _ := f.keys(t, "", "list"); out != "no keys\n" {
		t.Errorf("something was stored:\n%s", out)
	}
}

func TestKeysMisuse(t *testing.T) {
	f := keyFixture{config: writeConfig(t, verbConfig)}
	create := func(flags ...string) []string { return append([]string{"create", "--client", "c"}, flags...) }
	for _, c := range []struct {
		intent string
		args   []string
		want   string
	}{
		{"no verb that there is", []string{"make"}, "unknown command"},
		{"nobody", []string{"create"}, "--client is missing"},
		{"an empty client", []string{"create", "--client", ""}, "--client is missing"},
		{"a long client", []string{"create", "--client", strings.Repeat("c", 257)}, "sluice: a client has 1 to 256 bytes"},
		{"a client that breaks headers", []string{"create", "--client", "a\r\nb"}, "a client has 1 to 256 bytes without control"},
		{"a tier that breaks tables", create("--tier", "a\tb"), "a tier has at most 64 bytes"},
		{"a scope in quotes", create("--scopes", `a,"b"`), `"\"b\"" is no scope`},
		{"scopes beyond measure", create("--scopes", strings.Repeat("x", 4097)), "scopes are longer than"},
		{"a habit", create("--rate", "1000/hour"), `(did you mean "1000/h"?)`},
		{"no rate at all", create("--rate", "0/h"), "want a rate"},
		{"more than can be counted", create("--rate", "1000000001/h"), "from 1 to 1000000000 in a period"},
		{"a period beyond bounds", create("--rate", "1/9000h"), "a period lasts from"},
		{"an end that was", create("--expires", "2020-01-01"), "is not in the future"},
		{"an end at once", create("--expires", "0d"), "is not in the future"},
		{"an end that is none", create("--expires", "soon"), "want a time such as 90d"},
		{"a negative end", create("--expires", "-1h"), "want a time such as 90d"},
		{"an end beyond the calendar", create("--expires", "9999-12-31T23:59:59-10:00"), "outside of the years"},
		{"an argument too many", create("x"), "unknown command"},
		{"no key", []string{"show"}, "accepts 1 arg(s)"},
		{"no text of a key", []string{"show", "a b"}, "neither an id nor a key"},
		{"an overlap that is none", []string{"rotate", "key_0123456789abcdef", "--overlap", "-1s"}, "--overlap: want a time"},
		{"an unknown format", []string{"list", "--format", "xml"}, "--format is text or json"},
	} {
		code, out, errOut := f.run("", c.args...)
		if code != exitUsage || out != "" || !strings.Contains(errOut, c.want) || !strings.Contains(errOut, "Run 'sluice keys") {
			t.Errorf("%s: exit code %d, want %q: %s%s", c.intent, code, c.want, out, errOut)
		}
	}
	for _, verb := range []string{"show", "disable", "enable", "rotate", "revoke"} {
		code, out, errOut := f.run("", verb, "a-secret-that-nobody-knows")
		if code != exitFailed || out != "" || !strings.Contains(errOut, "sluice: there is no key key_") || strings.Contains(errOut, "secret") {
			t.Errorf("%s of an unknown key: %d %s%s", verb, code, out, errOut)
		}
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(f.config), "keys.toml")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was stored: %v", err)
	}
}

// A key that has expired gets a successor only with an end of its own.
func TestKeysRotateExpired(t *testing.T) {
	onBothStores(t, func(t *testing.T, f keyFixture) {
		made := f.view(t, "create", "--client", "c", "--expires", "1ms")
		time.Sleep(2 * time.Millisecond)
		if k := f.view(t, "show", made.ID); k.State != "expired" {
			t.Errorf("%+v", k)
		}
		if code, out, errOut := f.run("", "rotate", made.ID); code != exitFailed || out != "" || !strings.Contains(errOut, "has expired") {
			t.Errorf("%d %s%s", code, out, errOut)
		}
		if out, _ := f.keys(t, "", "list"); strings.Count(out, "key_") != 1 {
			t.Errorf("a key that nobody has is left:\n%s", out)
		}
		next := f.view(t, "rotate", made.ID, "--expires", "1h")
		f.works(t, next.Key, time.Now(), true)
	})
}

// meddler is a store in which somebody else removes a key as soon as another one is there.
type meddler struct {
	keystore.Store
	victim string
}

func (m meddler) Put(ctx context.Context, r auth.KeyRecord) error {
	return errors.Join(m.Store.Put(ctx, r), m.Store.Delete(ctx, m.victim))
}

// A rotation that comes too late leaves nothing behind: the old key was revoked, not replaced.
func TestKeysRotateRevoked(t *testing.T) {
	onBothStores(t, func(t *testing.T, f keyFixture) {
		for _, overlap := range []time.Duration{0, time.Hour} {
			made := f.view(t, "create", "--client", "c")
			store, closer, err := engine.OpenKeys(t.Context(), f.config)
			if err != nil {
				t.Fatal(err)
			}
			defer closer.Close()
			old, err := store.Get(t.Context(), made.ID)
			if err != nil {
				t.Fatal(err)
			}
			r := rotation{old: old, now: time.Now(), overlap: overlap}
			key, err := r.carryOut(t.Context(), meddler{store, old.ID})
			if key != "" || err == nil || err.Error() != "there is no key "+old.ID {
				t.Errorf("%q, %v", key, err)
			}
			if out, _ := f.keys(t, "", "list"); out != "no keys\n" {
				t.Errorf("a key that nobody has is left:\n%s", out)
			}
		}
	})
}

// Verbs that run at the same time lose nothing of what the others do.
func TestKeysConcurrently(t *testing.T) {
	onBothStores(t, func(t *testing.T, f keyFixture) {
		const workers, each = 6, 4
		keys := make([][]string, workers)
		var all sync.WaitGroup
		for w := range workers {
			all.Go(func() {
				for i := range each {
					code, out, errOut := f.run("", "create", "--client", fmt.Sprintf("c%d-%d", w, i))
					if code != exitOK {
						t.Errorf("%d %s", code, errOut)
						return
					}
					keys[w] = append(keys[w], strings.TrimSpace(out))
				}
			})
		}
		all.Wait()
		out, _ := f.keys(t, "", "list")
		for _, key := range slices.Concat(keys...) {
			f.works(t, key, time.Now(), true)
		}
		if strings.Count(out, "key_") != workers*each {
			t.Errorf("want %d keys:\n%s", workers*each, out)
		}
	})
}

func TestKeysStoreFaults(t *testing.T) {
	nobody := freeAddress(t)
	for _, c := range []struct {
		intent, config, keys string
		code                 int
		want                 string
	}{
		{"secrets of the gateway's environment are not needed",
			"[auth.jwt.main]\nissuer = \"i\"\naudiences = [\"a\"]\nalgorithms = [\"HS256\"]\nsecret = \"env:SLUICE_TEST_NO_SUCH_VARIABLE\"\n", "", 0, "no keys"},
		{"nor is a Redis for something else", "[redis]\nurl = \"env:SLUICE_TEST_NO_SUCH_VARIABLE\"\n", "", 0, "no keys"},
		{"a misspelt table would lead to another store", "[auth.kyes]\nstore = \"redis\"\n", "", 1, ":1:7: auth.kyes: unknown key"},
		{"at the top, too", "[auht.keys]\nstore = \"redis\"\n", "", 1, ":1:2: auht: unknown key"},
		{"a store that there is not", "[auth.keys]\nstore = \"etcd\"\n", "", 1, ":2:1: auth.keys.store: "},
		{"Redis without an address", "[auth.keys]\nstore = \"redis\"\n", "", 1, `"redis" needs a [redis] table`},
		{"a secret address", "[auth.keys]\nstore = \"redis\"\n[redis]\nurl = \"env:SLUICE_TEST_NO_SUCH_VARIABLE\"\n", "", 1, ":4:1: redis.url: environment variable"},
		{"nobody listens", fmt.Sprintf(inRedis, nobody), "", 1, "sluice: cannot open the key store: cannot connect to Redis: "},
		{"no configuration", "[auth", "", 1, "not TOML"},
		{"a bad file of keys", "", "[[key]]\nclient = \"c\"\n", 1, "keys.toml:1:3: key[0].hash: missing"},
	} {
		t.Run(c.intent, func(t *testing.T) {
			f := keyFixture{config: writeConfig(t, c.config)}
			if c.keys != "" {
				if err := os.WriteFile(filepath.Join(filepath.Dir(f.config), "keys.toml"), []byte(c.keys), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			code, out, errOut := f.run("", "list")
			if code != c.code || !strings.Contains(out+errOut, c.want) || strings.Count(out+errOut, "\n") != 1 {
				t.Errorf("exit code %d, want %q: %s%s", code, c.want, out, errOut)
			}
			if code != exitOK {
				if code, _, _ := f.run("", "create", "--client", "c"); code != exitFailed {
					t.Errorf("create: exit code %d", code)
				}
			}
		})
	}
}
