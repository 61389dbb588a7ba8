package keystore

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// TestLargestRecordFits holds the bound on what is read to the bounds on what may be written.
func TestLargestRecordFits(t *testing.T) {
	var names []string
	for _, first := range "abcdefghijklmnop" {
		names = append(names, string(first)+strings.Repeat("<", 254))
	}
	scopes, err := auth.NewScopes(names)
	if err != nil {
		t.Fatal(err)
	}
	r := record("a")
	r.Client, r.Tier, r.Scopes = strings.Repeat("\"", 256), strings.Repeat("\\", 64), scopes
	r.Rate = auth.Rate{N: 1<<63 - 1, Per: 1<<63 - 1}
	r.Expires = r.Created.Add(1)
	text, err := encodeRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := decodeRecord(r.Digest, text); err != nil || !same(got, r) {
		t.Errorf("%d bytes: got %+v, %v", len(text), got, err)
	}
}

func TestDecodeRecordIsStrict(t *testing.T) {
	r := record("a")
	text, err := encodeRecord(&r)
	if err != nil {
		t.Fatal(err)
	}
	good := string(text)
	for _, row := range []struct{ intent, text string }{
		{"empty", ""},
		{"not an object", "[]"},
		{"null", "null"},
		{"an unknown field", strings.Replace(good, `{`, `{"admin":true,`, 1)},
		{"a second record", good + good},
		{"half", good[:len(good)/2]},
		{"too long", good + strings.Repeat(" ", maxRecord)},
		{"another key's id", strings.Replace(good, r.ID, record("b").ID, 1)},
		{"no client", strings.Replace(good, r.Client, "", 1)},
		{"a control character in the client", strings.Replace(good, r.Client, `a\r\nb`, 1)},
		{"a bad scope", strings.Replace(good, "read:orders", `a\"b`, 1)},
		{"no rate", strings.Replace(good, "1000/h", "0/h", 1)},
		{"a negative rate", strings.Replace(good, "1000/h", "-1/h", 1)},
		{"a rate without a time", strings.Replace(good, "1000/h", "1000", 1)},
		{"a rate in no time", strings.Replace(good, "1000/h", "1000/0s", 1)},
		{"another type", strings.Replace(good, `"gold"`, "1", 1)},
		{"a bad time", strings.Replace(good, "2026-01-02", "2026-13-02", 1)},
	} {
		if row.text == good {
			t.Fatalf("%s: the row changes nothing", row.intent)
		}
		if got, err := decodeRecord(r.Digest, []byte(row.text)); err == nil {
			t.Errorf("%s is accepted: %+v", row.intent, got)
		}
	}
}

func TestRate(t *testing.T) {
	for _, row := range []struct {
		text string
		want auth.Rate
	}{
		{"", auth.Rate{}},
		{"1/s", auth.Rate{N: 1, Per: time.Second}},
		{"20/min", auth.Rate{N: 20, Per: time.Minute}},
		{"1000/h", auth.Rate{N: 1000, Per: time.Hour}},
		{"5000/d", auth.Rate{N: 5000, Per: 24 * time.Hour}},
		{"5/1m30s", auth.Rate{N: 5, Per: 90 * time.Second}},
	} {
		if got, err := parseRate(row.text); err != nil || got != row.want {
			t.Errorf("%q: got %v, %v", row.text, got, err)
		}
		if got := formatRate(row.want); got != row.text {
			t.Errorf("%v is written %q, want %q", row.want, got, row.text)
		}
	}
}

// FuzzDecodeRecord holds for any bytes: what is accepted is valid, and is the same when written and read again.
func FuzzDecodeRecord(f *testing.F) {
	d := auth.DigestKey([]byte("a"))
	r := record("a")
	text, err := encodeRecord(&r)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"id":"` + r.ID + `","client":"c"}`))
	f.Add([]byte(`{"id":"` + r.ID + `","client":"c","rate":"1/1ns","expires":"9999-12-31T23:59:59.999999999Z"}`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := decodeRecord(d, data)
		if err != nil {
			return
		}
		if err := got.Validate(); err != nil {
			t.Fatalf("accepted, but %v", err)
		}
		text, err := encodeRecord(&got)
		if err != nil || len(text) > maxRecord {
			t.Fatalf("cannot be written again: %d bytes, %v", len(text), err)
		}
		if again, err := decodeRecord(d, text); err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("read %+v, written and read again %+v, %v", got, again, err)
		}
	})
}
