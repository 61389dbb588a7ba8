package central

import (
	"strings"
	"testing"
)

func TestValuesAreCounted(t *testing.T) {
	for _, c := range []struct {
		intent, stream  string
		answers, pushes int
		bad             bool
	}{
		{"lines", "+OK\r\n-ERR no\r\n:-12\r\n_\r\n#t\r\n,1.5\r\n(123456789012345678901\r\n", 7, 0, false},
		{"blobs", "$2\r\n\r\n\r\n$0\r\n\r\n$-1\r\n!3\r\nERR\r\n=7\r\ntxt:abc\r\n", 5, 0, false},
		{"lists", "*0\r\n*-1\r\n*2\r\n:1\r\n*1\r\n$1\r\na\r\n~1\r\n:1\r\n%1\r\n+a\r\n%1\r\n+b\r\n*0\r\n", 5, 0, false},
		{"a push between answers", ":1\r\n>2\r\n+message\r\n+x\r\n:2\r\n", 2, 1, false},
		{"half a value", "*2\r\n:1\r\n", 0, 0, false},
		{"no RESP", "HTTP/1.1 400 Bad Request\r\n", 0, 0, true},
		{"a blob without end", "$99999999\r\n", 0, 0, true},
		{"a blob in pieces", "$?\r\n;1\r\na\r\n", 0, 0, true},
		{"a blob without length", "$\r\n", 0, 0, true},
		{"a list of too many", "*65537\r\n", 0, 0, true},
		{"lists in lists", strings.Repeat("*1\r\n", 9), 0, 0, true},
		{"a line without end", "+" + strings.Repeat("a", maxLine+1), 0, 0, true},
		{"an attribute", "|1\r\n+a\r\n+b\r\n:1\r\n", 0, 0, true},
	} {
		for _, step := range []int{1, 3, len(c.stream)} {
			var v values
			answers, pushes := 0, 0
			var bad error
			for rest := c.stream; rest != "" && bad == nil; {
				n := min(step, len(rest))
				a, p, err := v.feed([]byte(rest[:n]))
				answers, pushes, bad, rest = answers+a, pushes+p, err, rest[n:]
			}
			if answers != c.answers && !c.bad || pushes != c.pushes || (bad != nil) != c.bad {
				t.Errorf("%s, %d bytes at a time: %d answers, %d pushes, %v", c.intent, step, answers, pushes, bad)
			}
		}
	}
}

func FuzzValues(f *testing.F) {
	f.Add([]byte("*2\r\n:1\r\n*1\r\n$1\r\na\r\n"), 3)
	f.Fuzz(func(t *testing.T, stream []byte, cut int) {
		var whole, parts values
		cut = min(max(cut, 0), len(stream))
		answers, pushes, err := whole.feed(stream)
		a, p, err1 := parts.feed(stream[:cut])
		if err1 == nil {
			var b, q int
			b, q, err1 = parts.feed(stream[cut:])
			a, p = a+b, p+q
		}
		if a != answers || p != pushes || (err == nil) != (err1 == nil) {
			t.Errorf("%q, cut at %d: %d answers and %d pushes (%v), else %d and %d (%v)", stream, cut, a, p, err1, answers, pushes, err)
		}
		if len(whole.open) > maxDepth || whole.skip > maxBlob+2 {
			t.Errorf("%q: %+v", stream, whole)
		}
	})
}
