package router

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"unsafe"
)

// A lookup costs the cache lines it touches: two nodes fit one.
func TestNodeIsHalfACacheLine(t *testing.T) {
	if size := unsafe.Sizeof(node{}); size != 32 {
		t.Errorf("a node has %d bytes", size)
	}
}

// However alike the names of a large block are, a literal is found after few probes.
func TestLiteralsSpreadOut(t *testing.T) {
	tests := []struct{ why, format string }{
		{"short, differing at the end", "/s%d"},
		{"one word and a bit", "/service-%d"},
		{"differing in the middle, behind the head", "/customer-%06d-production"},
		{"differing far from both ends", "/a-rather-long-common-prefix-%d-and-as-long-a-suffix"},
		{"differing at the start", "/%d-common-suffix"},
	}
	for _, test := range tests {
		var routes []Route
		for i := range 5_000 {
			routes = append(routes, Route{Path: fmt.Sprintf(test.format, i)})
		}
		table, err := Compile(routes)
		if err != nil {
			t.Fatal(err)
		}
		probes := 0
		for _, r := range routes {
			head, tail := spell(r.Path[1:])
			home := table.nodes[table.hosts.any].place(hash(head, tail))
			probes += int(table.probe(home, head, tail, []byte(r.Path[1:]))-home) + 1
		}
		if mean := float64(probes) / float64(len(routes)); mean > 1.7 {
			t.Errorf("%s: %.2f probes on average", test.why, mean)
		}
	}
}

// The form in which segments are compared must not depend on what follows them in the path.
func TestSpellingIgnoresWhatFollows(t *testing.T) {
	for size := range 60 {
		name := strings.Repeat("abcdefghijk", 6)[:size]
		head, tail := spell(name)
		for _, after := range []string{"", "/", "/x", "/0123456789abcdef"} {
			path := []byte("/" + name + after)
			gotHead, gotTail, end := wordAt(path, 1), uint64(0), 1+size
			if size < wordSize {
				gotHead &= 1<<(size*8) - 1
			} else if len(path) > 1+wordSize {
				gotTail, end = spellTail(path, 1)
			}
			if gotHead != head || gotTail != tail || end != 1+size {
				t.Errorf("%q in %q: head %x, tail %x, end %d; want %x, %x, %d", name, path, gotHead, gotTail, end, head, tail, 1+size)
			}
		}
	}
}

// A long segment of a request may be made to have the digest of a literal: the text itself decides.
func TestForgedDigestDoesNotMatch(t *testing.T) {
	const literal = "twenty-three-bytes-long"
	table, err := Compile([]Route{{Path: "/" + literal}})
	if err != nil {
		t.Fatal(err)
	}
	forged := forge(t, literal)
	head, tail := spell(literal)
	if h, d := spell(forged); h != head || d != tail || forged == literal {
		t.Fatalf("%q is no forgery of %q", forged, literal)
	}
	var c Captures
	if route, o := table.Match(nil, nil, []byte("/"+forged), &c); o != NotFound {
		t.Errorf("%q gives route %d, outcome %d", forged, route, o)
	}
}

// forge finds another segment of 23 bytes with the head and tail of literal: it changes the bytes that
// only the digest covers, and makes up for it in the last word, with which they share one byte.
func forge(t *testing.T, literal string) string {
	_, want := spell(literal)
	for n := range 1 << 16 {
		forged := []byte(literal)
		copy(forged[wordSize:], fmt.Sprintf("%07d", n))
		for shared := range 256 {
			forged[15] = byte(shared)
			last := wordAt(forged, 15)
			_, tail := spell(string(forged))
			binary.LittleEndian.PutUint64(forged[15:], last^tail^want)
			if int(forged[15]) == shared && !strings.Contains(string(forged), "/") {
				return string(forged)
			}
		}
	}
	t.Fatal("no forgery found")
	return ""
}
