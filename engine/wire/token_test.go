package wire

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestTokenKnowsEveryByte(t *testing.T) {
	const tchar = "!#$%&'*+-.^_`|~" + "0123456789" + "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + "abcdefghijklmnopqrstuvwxyz"
	for c := range 256 {
		b := []byte{byte(c)}
		if got, want := Token(b), bytes.Contains([]byte(tchar), b); got != want {
			t.Errorf("Token(%q) = %v, want %v", b, got, want)
		}
	}
	if Token(nil) {
		t.Error("the empty string is no token")
	}
}

// A control must be found wherever it stands in a word, and whatever stands around it.
func TestFirstControlFindsEveryControlEverywhere(t *testing.T) {
	for _, filler := range []byte{' ', 'x', '~', 0x80, 0xff, 0x9f} {
		for length := range 20 {
			clean := bytes.Repeat([]byte{filler}, length)
			if got := firstControl(clean, 0); got != length {
				t.Fatalf("%d of %#x: control at %d", length, filler, got)
			}
			for at := range length {
				for c := range 256 {
					b := bytes.Clone(clean)
					b[at] = byte(c)
					want := length
					if c < 0x20 || c == 0x7f {
						want = at
					}
					if got := firstControl(b, 0); got != want {
						t.Fatalf("%q: control at %d, want %d", b, got, want)
					}
					if got := firstControl(b, at); got != want {
						t.Fatalf("%q from %d: control at %d, want %d", b, at, got, want)
					}
				}
			}
		}
	}
}

// A token must end at the same byte on the fast path, which knows words, and behind it.
func TestTokenPrefixEndsAtTheFirstOtherByte(t *testing.T) {
	for _, filler := range []byte{'a', 'Z', '-', '0', '~'} {
		for length := range 20 {
			clean := bytes.Repeat([]byte{filler}, length)
			if got := tokenPrefix(clean); got != length {
				t.Fatalf("%d of %q: token of %d", length, filler, got)
			}
			for at := range length {
				for c := range 256 {
					b := bytes.Clone(clean)
					b[at] = byte(c)
					want := length
					if !tokenBytes[c] {
						want = at
					}
					if got := tokenPrefix(b); got != want {
						t.Fatalf("%q: token of %d, want %d", b, got, want)
					}
				}
			}
		}
	}
}

func TestFieldValue(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  bool
	}{
		{"", true},                                // a field may be empty
		{"text/html; q=0.9", true},                // ordinary
		{"a\tb\tc\td\te\tf\tg\th\ti", true},       // HTAB is whitespace, not a control
		{"gr\xc3\xbc\xc3\x9fe", true},             // obs-text
		{"a\x00b", false},                         // NUL ends strings elsewhere
		{"a\rb", false},                           // CR ends lines elsewhere
		{"a\nb", false},                           // LF ends lines elsewhere
		{"a\x7f", false},                          // DEL is a control too
		{"ok\t" + strings.Repeat(".", 9), true},   // a word boundary behind the HTAB
		{"ok\t" + "12345678" + "\x01rest", false}, // a control behind an HTAB
	} {
		if got := FieldValue([]byte(tt.value)); got != tt.want {
			t.Errorf("FieldValue(%q) = %v", tt.value, got)
		}
	}
}

func TestEqualFold(t *testing.T) {
	for _, tt := range []struct {
		a, lower string
		want     bool
	}{
		{"Content-Length", "content-length", true},
		{"CONTENT-LENGTH", "content-length", true},
		{"content_length", "content-length", false},    // an alias, not the name
		{"content-lengt\xe8", "content-length", false}, // Latin-1 does not fold
		{"\u212aeep", "keep", false},                   // the Kelvin sign does not fold to k
		{"content-lengt", "content-length", false},     // a prefix
		{"\x4b", "\x6b", true},                         // K, k
		{"@", "`", false},                              // just below the letters
		{"[", "{", false},                              // just above
	} {
		if got := EqualFold([]byte(tt.a), tt.lower); got != tt.want {
			t.Errorf("EqualFold(%q, %q) = %v", tt.a, tt.lower, got)
		}
	}
}

func TestTokens(t *testing.T) {
	for _, tt := range []struct {
		value string
		want  []string
	}{
		{"close", []string{"close"}},
		{"close,TE", []string{"close", "TE"}},
		{" close \t,\tTE ", []string{"close", "TE"}}, // whitespace is optional on both sides
		{",, ,close,,", []string{"close"}},           // empty elements do not count (RFC 9110, 5.6.1.2)
		{"", nil},
		{" , ", nil},
		{"keep alive", []string{"keep alive"}}, // not a token, and the caller's to judge
	} {
		var got []string
		for tok := range Tokens([]byte(tt.value)) {
			got = append(got, string(tok))
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("Tokens(%q): %q, want %q", tt.value, got, tt.want)
		}
	}
}

func TestHasToken(t *testing.T) {
	for _, tt := range []struct {
		value, token string
		want         bool
	}{
		{"keep-alive, Upgrade", "upgrade", true},
		{"UPGRADE", "uPgRaDe", true},
		{"upgrade-insecure-requests", "upgrade", false}, // a longer token
		{"not upgrade", "upgrade", false},               // a word of an element is not an element
		{"", "upgrade", false},
	} {
		if got := HasToken([]byte(tt.value), []byte(tt.token)); got != tt.want {
			t.Errorf("HasToken(%q, %q) = %v", tt.value, tt.token, got)
		}
	}
}
