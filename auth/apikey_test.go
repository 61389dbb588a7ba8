package auth

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestNewKey(t *testing.T) {
	pattern := regexp.MustCompile(`^slk_[0-9A-Za-z]{49}$`)
	seen := map[string]bool{}
	for range 100 {
		key, id, err := NewKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !pattern.MatchString(key) || !LooksLikeKey(key) || CheckKey([]byte(key)) != nil {
			t.Errorf("%q does not look like a key", key)
		}
		if id != DigestKey([]byte(key)).KeyID() {
			t.Errorf("id %q is not that of the key", id)
		}
		if seen[key] {
			t.Errorf("%q twice", key)
		}
		seen[key] = true
	}
	if _, _, err := NewKey(bytes.NewReader(make([]byte, 31))); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("too little chance: %v", err)
	}
}

// TestKeyHasAllBits reads the random number back from the key.
func TestKeyHasAllBits(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "bits")
		key, _, err := NewKey(bytes.NewReader(bits))
		if err != nil {
			t.Fatal(err)
		}
		if got := number(key[4:47]); got.Cmp(new(big.Int).SetBytes(bits)) != 0 {
			t.Errorf("%x became %q, which is %x", bits, key, got)
		}
		if got, want := number(key[47:]).Uint64(), uint64(crc32.ChecksumIEEE([]byte(key[:47]))); got != want {
			t.Errorf("checksum of %q is %d, want %d", key, got, want)
		}
	})
}

func number(digits string) *big.Int {
	n := new(big.Int)
	for _, c := range digits {
		n.Mul(n, big.NewInt(62))
		n.Add(n, big.NewInt(int64(strings.IndexRune(base62, c))))
	}
	return n
}

func TestLooksLikeKey(t *testing.T) {
	zero, _, err := NewKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if want := "slk_" + strings.Repeat("0", 43); !strings.HasPrefix(zero, want) {
		t.Fatalf("the key of zeros is %q, want %s...", zero, want)
	}
	for i := range zero {
		for _, c := range []string{"1", "z", "-", "\x00", "é"} {
			if changed := zero[:i] + c + zero[i+1:]; changed != zero && LooksLikeKey(changed) {
				t.Errorf("%q passes, with another byte at %d", changed, i)
			}
		}
	}
	for _, text := range []string{"", "slk_", zero[1:], zero[:len(zero)-1], zero + "0", "SLK_" + zero[4:], " " + zero} {
		if LooksLikeKey(text) {
			t.Errorf("%q passes", text)
		}
	}
}

func TestKeyID(t *testing.T) {
	d := DigestKey([]byte("a"))
	id := d.KeyID()
	if !regexp.MustCompile(`^key_[0-9a-f]{16}$`).MatchString(id) {
		t.Errorf("id %q", id)
	}
	if strings.Contains(d.String(), id[4:]) {
		t.Errorf("id %q shows a part of the digest %s", id, d)
	}
}

func TestParseDigest(t *testing.T) {
	d := DigestKey([]byte("a"))
	if got, err := ParseDigest(d.String()); err != nil || got != d {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", d.String()[1:], d.String() + "0", strings.ToUpper(d.String()), strings.Repeat("g", 64)} {
		if got, err := ParseDigest(text); err == nil || got != (Digest{}) {
			t.Errorf("%q: got %v, %v", text, got, err)
		}
	}
}

func TestDigestEqual(t *testing.T) {
	d := DigestKey([]byte("a"))
	if !d.Equal(d) {
		t.Error("a digest differs from itself")
	}
	for i := range d {
		other := d
		other[i] ^= 1
		if d.Equal(other) {
			t.Errorf("a bit of byte %d makes no difference", i)
		}
	}
}

func goodRecord() KeyRecord {
	d := DigestKey([]byte("a"))
	return KeyRecord{ID: d.KeyID(), Digest: d, Client: "c", Created: time.Unix(1, 0)}
}

func TestKeyRecordValidate(t *testing.T) {
	many := make([]string, 1000)
	for i := range many {
		many[i] = fmt.Sprint("scope:", i)
	}
	scopes, err := NewScopes(many)
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		intent string
		change func(*KeyRecord)
		ok     bool
	}{
		{"the least", func(r *KeyRecord) { r.Created = time.Time{} }, true},
		{"the longest client", func(r *KeyRecord) { r.Client = strings.Repeat("c", 256) }, true},
		{"a client in another script", func(r *KeyRecord) { r.Client = "客户 ü" }, true},
		{"a rate", func(r *KeyRecord) { r.Rate = Rate{N: 1, Per: 1} }, true},
		{"an expiry", func(r *KeyRecord) { r.Expires = r.Created.Add(1) }, true},
		{"no id", func(r *KeyRecord) { r.ID = "" }, false},
		{"another's id", func(r *KeyRecord) { r.Digest[0]++ }, false},
		{"no client", func(r *KeyRecord) { r.Client = "" }, false},
		{"a client too long", func(r *KeyRecord) { r.Client = strings.Repeat("c", 257) }, false},
		{"a client that ends a header", func(r *KeyRecord) { r.Client = "a\r\nX-User-ID: root" }, false},
		{"a client with NUL", func(r *KeyRecord) { r.Client = "a\x00" }, false},
		{"a client with DEL", func(r *KeyRecord) { r.Client = "a\x7f" }, false},
		{"a client with a C1 control", func(r *KeyRecord) { r.Client = "a\u0085" }, false},
		{"a client that is not UTF-8", func(r *KeyRecord) { r.Client = "a\xff" }, false},
		{"a tier too long", func(r *KeyRecord) { r.Tier = strings.Repeat("t", 65) }, false},
		{"a tier with a control", func(r *KeyRecord) { r.Tier = "\t" }, false},
		{"too many scopes", func(r *KeyRecord) { r.Scopes = scopes }, false},
		{"a rate of none", func(r *KeyRecord) { r.Rate = Rate{Per: 1} }, false},
		{"a negative rate", func(r *KeyRecord) { r.Rate = Rate{N: -1, Per: 1} }, false},
		{"a rate in no time", func(r *KeyRecord) { r.Rate = Rate{N: 1} }, false},
		{"an end before the beginning", func(r *KeyRecord) { r.Expires = r.Created }, false},
		{"a year that cannot be written", func(r *KeyRecord) { r.Expires = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, false},
	} {
		r := goodRecord()
		row.change(&r)
		if err := r.Validate(); (err == nil) != row.ok {
			t.Errorf("%s: %v", row.intent, err)
		}
	}
}

// fixed is a store of one answer.
type fixed struct {
	p     *Principal
	err   error
	asked []Digest
}

func (f *fixed) Lookup(_ context.Context, d Digest, _ time.Time) (*Principal, error) {
	f.asked = append(f.asked, d)
	return f.p, f.err
}

func TestKeysAuthenticate(t *testing.T) {
	record := goodRecord()
	record.Tier, record.Rate, record.Expires = "gold", Rate{N: 5, Per: time.Hour}, time.Unix(100, 0)
	p := record.Principal()
	if p.Method != "keys" || p.Client != "c" || p.User != "c" || p.Tier != "gold" || p.Rate != record.Rate || p.Credential != record.ID ||
		!p.IssuedAt.Equal(record.Created) || !p.Expires.Equal(record.Expires) {
		t.Errorf("principal %+v of %+v", p, record)
	}
	for _, row := range []struct {
		intent string
		key    string
		store  fixed
		at     int64
		want   error
		asked  bool
	}{
		{"a good key", "a", fixed{p: p}, 99, nil, true},
		{"the longest key", strings.Repeat("~", 512), fixed{p: p}, 99, nil, true},
		{"an expired key that the store forgot to refuse", "a", fixed{p: p}, 100, ErrInvalid, true},
		{"a refused key", "a", fixed{err: ErrInvalid}, 0, ErrInvalid, true},
		{"a store that is away", "a", fixed{err: ErrUnavailable}, 0, ErrUnavailable, true},
		{"no key", "", fixed{p: p}, 0, ErrInvalid, false},
		{"a key too long", strings.Repeat("a", 513), fixed{p: p}, 0, ErrInvalid, false},
		{"a space", "a b", fixed{p: p}, 0, ErrInvalid, false},
		{"a control character", "a\n", fixed{p: p}, 0, ErrInvalid, false},
		{"DEL", "a\x7f", fixed{p: p}, 0, ErrInvalid, false},
		{"a byte above ASCII", "a\xe9", fixed{p: p}, 0, ErrInvalid, false},
	} {
		got, err := NewKeys(&row.store).Authenticate(t.Context(), []byte(row.key), time.Unix(row.at, 0))
		if !errors.Is(err, row.want) || (got != nil) != (row.want == nil) {
			t.Errorf("%s: %v, %v", row.intent, got, err)
		}
		if asked := len(row.store.asked) == 1 && row.store.asked[0] == DigestKey([]byte(row.key)); asked != row.asked {
			t.Errorf("%s: the store was asked %v", row.intent, row.store.asked)
		}
		if err != nil && len(row.key) > 2 && strings.Contains(err.Error(), row.key) {
			t.Errorf("%s: the error shows the key: %v", row.intent, err)
		}
	}
}

// TestDigestOpensNothing shows what is stored as if it were a key.
func TestDigestOpensNothing(t *testing.T) {
	d := DigestKey([]byte("a"))
	for _, shown := range []string{d.String(), d.KeyID(), string(d[:])} {
		if DigestKey([]byte(shown)).Equal(d) {
			t.Errorf("%q has the digest of the key", shown)
		}
	}
}

func FuzzLooksLikeKey(f *testing.F) {
	key, _, err := NewKey(bytes.NewReader(make([]byte, 32)))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(key)
	f.Add("slk_" + strings.Repeat("z", 49))
	f.Fuzz(func(t *testing.T, text string) {
		if LooksLikeKey(text) && (CheckKey([]byte(text)) != nil || keyChecksum(text[:47]) != text[47:]) {
			t.Errorf("%q passes", text)
		}
	})
}
