package admin

import (
	"fmt"
	"io/fs"
	"math"
	"mime"
	"path"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// pageSources are the page's own files, by their paths below page/.
func pageSources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := fs.WalkDir(pageFiles, "page", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.HasPrefix(name, "page/uplot/") {
			return err
		}
		text, err := pageFiles.ReadFile(name)
		all[strings.TrimPrefix(name, "page/")] = string(text)
		return err
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("%d files, %v", len(all), err)
	}
	return all
}

func TestPageIsGuardedByItsHeaders(t *testing.T) {
	l := listen(t, "tcp", "127.0.0.1:0")
	serve(t, &fakeGateway{state: "serving"}, l)
	types := map[string]string{".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml", "": "text/plain"}
	for _, file := range []string{"/", "/page/main.js", "/page/style.css", "/page/icon.svg", "/page/uplot/uPlot.iife.min.js", "/page/uplot/LICENSE"} {
		response, _ := ask(t, l, request{method: "GET", path: file})
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "connect-src 'self'", "frame-ancestors 'none'",
			"base-uri 'none'", "form-action 'none'", "require-trusted-types-for 'script'"} {
			if !strings.Contains(response.Header.Get("Content-Security-Policy"), part) {
				t.Errorf("%s: the policy lacks %s", file, part)
			}
		}
		if response.Header.Get("Referrer-Policy") != "no-referrer" || response.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", file, response.Header)
		}
		name := file
		if file == "/" {
			name = "index.html"
		}
		if got, _, err := mime.ParseMediaType(response.Header.Get("Content-Type")); err != nil || got != types[path.Ext(name)] {
			t.Errorf("%s: Content-Type %q", file, response.Header.Get("Content-Type"))
		}
	}
}

// What the policy forbids would fail in a browser only; what makes markup of text, only on the day that somebody
// sends some.
func TestPageHoldsNothingInline(t *testing.T) {
	forbidden := map[string]*regexp.Regexp{
		".html": regexp.MustCompile(`(?i)<style|\sstyle=|\son\w+=|javascript:|<script(>|[^>]*[^"/a-z]>)|https?:`),
		".js":   regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|setAttribute\("(style|on)|DOMParser|srcdoc`),
		".css":  regexp.MustCompile(`@import|url\(|https?:`),
	}
	for name, text := range pageSources(t) {
		if pattern := forbidden[path.Ext(name)]; pattern != nil {
			if found := pattern.FindString(text); found != "" {
				t.Errorf("%s holds %q", name, found)
			}
		}
		if n := strings.Count(text, "\n"); n >= 400 {
			t.Errorf("%s has %d lines", name, n)
		}
	}
	for _, broken := range []struct{ kind, text string }{
		{".html", `<p style="x">`}, {".html", "<script>x</script>"}, {".html", `<a onclick="x">`}, {".html", `<img src="https://example.com/x">`},
		{".js", `e.innerHTML = x`}, {".js", `eval("x")`}, {".css", "a { background: url(x) }"},
	} {
		if !forbidden[broken.kind].MatchString(broken.text) {
			t.Errorf("%s is not found", broken.text)
		}
	}
}

func TestPageNamesFilesThatExist(t *testing.T) {
	links := regexp.MustCompile(`(?:src|href)="(/[^"]*)"|from "\.(/[^"]*)"`)
	n := 0
	for name, text := range pageSources(t) {
		for _, found := range links.FindAllStringSubmatch(text, -1) {
			link := found[1]
			if found[2] != "" {
				link = "/page" + found[2]
			}
			if _, ok := pageFile(link); !ok && link != "/status" {
				t.Errorf("%s names %s, which does not exist", name, link)
			}
			n++
		}
	}
	if n < 20 {
		t.Errorf("%d links only", n)
	}
}

func TestPageTellsOfUPlot(t *testing.T) {
	script, _ := pageFiles.ReadFile("page/uplot/uPlot.iife.min.js")
	license, _ := pageFiles.ReadFile("page/uplot/LICENSE")
	if !strings.Contains(string(script[:100]), "uPlot (v1.6.32)") || !strings.Contains(string(license), "MIT License") {
		t.Error("uPlot comes without its version or its license")
	}
}

// luminance is that of a colour, #rrggbb (WCAG 2.2, relative luminance).
func luminance(t *testing.T, colour string) float64 {
	t.Helper()
	n, err := strconv.ParseUint(strings.TrimPrefix(colour, "#"), 16, 32)
	if err != nil || len(colour) != 7 {
		t.Fatalf("%q is no colour", colour)
	}
	sum := 0.0
	for shift, weight := range map[uint]float64{16: 0.2126, 8: 0.7152, 0: 0.0722} {
		c := float64(n>>shift&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		sum += weight * c
	}
	return sum
}

func contrast(t *testing.T, a, b string) float64 {
	x, y := luminance(t, a), luminance(t, b)
	return (max(x, y) + 0.05) / (min(x, y) + 0.05)
}

func TestPageCanBeRead(t *testing.T) {
	pairs := regexp.MustCompile(`--([\w-]+): light-dark\((#\w+), (#\w+)\);`).FindAllStringSubmatch(pageSources(t)["theme.css"], -1)
	themes := []map[string]string{{}, {}}
	for _, p := range pairs {
		themes[0][p[1]], themes[1][p[1]] = p[2], p[3]
	}
	type pair struct {
		front, ground string
		least         float64 // 4.5 for text, 3 for what has to be seen (WCAG 2.2, 1.4.3 and 1.4.11)
	}
	var want []pair
	for _, ground := range []string{"panel", "ground", "raised"} {
		for _, front := range []string{"text", "quiet", "accent", "good", "warn", "bad"} {
			want = append(want, pair{front, ground, 4.5})
		}
	}
	for _, word := range []string{"good", "warn", "bad", "accent"} {
		want = append(want, pair{word, word + "-ground", 4.5}, pair{"panel", word, 4.5})
	}
	want = append(want, pair{"text", "warn-ground", 4.5}, pair{"quiet", "warn-ground", 4.5}, pair{"edge", "panel", 3})
	for i := range 8 {
		want = append(want, pair{fmt.Sprintf("series-%d", i+1), "panel", 3})
	}
	for i, theme := range themes {
		for _, p := range want {
			if got := contrast(t, theme[p.front], theme[p.ground]); got < p.least {
				t.Errorf("%s theme: %s on %s has a contrast of %.2f, want %.1f", []string{"light", "dark"}[i], p.front, p.ground, got, p.least)
			}
		}
	}
}
