package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// manyRoutes is a configuration with n routes.
func manyRoutes(n int, url string) string {
	var b strings.Builder
	b.WriteString(upstreamTable(url))
	for i := range n {
		b.WriteString(guarded(fmt.Sprintf("route-%05d", i), `"none"`, ""))
	}
	return b.String()
}

func TestPageSortsAndFilters(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, manyRoutes(1000, up.url()))
	b := g.browse(t, false)
	b.shows("#routes-note", "1,000 routes")
	b.shows("#routes-table", "800 more: filter to see them")
	first := func() string { return b.text("#routes-table tbody th") }
	sorted := func() string {
		return evaluate[string](b, `[...document.querySelectorAll("#routes-table [aria-sort]")].map((e) => e.innerText + " " + e.ariaSort).join()`)
	}
	head := func(name string) {
		t.Helper()
		b.press("#routes-table thead", name)
	}
	if got := sorted(); !strings.HasSuffix(got, "descending") || strings.Contains(got, ",") {
		t.Errorf("at first the table is sorted by %s", got)
	}
	head("Route")
	if got := sorted(); got != "Route ascending" && got != "Route ↑ ascending" || first() != "route-00000" {
		t.Errorf("sorted by %s, first %s", got, first())
	}
	head("Route")
	if got := sorted(); !strings.HasSuffix(got, "descending") || first() != "route-00999" {
		t.Errorf("sorted by %s, first %s", got, first())
	}
	b.enter("#routes-filter", "0042 up")
	b.shows("#routes-note", "11 of 1,000 routes") // 00042 and 00420 to 00429
	b.enter("#routes-filter", "nothing at all")
	b.shows("#routes-table", "No route is like that.")
	b.enter("#routes-filter", "00007")
	b.shows("#routes-note", "1 of 1,000 routes")
}

// The page is looked at on screens of all kinds: nothing sticks out, everything can be reached and has a name.
func TestPageLooks(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 3)
	g := startGateway(t, moodyUpstream(urls, "")+`
[[limit]]
name = "per-client"
key  = ["client"]
rate = "100/s"
`)
	_ = g.load(t, 2, 50)
	_ = all
	for _, dark := range []bool{false, true} {
		b := g.browse(t, dark)
		b.shows("#state", "serving")
		for _, size := range [][2]int64{{1440, 900}, {1024, 768}, {768, 1024}, {390, 844}, {320, 640}} {
			call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: size[0], Height: size[1], DeviceScaleFactor: 1, Mobile: size[0] < 500})
			if wide := evaluate[int64](b, `new Promise((r) => requestAnimationFrame(() => r(document.documentElement.scrollWidth)))`); wide > size[0] {
				t.Errorf("on a screen of %d the page is %d wide", size[0], wide)
			}
			b.shoot(fmt.Sprintf("look-%d-%v", size[0], dark))
		}
		unnamed := evaluate[string](b, `[...document.querySelectorAll("button, input, select, textarea, a, [role=region], [role=img], section, nav")]
			.filter((e) => !e.closest("[hidden]"))
			.filter((e) => !(e.ariaLabel || e.innerText?.trim() || e.textContent.trim() || e.labels?.length || e.getAttribute("aria-labelledby")))
			.map((e) => e.outerHTML.slice(0, 80)).join("\n")`)
		if unnamed != "" {
			t.Errorf("without a name: %s", unnamed)
		}
	}
}

func TestPageKeepsItsTheme(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, only("/x", up.url(), ""))
	b := g.browse(t, true)
	b.shows("#state", "serving")
	ground := func() string { return evaluate[string](b, `getComputedStyle(document.body).backgroundColor`) }
	dark := ground()
	b.click("#theme")
	light := ground()
	if dark == light {
		t.Errorf("both themes have the ground %s", dark)
	}
	b.do("load the page again", chromedp.Reload())
	b.shows("#state", "serving")
	if got := ground(); got != light {
		t.Errorf("the theme is forgotten: %s, want %s", got, light)
	}
	b.click("#theme")
	if got := ground(); got != dark {
		t.Errorf("the other theme: %s, want %s", got, dark)
	}
}

// With the keyboard alone one comes to every control, and sees where one is.
func TestPageByKeyboard(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, only("/x", up.url(), ""))
	b := g.browse(t, false)
	b.shows("#routes-table", "/x")
	want := map[string]bool{"Skip to the content": false, "Reload": false, "Drain": false, "Explain a request": false, "all": false, "most limited": false}
	for range 80 {
		b.do("press Tab", chromedp.KeyEvent("\t"))
		got := evaluate[[2]string](b, `[document.activeElement.innerText ?? "", getComputedStyle(document.activeElement).outlineStyle]`)
		if _, known := want[got[0]]; known {
			want[got[0]] = true
			if got[1] == "none" {
				t.Errorf("one cannot see that %s has the focus", got[0])
			}
		}
	}
	for name, found := range want {
		if !found {
			t.Errorf("Tab does not come to %q", name)
		}
	}
	b.do("open a dialog", chromedp.Focus(chromedp.CSS("[data-action=reload]")), chromedp.KeyEvent("\r"))
	b.shows("dialog", "Reload the configuration?")
	b.do("leave it", chromedp.KeyEvent("\x1b"))
	if got := evaluate[string](b, `document.activeElement.innerText`); got != "Reload" {
		t.Errorf("after the dialog the focus is on %q", got)
	}
}
