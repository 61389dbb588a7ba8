package revocation

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestKindsAreWords(t *testing.T) {
	for k := Token; k <= kinds; k++ {
		if got, err := ParseKind(k.String()); got != k || err != nil {
			t.Errorf("ParseKind(%q) = %v, %v", k.String(), got, err)
		}
	}
	for _, text := range []string{"", "tokens", "kind(0)", "kind(5)"} {
		if k, err := ParseKind(text); !errors.Is(err, ErrInvalid) {
			t.Errorf("ParseKind(%q) = %v, %v, want %v", text, k, err, ErrInvalid)
		}
	}
}

// anyEntry is any that is well formed.
func anyEntry(t *rapid.T) Entry {
	moment := func(name string) time.Time {
		return time.Unix(0, rapid.Int64Range(1, endOfTime*1e9-1).Draw(t, name)).UTC()
	}
	e := Entry{
		Kind: Kind(rapid.IntRange(int(Token), kinds).Draw(t, "kind")),
		ID:   rapid.StringN(1, 120, MaxID).Draw(t, "id"), Expires: moment("expires"),
	}
	if rapid.Bool().Draw(t, "limited") {
		e.Before, e.Created = moment("before"), moment("created")
	}
	if e.Kind == Token || e.Kind == Subject {
		e.Issuer = rapid.StringN(0, 60, MaxIssuer).Draw(t, "issuer")
	}
	return e
}

func TestBinaryFormIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := anyEntry(t)
		b, err := e.AppendBinary([]byte("front"))
		if err != nil {
			t.Fatal(err)
		}
		b = b[len("front"):]
		if len(b) > MaxEntrySize {
			t.Fatalf("%d bytes, more than %d", len(b), MaxEntrySize)
		}
		got, rest, err := DecodeEntry(append(bytes.Clone(b), "tail"...))
		if err != nil || got != e || string(rest) != "tail" {
			t.Fatalf("decoded %+v, rest %q, %v; want %+v", got, rest, err, e)
		}
		cut := rapid.IntRange(0, len(b)-1).Draw(t, "cut")
		if _, _, err := DecodeEntry(b[:cut]); !errors.Is(err, ErrInvalid) {
			t.Fatalf("cut after %d bytes: %v, want %v", cut, err, ErrInvalid)
		}
	})
}

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range []Entry{
		{Kind: Token, ID: "id", Issuer: "jwt:main", Before: at(0), Expires: at(1), Created: at(0)},
		{Kind: Client, ID: "client", Expires: at(1)},
	} {
		b, err := e.AppendBinary(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, rest, err := DecodeEntry(b)
		if err != nil {
			if !errors.Is(err, ErrInvalid) {
				t.Fatalf("failed with %v, want %v", err, ErrInvalid)
			}
			return
		}
		again, err := e.AppendBinary(nil)
		if err != nil || !bytes.Equal(again, b[:len(b)-len(rest)]) {
			t.Fatalf("%x is read as %+v, which is written as %x, %v", b, e, again, err)
		}
	})
}
