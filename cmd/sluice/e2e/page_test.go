package e2e

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

// Every state of a target that the page tells is provoked, seen, and seen to end.
func TestPageShowsUnhealthyTargets(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 3)
	g := startGateway(t, moodyUpstream(urls, `
[upstream.a.health]
path = "/healthz"
interval = "200ms"
timeout = "200ms"
unhealthy = 2
healthy = 2
`))
	b := g.browse(t, false)
	b.shows("#state", "serving")
	b.shows("#sick", "None: 3 targets of 1 upstream are well")
	b.shows("#upstreams-table", all[0].address(), "healthy", "closed")
	all[0].set(errorMood)
	b.shows("#sick", "a: 1 of 3 out", all[0].address(), "unhealthy", "500")
	b.shows("#upstreams-table", "unhealthy")
	b.shows("#changed", "a: "+all[0].address()+" unhealthy")
	all[0].set(wellMood)
	b.shows("#sick", "None")
	b.shows("#changed", "a: "+all[0].address()+" is well again")
}

func TestPageShowsOpenBreakers(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 3)
	g := startGateway(t, moodyUpstream(urls, `balance = "round_robin"
[upstream.a.breaker]
min_requests = 6
probes = 2
open_for = "3s"
`))
	b := g.browse(t, false)
	b.shows("#sick", "None: 3 targets of 1 upstream are well")
	all[1].set(errorMood)
	g.until(t, "its breaker opens", all[1], isOpen)
	b.shows("#sick", "a: 1 of 3 out", all[1].address(), "breaker open")
	b.shows("#upstreams-table", "breaker open", "tried again in")
	b.shoot("sick")
	all[1].set(wellMood)
	g.until(t, "its breaker closes", all[1], isClosed)
	b.shows("#sick", "None")
	b.shows("#changed", "a: "+all[1].address()+" is well again")
}

func TestPageShowsEjectedTargets(t *testing.T) {
	t.Parallel()
	all, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(urls, `balance = "round_robin"
[upstream.a.breaker]
min_requests = 100000
`))
	b := g.browse(t, false)
	b.shows("#sick", "None")
	all[1].set(halfMood)
	seen := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { // it is ejected for longer each time that it fails again
		for {
			select {
			case <-seen:
				return
			default:
				_ = g.load(t, 1, 20)
			}
		}
	})
	b.shows("#upstreams-table", "ejected")
	b.shows("#changed", all[1].address()+" ejected")
	close(seen)
	load.Wait()
}

func TestPageShowsReloads(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, only("/start", up.url(), ""))
	b := g.browse(t, true)
	b.shows("#config", g.status(t).Config.Hash)

	g.configure(only("/start", up.url(), "") + "[[route]]\nname = \"<script>alert(1)</script>\"\n")
	b.shows("#changed", "A reload failed", "<script>alert(1)</script>")
	b.shows("#config", "1 failed", "<script>alert(1)</script>")
	b.shoot("reload-failed")
	g.configure(only("/next", up.url(), ""))
	eventually(t, "the good configuration is live", func() bool { return g.answers(t, "/next") == 200 })
	b.shows("#changed", g.status(t).Config.Hash[:8]+" is live")
	b.shows("#routes-table", "/next")
	b.shows("#config", g.status(t).Config.Hash)
	if verdict := b.text("#changed .verdict"); strings.Contains(verdict, "failed") {
		t.Errorf("the failure is healed, and the page says: %s", verdict)
	}
}

// The buttons do what they say, once it is confirmed and not before.
func TestPageActs(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	text := upstreamTable(up.url()) + `
[[limit]]
name  = "few"
key   = ["client"]
rate  = "1/h"
burst = 1
[[limit]]
name  = "other"
key   = []
rate  = "1/h"
` + guarded("key", `"keys"`, `limits = ["few"]`)
	g := newGateway(t, text)
	g.place("keys.toml", keyRecord("one", "alice", "")+keyRecord("two", "bob", ""))
	g.start()
	b := g.browse(t, false)
	b.shows("#limits-table", "few")
	hash := g.status(t).Config.Hash

	for _, want := range []int{200, 429} {
		if status := g.key(t, "one"); status != want {
			t.Fatalf("status %d, want %d", status, want)
		}
	}
	b.click("[data-action=reset]")
	b.enter("dialog [name=key]", "alice")
	b.press("dialog", "Look first")
	b.shows("dialog", "0 of 1 left")
	if status := g.key(t, "one"); status != 429 {
		t.Errorf("to look fills the bucket: status %d", status)
	}
	b.click("dialog [type=submit]")
	b.shows("dialog .outcome[data-tone=good]", "1 bucket filled")
	if status := g.key(t, "one"); status != 200 {
		t.Errorf("the bucket is not filled: status %d", status)
	}
	b.do("close", chromedp.KeyEvent("\x1b"))

	b.click("[data-action=revoke]")
	b.enter("dialog [name=id]", "bob")
	b.shoot("revoke")
	if status := g.key(t, "two"); status != 200 {
		t.Errorf("bob is revoked already: status %d", status)
	}
	b.click("dialog [type=submit]")
	b.shows("dialog .outcome[data-tone=good]", "Revoked: client bob")
	if status := g.key(t, "two"); status != 401 {
		t.Errorf("bob is not revoked: status %d", status)
	}
	b.do("close", chromedp.KeyEvent("\x1b"))
	b.shows("#limits-note", "1 revocation in force")

	g.configure(text + "[[route]]\n")
	b.expect("422 (Unprocessable Entity)")
	b.click("[data-action=reload]")
	b.click("dialog [type=submit]")
	b.shows("dialog .outcome[data-tone=bad]", "not done", "gateway.toml:")
	b.do("close", chromedp.KeyEvent("\x1b"))
	g.configure(text + guarded("more", `"none"`, ""))
	b.click("[data-action=reload]")
	b.click("dialog [type=submit]")
	b.shows("dialog .outcome[data-tone=good]", "is live")
	if g.status(t).Config.Hash == hash {
		t.Error("the page speaks of a reload that was none")
	}
	b.do("close", chromedp.KeyEvent("\x1b"))

	b.click("[data-action=drain]")
	b.do("think again", chromedp.KeyEvent("\x1b"))
	if state := g.status(t).State; state != "serving" {
		t.Errorf("a drain that nobody confirmed: %s", state)
	}
	b.expect("net::ERR_") // the page goes on asking
	b.click("[data-action=drain]")
	b.click("dialog [type=submit]")
	if code := g.wait(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	b.shows("#banner", "No word from the gateway")
	b.shows("#state", "unreachable")
}

// With a token, the page shows nothing before it has the right one, and keeps it for its tab.
func TestPageAsksForTheToken(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, "[admin]\nlisten = \"$ADMIN\"\ntoken = \"open sesame\"\n"+only("/secret-route", up.url(), ""))
	b := g.browse(t, true)
	b.expect("401 (Unauthorized)")
	b.shows("#unlock", "wants its token")
	b.shoot("token")
	for _, wrong := range []string{"sesame", "open sesam"} {
		b.enter("#unlock [name=token]", wrong)
		b.click("#unlock [type=submit]")
		b.shows("#unlock", "does not take that token")
	}
	if text := b.text("body"); strings.Contains(text, "secret-route") {
		t.Errorf("without the token the page shows: %s", text)
	}
	b.enter("#unlock [name=token]", "open sesame")
	b.click("#unlock [type=submit]")
	b.shows("#routes-table", "/secret-route")
	b.do("load the page again", chromedp.Reload())
	b.shows("#routes-table", "/secret-route")
	b.click("[data-action=reload]")
	b.click("dialog [type=submit]")
	b.shows("dialog .outcome[data-tone=good]", "is live")
	if n := evaluate[int](b, `localStorage.length + document.cookie.length`); n != 0 {
		t.Error("the token, or something, is kept for longer than the tab")
	}
	if got := evaluate[string](b, `fetch("/status").then((r) => String(r.status))`); got != "401" {
		t.Errorf("without its token the page gets %s", got)
	}
}

// What a client or a configuration says is text, wherever it is shown.
func TestPageExplains(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, upstreamTable(up.url())+guarded("orders", `"keys"`, "")+guarded("open", `"none"`, ""))
	b := g.browse(t, false)
	b.shows("#routes-table", "orders")
	b.press("#routes-table", "orders")
	b.shows("dialog.drawer", "Route orders", "/orders/*", "keys", "Requests per second")
	b.click(".explainer [type=submit]")
	b.shows(".steps", "credentials_missing", "401")
	b.enter(".explainer [name=headers]", "X-API-Key: "+strings.Repeat("k", 20))
	b.enter(".explainer [name=url]", "/orders/<script>alert(1)</script>?<img src=x onerror=alert(2)>")
	b.click(".explainer [type=submit]")
	b.shows(".steps", "400")
	b.enter(".explainer [name=url]", "/orders/7?a=<img/src=x/onerror=alert(2)>")
	b.click(".explainer [type=submit]")
	b.shows(".steps", "forwarded by route orders", "its credential is good", "/orders/7?a=<img/src=x/onerror=alert(2)>")
	b.shoot("explain")
	b.enter(".explainer [name=url]", "no url")
	b.expect("400 (Bad Request)")
	b.click(".explainer [type=submit]")
	b.shows(".explainer", "want http://HOST/PATH")
	b.do("close", chromedp.KeyEvent("\x1b"))
	if n := up.take(); len(n) > 0 {
		t.Errorf("to explain sends %d requests", len(n))
	}
	b.do("follow a link to a route", chromedp.Navigate("http://"+g.admin+"/#route=open"))
	b.do("load it", chromedp.Reload())
	b.shows("dialog.drawer", "Route open")
}

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

// Another site, even one whose name leads here, cannot put the page in a frame or read what it shows.
func TestPageIsNobodyElses(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := startGateway(t, only("/x", up.url(), ""))
	other := startService(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `<!doctype html><iframe src="http://%[1]s/"></iframe>
<script>fetch("http://%[1]s/status").then((r) => r.text(), () => "refused").then((t) => document.title = t)</script>`, g.admin)
	})
	b := g.browse(t, false)
	b.expect("")
	b.do("visit another site", chromedp.Navigate(other.URL))
	eventually(t, "the other site has tried", func() bool { return b.text("title") != "" || evaluate[string](b, "document.title") != "" })
	if title := evaluate[string](b, "document.title"); title != "refused" {
		t.Errorf("the other site reads %s", title)
	}
	tree, err := chromedp.Call(b.ctx, page.GetFrameTree, struct{}{})
	if err != nil {
		t.Fatal(err)
	}
	for _, child := range tree.FrameTree.ChildFrames {
		if child.Frame.UnreachableURL == "" {
			t.Errorf("the page is in a frame: %s", child.Frame.URL)
		}
	}
}

// A known load is what the page shows: what passes, what is refused, and what fails.
func TestPageNumbersAgree(t *testing.T) {
	all, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(urls, `
[upstream.a.breaker]
min_requests = 100000
[[limit]]
name  = "none"
key   = []
rate  = "1/d"
burst = 1
[[route]]
name   = "refused"
path   = "/refused"
auth   = ["none"]
limits = ["none"]
to     = "a"
`))
	if status := g.answers(t, "/refused"); status != 200 {
		t.Fatalf("status %d", status)
	}
	for _, m := range all {
		m.set(errorMood)
	}
	for range 10 {
		if status := g.answers(t, "/x"); status != 500 {
			t.Fatalf("status %d", status)
		}
	}
	for _, m := range all {
		m.set(wellMood)
	}
	b := g.browse(t, false)
	b.shows("#state", "serving")
	const perSecond, refusedPerSecond = 250, 50 // of them
	client := g.dial(t)
	began := time.Now()
	n, refused := 0, 0
	for ; time.Since(began) < 12*time.Second; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / perSecond)))
		path, want := "/x", 200
		if n%(perSecond/refusedPerSecond) == 0 {
			path, want = "/refused", 429
			refused++
		}
		_ = client.SetDeadline(time.Now().Add(patience))
		if r := client.do("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != want {
			t.Fatalf("%s: status %d", path, r.status)
		}
		if n > 8*perSecond && n%perSecond == 100 {
			agree(t, "requests", b.number(`[data-figure="requests"] dd`), perSecond)
			agree(t, "refused", b.number(`[data-figure="refused"] dd`), refusedPerSecond)
			agree(t, "the route's rate", b.number("#routes-table tbody td:nth-child(4)"), perSecond-refusedPerSecond)
			if p50 := b.number(`[data-figure="p50"] dd`); p50 <= 0 || p50 > 1000 {
				t.Errorf("p50 is %v ms", p50)
			}
		}
	}
	eventually(t, "all requests are counted", func() bool { return b.number(`[data-figure="requests in all"] dd`) == float64(n+11) })
	rows := func(route string) float64 {
		return evaluate[float64](b, fmt.Sprintf(`Number([...document.querySelectorAll("#routes-table tbody tr")].find((e) => e.cells[0].innerText === %q).cells[12].innerText.replaceAll(",", ""))`, route))
	}
	if got := rows("all"); got != float64(n-refused+10) {
		t.Errorf("the route had %v requests, and %d were sent", got, n-refused+10)
	}
	if got := rows("refused"); got != float64(refused+1) {
		t.Errorf("the other had %v requests, and %d were sent", got, refused+1)
	}
	b.shows("#refused", "rate limited", fmt.Sprintf("· %d requests", refused))
	b.shows("#limits-table", fmt.Sprint(refused))
	b.shoot("load")
}

// number is the first number that can be read in an element.
func (b *browser) number(selector string) float64 {
	b.t.Helper()
	text := strings.ReplaceAll(b.text(selector), ",", "")
	end := strings.IndexFunc(text, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(text)
	}
	n, err := strconv.ParseFloat(text[:end], 64)
	if err != nil {
		b.t.Fatalf("%s reads %q", selector, text)
	}
	return n
}

func agree(t *testing.T, what string, got, want float64) {
	t.Helper()
	if got < 0.98*want || got > 1.02*want {
		t.Errorf("%s is %v, want %v within 2 %%", what, got, want)
	}
}

// top shows the same in a terminal.
func TestTopOfARunningGateway(t *testing.T) {
	t.Parallel()
	_, urls := startMoodies(t, 2)
	g := startGateway(t, moodyUpstream(urls, ""))
	_ = g.load(t, 2, 50)
	out := g.verb(t, "top", "--once")
	for _, want := range []string{"serving", "well: all of 2 targets", "\nROUTES\n", "all "} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
}
