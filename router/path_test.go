package router_test

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/router"
)

func TestAppendNormalized(t *testing.T) {
	const reject, keep = router.RejectEncodedSlash, router.KeepEncodedSlash
	tests := []struct {
		raw    string
		policy router.SlashPolicy
		want   string
		err    error
	}{
		// Form.
		{"/", reject, "/", nil},
		{"/a/b", reject, "/a/b", nil},
		{"/a/b/", reject, "/a/b/", nil},                   // a trailing slash is part of the path
		{"", reject, "", router.ErrPathForm},              // no path at all
		{"a", reject, "", router.ErrPathForm},             // relative
		{"*", reject, "", router.ErrPathForm},             // the asterisk form of OPTIONS
		{"http://h/a", reject, "", router.ErrPathForm},    // the absolute form is for the caller to split
		{"/a?b", reject, "", router.ErrPathForm},          // so is the query
		{"/a#b", reject, "", router.ErrPathForm},          // a fragment never travels (CVE-2023-45539)
		{"/a%3Fb%23", reject, "/a%3Fb%23", nil},           // escaped, both are data
		{"//host/a", reject, "/host/a", nil},              // never an authority
		{"///a///b//", reject, "/a/b/", nil},              // slashes are merged
		{"/!$&'()*+,;=:@", reject, "/!$&'()*+,;=:@", nil}, // all that may stand raw

		// Escapes.
		{"/%41%7a%2D%2e%5F%7E0", reject, "/Az-._~0", nil}, // unreserved: decoded
		{"/%3a%2c%c3%bc", reject, "/%3A%2C%C3%BC", nil},   // others: upper case
		{"/\xc3\xbc", reject, "/%C3%BC", nil},             // raw bytes beyond ASCII
		{"/ \"<>[]^`{|}", reject, "/%20%22%3C%3E%5B%5D%5E%60%7B%7C%7D", nil},
		{"/%2561dmin", reject, "/%2561dmin", nil},          // decoded once, not twice
		{"/%252e%252e/a", reject, "/%252e%252e/a", nil},    // nor are dots made of it
		{"/a%", reject, "", router.ErrPathEscape},          // cut short
		{"/a%4", reject, "", router.ErrPathEscape},         // cut short
		{"/a%4/b", reject, "", router.ErrPathEscape},       // a slash is no digit
		{"/a%zz", reject, "", router.ErrPathEscape},        // no digits
		{"/a%4g", reject, "", router.ErrPathEscape},        // one digit
		{"/a\x00", reject, "", router.ErrPathControl},      // raw NUL
		{"/a\tb", reject, "", router.ErrPathControl},       // raw control
		{"/a\x7f", reject, "", router.ErrPathControl},      // raw DEL
		{"/%00", reject, "", router.ErrPathControl},        // NUL
		{"/a%0d%0aX:1", reject, "", router.ErrPathControl}, // header injection (CVE-2023-25690)
		{"/%7F", reject, "", router.ErrPathControl},        // DEL

		// Dot segments.
		{"/a/./b", reject, "/a/b", nil},
		{"/a/../b", reject, "/b", nil},
		{"/a/.", reject, "/a/", nil},
		{"/a/..", reject, "/", nil},
		{"/a/b/..", reject, "/a/", nil},
		{"/a//../b", reject, "/b", nil},                                       // slashes are merged first
		{"/a/%2e%2E/b", reject, "/b", nil},                                    // dots in any encoding
		{"/a/.%2e", reject, "/", nil},                                         // and half of them
		{"/.well-known/..x/.../a..", reject, "/.well-known/..x/.../a..", nil}, // dots that are names
		{"/..", reject, "", router.ErrPathDots},                               // above the root
		{"/a/../..", reject, "", router.ErrPathDots},                          // above the root, later
		{"/a/../../b", reject, "", router.ErrPathDots},                        // and back
		{"/a/..;/b", reject, "", router.ErrPathDots},                          // path parameters (CVE-2026-73553)
		{"/a/..;x=1/b", reject, "", router.ErrPathDots},
		{"/a/.;x", reject, "", router.ErrPathDots},
		{"/a/%2e%2e;x", reject, "", router.ErrPathDots},
		{"/a/..%3bx", reject, "", router.ErrPathDots}, // an encoded semicolon is one to somebody
		{"/a/b;v=1.2", reject, "/a/b;v=1.2", nil},     // honest parameters

		// Slashes in disguise.
		{`/a\b`, reject, "", router.ErrPathSlash},
		{`/a\b`, keep, "", router.ErrPathSlash}, // raw backslashes always
		{"/a%2fb", reject, "", router.ErrPathSlash},
		{"/a%5Cb", reject, "", router.ErrPathSlash},
		{"/a%2fb%5cc", keep, "/a%2Fb%5Cc", nil},
		{"/a%2f..%2fb", keep, "", router.ErrPathDots}, // CVE-2021-29492
		{"/..%2fb", keep, "", router.ErrPathDots},
		{"/a%5c..", keep, "", router.ErrPathDots},
		{"/a%2f%2e%2e;x", keep, "", router.ErrPathDots}, // both tricks at once
		{"/a%2f.", keep, "", router.ErrPathDots},
		{"/a%2f..b", keep, "/a%2F..b", nil},
	}
	for _, test := range tests {
		got, err := router.AppendNormalized([]byte("before"), []byte(test.raw), test.policy)
		if string(got) != "before"+test.want || !errors.Is(err, test.err) {
			t.Errorf("%q, policy %d: %q, %v; want %q, %v", test.raw, test.policy, got, err, "before"+test.want, test.err)
		}
	}
}

// checkNormal proves the laws of normal form for one raw path.
func checkNormal(t interface{ Fatalf(string, ...any) }, raw []byte, p router.SlashPolicy) {
	normal, err := router.AppendNormalized(nil, raw, p)
	if err != nil {
		if len(normal) != 0 {
			t.Fatalf("%q: %q beside error %v", raw, normal, err)
		}
		return
	}
	again, err := router.AppendNormalized(nil, normal, p)
	if err != nil || !bytes.Equal(again, normal) {
		t.Fatalf("%q: normal form %q is normalised to %q, %v", raw, normal, again, err)
	}
	if len(normal) > 3*len(raw) {
		t.Fatalf("%q grows to %q", raw, normal)
	}
	if normal[0] != '/' || bytes.Contains(normal, []byte("//")) {
		t.Fatalf("%q: slashes in %q", raw, normal)
	}
	for i, b := range normal {
		if b <= ' ' || b >= 0x7f || strings.IndexByte("\"#<>?[\\]^`{|}", b) >= 0 {
			t.Fatalf("%q: byte %q in %q", raw, b, normal)
		}
		if b == '%' {
			checkEscape(t, raw, normal[i+1:i+3], p)
		}
	}
	segments := strings.FieldsFunc(string(normal), func(r rune) bool { return r == '/' })
	for _, s := range segments {
		for part := range strings.SplitSeq(strings.NewReplacer("%2F", "/", "%5C", "/").Replace(s), "/") {
			if name, _, _ := strings.Cut(part, ";"); name == "." || name == ".." {
				t.Fatalf("%q: dot segment in %q", raw, normal)
			}
		}
	}
}

func checkEscape(t interface{ Fatalf(string, ...any) }, raw, digits []byte, p router.SlashPolicy) {
	var b byte
	for _, d := range digits {
		digit := strings.IndexByte("0123456789ABCDEF", d)
		if digit < 0 {
			t.Fatalf("%q: escape %%%s", raw, digits)
		}
		b = b<<4 | byte(digit)
	}
	unreserved := '0' <= b && b <= '9' || 'a' <= b|0x20 && b|0x20 <= 'z' || strings.IndexByte("-._~", b) >= 0
	slash := p == router.RejectEncodedSlash && (b == '/' || b == '\\')
	if unreserved || slash || b < ' ' || b == 0x7f {
		t.Fatalf("%q: %%%s is in the normal form", raw, digits)
	}
}

func TestNormalFormLaws(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"/", "/", "/", "a", "b.c", ".", "..", ";", "%2e", "%2F", "%5c", "%3B", "%41", "%c3", "%25", "%", "%0", "%00", "%0a",
		"\\", "?", "#", " ", "{", "\x80", "\x00", "~", "*", ":",
	})
	rapid.Check(t, func(t *rapid.T) {
		raw := "/" + strings.Join(rapid.SliceOfN(piece, 0, 12).Draw(t, "pieces"), "")
		checkNormal(t, []byte(raw), router.RejectEncodedSlash)
		checkNormal(t, []byte(raw), router.KeepEncodedSlash)
	})
}

func FuzzNormalize(f *testing.F) {
	for _, seed := range []string{"/a/b", "/a/%2e%2e/%2F..;x", "//a//", "/%c3%BC\x80", "/%252e", "/a%5c..%2f"} {
		f.Add([]byte(seed), false)
		f.Add([]byte(seed), true)
	}
	f.Fuzz(func(t *testing.T, raw []byte, keep bool) {
		policy := router.RejectEncodedSlash
		if keep {
			policy = router.KeepEncodedSlash
		}
		checkNormal(t, raw, policy)
	})
}

var normalizeCases = []struct{ name, raw string }{
	{"plain", "/repos/octocat/hello-world/issues/1347/labels"},
	{"escapes", "/repos/octocat/hello%2Dworld/issues//%C3%BC/../1347"},
}

func TestAppendNormalizedDoesNotAllocate(t *testing.T) {
	for _, test := range normalizeCases {
		dst, raw := make([]byte, 0, 256), []byte(test.raw)
		if n := testing.AllocsPerRun(100, func() {
			if _, err := router.AppendNormalized(dst, raw, router.KeepEncodedSlash); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

func TestAppendNormalizedLeavesRawAlone(t *testing.T) {
	raw := []byte("/a/%2e%2e/B%c3\x80")
	before := slices.Clone(raw)
	if _, err := router.AppendNormalized(nil, raw, router.RejectEncodedSlash); err != nil || !bytes.Equal(raw, before) {
		t.Errorf("raw became %q, %v", raw, err)
	}
}

func BenchmarkNormalize(b *testing.B) {
	for _, test := range normalizeCases {
		b.Run(test.name, func(b *testing.B) {
			dst, raw := make([]byte, 0, 256), []byte(test.raw)
			b.ReportAllocs()
			b.SetBytes(int64(len(raw)))
			for b.Loop() {
				if _, err := router.AppendNormalized(dst, raw, router.KeepEncodedSlash); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
