package config

import (
	"encoding/hex"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
)

// KeyEntry is one [[key]] of the key store's file: who an API key stands for. The key itself is nowhere.
type KeyEntry struct {
	ID       string    // public name; empty: made from the hash
	Hash     [32]byte  // SHA-256 of the key
	Client   string    // who is metered, and told to upstreams
	Tier     string    // of the client; may be empty
	Scopes   []string  // OAuth 2.0 scopes
	Rate     Rate      // the key's own, which wins over limits' rates; zero: none
	Created  time.Time // zero: unknown
	Expires  time.Time // zero: never
	Disabled bool
}

// keyTable is what a [[key]] has in the file. Times are strings, or TOML's own dates.
type keyTable struct {
	ID       string   `toml:"id" doc:"public name of the key, for logs and for sluice keys; made from the hash"`
	Hash     string   `toml:"hash" required:"true" doc:"SHA-256 of the key, 64 lower-case hexadecimal digits"`
	Client   string   `toml:"client" required:"true" doc:"who the key stands for"`
	Tier     string   `toml:"tier" doc:"tier of the client"`
	Scopes   []string `toml:"scopes" doc:"what the key may be used for"`
	Rate     Rate     `toml:"rate" doc:"the key's own rate, which wins over limits' rates"`
	Created  string   `toml:"created" doc:"when the key was made, as RFC 3339"`
	Expires  string   `toml:"expires" doc:"when it stops working, as RFC 3339"`
	Disabled bool     `toml:"disabled" doc:"true: the key does not work for now"`
}

// ParseKeys reads the text of a key file, and names every fault with its place; name is the file's, for that.
// An empty text has no keys. What the fields may hold beyond their type is for the store to say.
func ParseKeys(name string, data []byte) ([]KeyEntry, error) {
	text := strings.TrimLeft(string(data), byteOrderMark)
	if i := invalidUTF8(text); i >= 0 {
		return nil, Faults{faultIn(name, text, i, "not TOML: this byte is not UTF-8")}
	}
	raw := make(map[string]any)
	if _, err := toml.Decode(text, &raw); err != nil {
		return nil, Faults{syntaxFault(name, text, err)}
	}
	writeDates(raw)

	var file struct {
		Key []keyTable `toml:"key" doc:"the keys"`
	}
	l := loader{file: &File{source: source{name: name, at: locate(text)}}}
	l.table(reflect.ValueOf(&file).Elem(), raw, "")
	entries := make([]KeyEntry, len(file.Key))
	for i := range file.Key {
		entries[i] = l.keyEntry(&file.Key[i], elementKey("key", i))
	}
	if err := l.faults.Sorted().Err(); err != nil {
		return nil, err
	}
	return entries, nil
}

// writeDates makes strings of the dates of TOML that have a time zone. Others are left, and are a fault.
func writeDates(raw map[string]any) {
	tables, _ := raw["key"].([]map[string]any)
	for _, table := range tables {
		for _, name := range []string{"created", "expires"} {
			if t, ok := table[name].(time.Time); ok && !strings.HasSuffix(t.Location().String(), "-local") {
				table[name] = t.Format(time.RFC3339Nano)
			}
		}
	}
}

func (l *loader) keyEntry(table *keyTable, key string) KeyEntry {
	e := KeyEntry{
		ID:       table.ID,
		Client:   table.Client,
		Tier:     table.Tier,
		Scopes:   table.Scopes,
		Rate:     table.Rate,
		Created:  l.instant(table.Created, childKey(key, "created")),
		Expires:  l.instant(table.Expires, childKey(key, "expires")),
		Disabled: table.Disabled,
	}
	hash, err := hex.DecodeString(table.Hash)
	if table.Hash != "" && (err != nil || len(hash) != len(e.Hash) || strings.ToLower(table.Hash) != table.Hash) {
		l.keyFault(childKey(key, "hash"), "want the SHA-256 of a key in 64 lower-case hexadecimal digits") // it may be the key itself
	}
	copy(e.Hash[:], hash)
	return e
}

// keyFault is fault for a rule that gateway.toml has not.
func (l *loader) keyFault(key, format string, args ...any) {
	l.faults = append(l.faults, l.file.FaultAt(key, format, args...))
}

func (l *loader) instant(text, key string) time.Time {
	if text == "" {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		l.keyFault(key, "want a time such as \"2027-01-31T00:00:00Z\", not %q", text)
	}
	return t.UTC()
}

// FormatKeys writes a key file that ParseKeys reads. Comments of an older file are not in it.
func FormatKeys(entries []KeyEntry) []byte {
	b := []byte("# API keys of Sluice, written by `sluice keys`, which keeps no comments. It holds hashes, never keys.\n")
	for i := range entries {
		b = append(b, entries[i].format()...)
	}
	return b
}

func (e *KeyEntry) format() []byte {
	var b []byte
	line := func(name, value string) { b = fmt.Appendf(b, "%s = %s\n", name, value) }
	b = append(b, "\n[[key]]\n"...)
	if e.ID != "" {
		line("id", quoteTOML(e.ID))
	}
	line("hash", quoteTOML(hex.EncodeToString(e.Hash[:])))
	line("client", quoteTOML(e.Client))
	if e.Tier != "" {
		line("tier", quoteTOML(e.Tier))
	}
	if len(e.Scopes) > 0 {
		quoted := make([]string, len(e.Scopes))
		for i, scope := range e.Scopes {
			quoted[i] = quoteTOML(scope)
		}
		line("scopes", "["+strings.Join(quoted, ", ")+"]")
	}
	if e.Rate != (Rate{}) {
		line("rate", quoteTOML(e.Rate.String()))
	}
	if !e.Created.IsZero() {
		line("created", quoteTOML(e.Created.UTC().Format(time.RFC3339Nano)))
	}
	if !e.Expires.IsZero() {
		line("expires", quoteTOML(e.Expires.UTC().Format(time.RFC3339Nano)))
	}
	if e.Disabled {
		line("disabled", "true")
	}
	return b
}

// quoteTOML writes a basic string; Go's own notation has escapes that TOML has not.
func quoteTOML(text string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range text {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < ' ' || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04X", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
