package router_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/sluice-gateway/sluice/router"
)

func TestRewrite(t *testing.T) {
	tests := []struct {
		why, pattern, template, path, want string
	}{
		{"fixed", "/a/*", "/b", "/a/x", "/b"},
		{"captures, moved and repeated", "/{x}/{y}", "/v2/{y}/{x}/{y}", "/1/2", "/v2/2/1/2"},
		{"text behind a capture", "/a/{id}", "/b/{id}/c/", "/a/42", "/b/42/c/"},
		{"the rest", "/users/*", "/v2/*", "/users/42/x", "/v2/42/x"},
		{"an empty rest leaves no slash", "/users/*", "/v2/*", "/users", "/v2"},
		{"a slash stays", "/users/*", "/v2/*", "/users/", "/v2/"},
		{"the rest alone", "/users/*", "/*", "/users/42", "/42"},
		{"nothing at all is the root", "/users/*", "/*", "/users", "/"},
		{"capture and rest", "/{t}/*", "/x/{t}/*", "/a/b/c", "/x/a/b/c"},
		{"rest of everything", "/*", "/x/*", "/", "/x/"},
		{"to the root", "/a", "/", "/a", "/"},
	}
	for _, test := range tests {
		r, err := router.CompileRewrite(test.template, test.pattern)
		if err != nil {
			t.Errorf("%s: %v", test.why, err)
			continue
		}
		var c router.Captures
		compile(t, router.Route{Path: test.pattern}).Match(nil, nil, []byte(test.path), &c)
		dst := append(make([]byte, 0, 64), "before"...)
		if got := r.Append(dst, []byte(test.path), &c); string(got) != "before"+test.want {
			t.Errorf("%s: %s of %s gives %q, want %q", test.why, test.template, test.path, got, "before"+test.want)
		}
		if n := testing.AllocsPerRun(10, func() { r.Append(dst, []byte(test.path), &c) }); n != 0 {
			t.Errorf("%s: %v allocations", test.why, n)
		}
	}
}

func TestCompileRewriteRefuses(t *testing.T) {
	tests := []struct {
		pattern, template, want string
	}{
		{"/{id}", "/{name}", `has no capture {name}`},
		{"/a", "/b/*", `has no "*"`},
		{"/a/*", "/*/b", `must be the whole last segment`},
		{"/{id}", "/x{id}", `must be a whole segment`}, // or "/.{id}" could make a dot segment
		{"/a", "", `does not start with "/"`},
		{"/a", "http://h/", `does not start with "/"`},
		{"/a", "//h", `normalised`},
		{"/a", "/b/../c", `normalised`},
		{"/a", "/b?q=1", `without query`},
		{"a", "/b", `rewrite of path "a"`},
		{"/{a}/{a}", "/{a}", `two captures`},
	}
	for _, test := range tests {
		_, err := router.CompileRewrite(test.template, test.pattern)
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s to %s: %v, want %q", test.pattern, test.template, err, test.want)
		}
	}
}

// What is forwarded is in normal form: it starts with one slash and holds no dot segment.
func TestRewriteKeepsNormalForm(t *testing.T) {
	piece := rapid.SampledFrom([]string{"/", "a", ".", "..", ";x", "%2e", "%2F", "b"})
	template := rapid.SampledFrom([]string{"/*", "/{x}", "/{x}/*", "/n/*", "/n/{x}/", "/n/{x}/*"})
	table := compile(t, router.Route{Path: "/{x}/*"})
	rapid.Check(t, func(t *rapid.T) {
		raw := "/" + strings.Join(rapid.SliceOfN(piece, 0, 8).Draw(t, "pieces"), "")
		path, err := router.AppendNormalized(nil, []byte(raw), router.KeepEncodedSlash)
		var c router.Captures
		if err != nil {
			return
		}
		if _, o := table.Match(nil, nil, path, &c); o != router.Found {
			return
		}
		r, err := router.CompileRewrite(template.Draw(t, "template"), "/{x}/*")
		if err != nil {
			t.Fatal(err)
		}
		got := r.Append(nil, path, &c)
		if again, err := router.AppendNormalized(nil, got, router.KeepEncodedSlash); err != nil || string(again) != string(got) {
			t.Fatalf("%s becomes %s, which is normalised to %s, %v", path, got, again, err)
		}
	})
}

func BenchmarkRewrite(b *testing.B) {
	r, err := router.CompileRewrite("/v2/{id}/*", "/users/{id}/*")
	if err != nil {
		b.Fatal(err)
	}
	path, dst := []byte("/users/42/posts/7"), make([]byte, 0, 64)
	var c router.Captures
	compile(b, router.Route{Path: "/users/{id}/*"}).Match(nil, nil, path, &c)
	b.ReportAllocs()
	for b.Loop() {
		r.Append(dst, path, &c)
	}
}
