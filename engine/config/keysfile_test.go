package config

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"
)

const goodKeys = `# a comment
[[key]]
id       = "key_0123456789abcdef"
hash     = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
client   = "MobileApp"
tier     = "gold"
scopes   = ["read:orders", "write:orders"]
rate     = "1000/h"
created  = "2026-01-02T03:04:05Z"
expires  = 2027-01-02T04:04:05+01:00
disabled = true

[[key]]
hash   = "3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d"
client = "Other"
`

func TestParseKeys(t *testing.T) {
	keys, err := ParseKeys("keys.toml", []byte(goodKeys))
	if err != nil {
		t.Fatal(err)
	}
	want := KeyEntry{
		ID: "key_0123456789abcdef", Hash: keys[0].Hash, Client: "MobileApp", Tier: "gold", Scopes: []string{"read:orders", "write:orders"},
		Rate: Rate{1000, time.Hour}, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Expires: time.Date(2027, 1, 2, 3, 4, 5, 0, time.UTC),
		Disabled: true,
	}
	if len(keys) != 2 || !reflect.DeepEqual(keys[0], want) || keys[0].Hash[0] != 0xca || keys[0].Hash[31] != 0xbb {
		t.Errorf("got %+v", keys)
	}
	if k := keys[1]; !reflect.DeepEqual(k, KeyEntry{Hash: k.Hash, Client: "Other"}) || k.Hash[0] != 0x3e {
		t.Errorf("got %+v", k)
	}
	for _, empty := range []string{"", "# nothing\n", "\ufeff"} {
		if keys, err := ParseKeys("keys.toml", []byte(empty)); err != nil || len(keys) != 0 {
			t.Errorf("%q: %v, %v", empty, keys, err)
		}
	}
}

func TestParseKeysRefuses(t *testing.T) {
	const hash = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
	for _, row := range []struct{ intent, old, new, want string }{
		{"an unknown field", "tier ", "teir ", `keys.toml:6:1: key[0].teir: unknown key (did you mean "tier"?)`},
		{"an unknown table", "# a comment", "a = 1", "keys.toml:1:1: a: unknown key"},
		{"single brackets", "[[key]]\nid", "[key]\nid", "keys.toml:13:3: not TOML: "},
		{"no hash", "hash     = \"" + hash + "\"\n", "", "keys.toml:2:3: key[0].hash: missing: "},
		{"a hash too short", hash, hash[1:], "keys.toml:4:1: key[0].hash: want the SHA-256"},
		{"a hash in upper case", hash, strings.ToUpper(hash), "keys.toml:4:1: key[0].hash: want the SHA-256"},
		{"a key in place of its hash", hash, "slk_secret", "keys.toml:4:1: key[0].hash: want the SHA-256"},
		{"no client", "\"Other\"", "\"\"", "keys.toml:15:1: key[1].client: must not be empty"},
		{"a number for a name", "\"gold\"", "1", "keys.toml:6:1: key[0].tier: want a string"},
		{"a string for a list", `["read:orders", "write:orders"]`, `"read:orders"`, "keys.toml:7:1: key[0].scopes: want a list"},
		{"a bad rate", "1000/h", "1000/hour", `(did you mean "1000/h"?)`},
		{"a date alone", `"2026-01-02T03:04:05Z"`, `"2026-01-02"`, "keys.toml:9:1: key[0].created: want a time"},
		{"a TOML date alone", `"2026-01-02T03:04:05Z"`, "2026-01-02", "keys.toml:9:1: key[0].created: want a string, not a date or time"},
		{"a time without a zone", "+01:00", "", "keys.toml:10:1: key[0].expires: want a string, not a date or time"},
		{"a word for a flag", "= true", `= "true"`, "keys.toml:11:1: key[0].disabled: want true or false"},
		{"a byte that is not UTF-8", "Other", "\xff", "keys.toml:15:11: not TOML"},
	} {
		text := strings.Replace(goodKeys, row.old, row.new, 1)
		if text == goodKeys {
			t.Fatalf("%s: the row changes nothing", row.intent)
		}
		keys, err := ParseKeys("keys.toml", []byte(text))
		var faults Faults
		if keys != nil || !errors.As(err, &faults) || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: got %v, %v, want %q", row.intent, keys, err, row.want)
		}
		if err != nil && strings.Contains(err.Error(), "slk_secret") {
			t.Errorf("%s: the error shows a key", row.intent)
		}
	}
}

// TestFormatKeys writes any entries at all and reads them again.
func TestFormatKeys(t *testing.T) {
	instant := rapid.Custom(func(t *rapid.T) time.Time {
		if rapid.Bool().Draw(t, "unset") {
			return time.Time{}
		}
		return time.Unix(rapid.Int64Range(0, 1<<37).Draw(t, "s"), rapid.Int64Range(0, 999_999_999).Draw(t, "ns")).UTC()
	})
	entry := rapid.Custom(func(t *rapid.T) KeyEntry {
		e := KeyEntry{
			ID: rapid.String().Draw(t, "id"), Client: "c" + rapid.String().Draw(t, "client"), Tier: rapid.String().Draw(t, "tier"),
			Scopes: rapid.SliceOfN(rapid.String(), 1, 3).Draw(t, "scopes"), Created: instant.Draw(t, "created"),
			Expires: instant.Draw(t, "expires"), Disabled: rapid.Bool().Draw(t, "disabled"),
		}
		copy(e.Hash[:], rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "hash"))
		if rapid.Bool().Draw(t, "rated") {
			e.Rate = Rate{rapid.Int64Min(1).Draw(t, "n"), time.Duration(rapid.Int64Range(1, int64(maxDuration)).Draw(t, "per"))}
		}
		return e
	})
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(entry, 1, 4).Draw(t, "entries")
		text := FormatKeys(want)
		got, err := ParseKeys("keys.toml", text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s\nread as %+v, %v\nwant %+v", text, got, err, want)
		}
	})
}

func FuzzParseKeys(f *testing.F) {
	f.Add([]byte(goodKeys))
	f.Add([]byte("key = [{hash='x'}]"))
	f.Add([]byte("[[key]]\n[[key.scopes]]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := ParseKeys("keys.toml", data)
		if err != nil {
			return
		}
		for _, k := range keys {
			if k.Client == "" || k.Hash == [32]byte{} && !strings.Contains(string(data), strings.Repeat("0", 64)) || !utf8.ValidString(k.Tier) {
				t.Errorf("accepted %+v", k)
			}
		}
		text := FormatKeys(keys)
		if again, err := ParseKeys("keys.toml", text); err != nil || len(again) != len(keys) {
			t.Errorf("%+v is written as %s, which is read as %+v, %v", keys, text, again, err)
		}
	})
}
