package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
)

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
	b.shows("dialog.drawer", "Route open")
	b.do("load it anew", chromedp.Reload())
	b.shows("dialog.drawer", "Route open")
}

// A client may call itself what it likes.
func TestPageShowsClientsAsText(t *testing.T) {
	t.Parallel()
	up := startAnswering(t, ok)
	g := newGateway(t, upstreamTable(up.url())+`
[[limit]]
name  = "few"
key   = ["client"]
rate  = "1/h"
burst = 1
`+guarded("key", `"keys"`, `limits = ["few"]`))
	const name = "<script>alert(1)</script>"
	g.place("keys.toml", keyRecord("one", name, ""))
	g.start()
	for range 3 {
		g.key(t, "one")
	}
	b := g.browse(t, false)
	b.shows("#offenders-table", name, "few")
	b.shows("#refused", name, "limited by few")
	b.shows("#limits-table", name)
	b.press("#offenders-table", "Reset")
	b.press("dialog", "Look first")
	b.shows("dialog", "0 of 1 left")
	b.click("dialog [type=submit]")
	b.shows("dialog .outcome[data-tone=good]", "1 bucket filled")
	if status := g.key(t, "one"); status != 200 {
		t.Errorf("the bucket is not filled: status %d", status)
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
