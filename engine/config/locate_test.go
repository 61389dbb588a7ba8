package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"
	"pgregory.net/rapid"
)

func TestLocate(t *testing.T) {
	const text = `a = 1 # [b] = "x"
b.c = [ 10, # ten
  [20, 21],
  { d = 1, "e f".g = '}' },
]
[t]
k = """
[not.a.header]
""\" = ""
"""
'l.m' = { }
[[list]]
x = 1
[list.sub]
y = 2
[[list]]
[[list.inner]]
z = 1979-05-27 07:32:00
[late.table]
[late]
w = "\"#"
v = ''''quoted''''
`
	at := locate(text)
	for _, row := range []struct {
		intent, key  string
		line, column int
	}{
		{"a key", "a", 1, 1},
		{"the table that a dotted key makes", "b", 2, 1},
		{"a dotted key, at its last name", "b.c", 2, 3},
		{"an element, at its value", "b.c[0]", 2, 9},
		{"an element on a line of its own", "b.c[1]", 3, 3},
		{"a list in a list", "b.c[1][1]", 3, 8},
		{"an inline table", "b.c[2]", 4, 3},
		{"a key in it", "b.c[2].d", 4, 5},
		{"a quoted name", `b.c[2]."e f".g`, 4, 18},
		{"a header", "t", 6, 2},
		{"a key after a multi-line string", `t."l.m"`, 11, 1},
		{"a list of tables", "list", 12, 3},
		{"its first element", "list[0]", 12, 3},
		{"a table in the last element", "list[0].sub.y", 15, 1},
		{"its second element", "list[1]", 16, 3},
		{"a list in the last element", "list[1].inner[0].z", 18, 1},
		{"a table has its own header's place, not that of one before", "late", 20, 2},
		{"an escaped quote does not end a string", "late.v", 22, 1},
	} {
		if got := at[row.key]; got != (position{row.line, row.column}) {
			t.Errorf("%s: %s is at %v, want %d:%d", row.intent, row.key, got, row.line, row.column)
		}
	}
	for key := range at {
		if strings.Contains(key, "header") {
			t.Errorf("found %q inside a string", key)
		}
	}
}

// TestLocateFindsWhatTheDecoderFinds writes random documents and compares the two readers of them.
func TestLocateFindsWhatTheDecoderFinds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b strings.Builder
		for i := range rapid.IntRange(0, 6).Draw(t, "sections") {
			header := rapid.SampledFrom([]string{"[s%d]", "[ 's %d' . x ]", "[[l]] # %d", "[\"q.%d\"]\r"}).Draw(t, "header")
			if i > 0 {
				fmt.Fprintf(&b, header+"\n", i)
			}
			for j := range rapid.IntRange(0, 4).Draw(t, "keys") {
				fmt.Fprintf(&b, rapid.SampledFrom([]string{"k%d", "'k %d'", `"k\t%d"`, "k%d . a.\"b.c\"", "  k%d\t"}).Draw(t, "key"), j)
				fmt.Fprintf(&b, " = %s # ]}\n\n", drawValue(t, 3))
			}
		}
		wantLocated(t, b.String())
	})
}

func drawValue(t *rapid.T, depth int) string {
	simple := []string{"1", "-0.5e3", "true", `"a # b"`, `'\'`, `"\\"`, `"""x"y""z"""`, "'''\n[a]\nb = 1'''", `"""x""""`, "2006-01-02 15:04:05"}
	kind := rapid.IntRange(0, 2).Draw(t, "kind")
	if depth == 0 || kind == 0 {
		return rapid.SampledFrom(simple).Draw(t, "simple")
	}
	var parts []string
	for i := range rapid.IntRange(0, 3).Draw(t, "length") {
		part := drawValue(t, depth-1)
		if kind == 1 {
			part = fmt.Sprintf("x%d.'y z' = %s", i, part)
		}
		parts = append(parts, part)
	}
	if kind == 1 {
		return "{ " + strings.Join(parts, ", ") + " }"
	}
	return "[" + strings.Join(parts, " , # ,]\n") + "\n]"
}

// wantLocated demands that exactly the keys and elements that the decoder knows have a place, and that it is theirs.
func wantLocated(t rapid.TB, text string) {
	raw := make(map[string]any)
	if _, err := toml.Decode(text, &raw); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	at := locate(text)
	known := make(map[string]bool)
	rawKeys(raw, "", known)
	for key := range known {
		if _, ok := at[key]; !ok {
			t.Fatalf("%q has no place in\n%s", key, text)
		}
	}
	lines := strings.Split(text, "\n")
	for key, p := range at {
		if !known[key] {
			t.Fatalf("%q is at %v, but the decoder does not know it, in\n%s", key, p, text)
		}
		if p.line < 1 || p.line > len(lines) || p.column < 1 || p.column > len(lines[p.line-1]) {
			t.Fatalf("%q is at %v, outside of\n%s", key, p, text)
		}
	}
}

func rawKeys(raw any, key string, found map[string]bool) {
	if key != "" {
		found[key] = true
	}
	if elements, ok := rawList(raw); ok {
		for i, element := range elements {
			rawKeys(element, elementKey(key, i), found)
		}
	}
	if table, ok := raw.(map[string]any); ok {
		for name, value := range table {
			rawKeys(value, childKey(key, name), found)
		}
	}
}

func TestParentKey(t *testing.T) {
	for _, row := range []struct{ intent, key, want string }{
		{"a key of a table", "server.listen", "server"},
		{"an element of a list", "server.listen[12]", "server.listen"},
		{"a key of an element", "route[2].path", "route[2]"},
		{"a quoted name with a dot", `switch.v.cases."a.b"`, "switch.v.cases"},
		{"a quoted name with a quote", `a."b\".c"`, "a"},
		{"an outermost key", "server", ""},
	} {
		if got := parentKey(row.key); got != row.want {
			t.Errorf("%s: got %q, want %q", row.intent, got, row.want)
		}
	}
}

func TestAtFallsBackToWhatIsAround(t *testing.T) {
	f, _ := Parse("gateway.toml", []byte("[upstream.users]\ntargets = [\"http://a\"]\n[[route]]\nname = \"x\"\n"), Environment{})
	for _, row := range []struct {
		intent, key  string
		line, column int
	}{
		{"a key that is there", "route[0].name", 4, 1},
		{"one that is not: its table", "route[0].path", 3, 3},
		{"an element that is not: its list", "upstream.users.targets[7]", 2, 1},
		{"far from anything: the file's start", "server.tls.listen", 1, 1},
	} {
		if line, column := f.At(row.key); line != row.line || column != row.column {
			t.Errorf("%s: got %d:%d, want %d:%d", row.intent, line, column, row.line, row.column)
		}
	}
	if got := f.FaultAt("route[0].path", "taken by %q", "y").String(); got != `gateway.toml:3:3: route[0].path: taken by "y"` {
		t.Errorf("got %s", got)
	}
}

// FuzzParse holds for any input at all: no panic, every fault lies in the file, every key of a TOML file is located.
func FuzzParse(f *testing.F) {
	for _, pattern := range []string{"testdata/*.toml", "testdata/*/*.toml"} {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		file, faults := Parse("gateway.toml", data, testEnvironment())
		lines := strings.Split(string(data), "\n")
		for _, fault := range faults {
			if fault.Line < 1 || fault.Line > len(lines) || fault.Column < 1 || fault.Column > len(lines[fault.Line-1])+1 {
				t.Errorf("outside of the file: %v", fault)
			}
		}
		if file != nil {
			wantLocated(t, strings.TrimLeft(string(data), byteOrderMark))
		}
	})
}
