package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a tab of a real browser that shows the status page of a gateway. When the test ends, nothing may have
// gone wrong in it: no error on its console, no dialog, no request to anybody but the gateway.
type browser struct {
	t    testing.TB
	ctx  context.Context
	host string // the gateway's admin side

	mu       sync.Mutex
	faults   []string
	requests int
	expected []string // faults that hold one of these are none
}

// browserPath finds Chromium. Where tests decide a landing it has to be there.
func browserPath(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("chromium is needed for this test: .ci/tools installs it")
	}
	t.Skip("without chromium the status page is not tested: .ci/tools installs it")
	return ""
}

// browse opens the status page of a gateway, in the dark or not.
func (g *gateway) browse(t testing.TB, dark bool) *browser {
	t.Helper()
	path := browserPath(t)
	b := &browser{t: t, host: g.admin}
	profile := t.TempDir()
	ctx, stop := chromedp.NewContext(context.Background(), chromedp.WithListener(b.hear),
		chromedp.WithAllocatorOptions(chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.UserDataDir(profile)))
	b.ctx = ctx
	t.Cleanup(func() {
		stop()
		_ = chromedp.WaitClosed(ctx)
		b.judge()
	})
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.do("open a tab", chromedp.EmulateViewport(1440, 900))
	call(b, log.Enable, cdp.Empty{})
	call(b, network.Enable, network.EnableParams{})
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}})
	b.do("open the page", chromedp.Navigate("http://"+g.admin+"/"))
	return b
}

func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	ctx, done := context.WithTimeout(b.ctx, patience)
	defer done()
	if _, err := chromedp.Call(ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// do runs actions within the usual patience.
func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	// The first run starts the browser, which lives as long as the context of that run.
	done := make(chan error, 1)
	go func() { done <- chromedp.Do(b.ctx, actions...) }()
	select {
	case err := <-done:
		if err != nil {
			b.t.Fatalf("cannot %s: %v", what, err)
		}
	case <-time.After(2 * patience):
		b.t.Fatalf("cannot %s in time", what)
	}
}

// hear notes what goes wrong. It is called on the goroutine that reads from the browser.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fault := func(format string, args ...any) { b.faults = append(b.faults, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *runtime.EventConsoleAPICalled:
		text := ""
		for _, argument := range e.Args {
			text += " " + string(argument.Value) + argument.Description
		}
		fault("console %s:%s", e.Type, text)
	case *runtime.EventExceptionThrown:
		text := e.ExceptionDetails.Text
		if e.ExceptionDetails.Exception != nil {
			text += " " + e.ExceptionDetails.Exception.Description
		}
		fault("exception: %s", text)
	case *log.EventEntryAdded:
		fault("log %s: %s %s", e.Entry.Level, e.Entry.Text, e.Entry.URL)
	case *page.EventJavascriptDialogOpening:
		fault("a script of somebody else's ran: %s", e.Message)
	case *network.EventRequestWillBeSent:
		b.requests++
		if u, err := url.Parse(e.Request.URL); err != nil || u.Host != b.host && u.Scheme != "data" {
			fault("a request to %s", e.Request.URL)
		}
	}
}

// expect lets faults pass that hold a text.
func (b *browser) expect(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.expected = append(b.expected, text)
}

func (b *browser) judge() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.requests < 10 {
		b.t.Errorf("the browser made %d requests: nobody watched it", b.requests)
	}
	for _, fault := range b.faults {
		known := false
		for _, text := range b.expected {
			known = known || strings.Contains(fault, text)
		}
		if !known {
			b.t.Errorf("in the browser: %s", fault)
		}
	}
}

// evaluate asks the page for the value of an expression.
func evaluate[T any](b *browser, expression string) (value T) {
	b.t.Helper()
	ctx, done := context.WithTimeout(b.ctx, patience)
	defer done()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("cannot evaluate %s: %v", expression, err)
	}
	return value
}

// text is what a person reads in the first element of a selector; "" if there is none.
func (b *browser) text(selector string) string {
	b.t.Helper()
	return evaluate[string](b, fmt.Sprintf("document.querySelector(%s)?.innerText ?? ''", quoted(selector)))
}

func quoted(text string) string {
	j, _ := json.Marshal(text)
	return string(j)
}

// shows waits until all texts can be read in an element.
func (b *browser) shows(selector string, texts ...string) {
	b.t.Helper()
	defer func() {
		if b.t.Failed() {
			b.t.Logf("%s reads: %s", selector, b.text(selector))
		}
	}()
	eventually(b.t, fmt.Sprintf("%s shows %q", selector, texts), func() bool {
		got := b.text(selector)
		for _, text := range texts {
			if !strings.Contains(got, text) {
				time.Sleep(50 * time.Millisecond)
				return false
			}
		}
		return true
	})
}

// click presses what a selector finds, as a person does.
func (b *browser) click(selector string) {
	b.t.Helper()
	b.do("click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// press clicks the button of a name that is inside of what a selector finds.
func (b *browser) press(selector, name string) {
	b.t.Helper()
	found := evaluate[bool](b, fmt.Sprintf(`(() => {
		const button = [...document.querySelectorAll(%s + " button")].find((e) => e.textContent === %s);
		button?.click();
		return !!button;
	})()`, quoted(selector), quoted(name)))
	if !found {
		b.t.Fatalf("there is no button %q in %s", name, selector)
	}
}

// enter types a text into a field, in place of what is there.
func (b *browser) enter(selector, text string) {
	b.t.Helper()
	evaluate[bool](b, fmt.Sprintf("((e) => { e.focus(); e.select(); return true })(document.querySelector(%s))", quoted(selector)))
	b.do("type into "+selector, chromedp.KeyEvent(text))
}

// shoot keeps a picture of the screen, if SLUICE_SCREENSHOTS names a folder for them.
func (b *browser) shoot(name string) {
	b.t.Helper()
	dir := os.Getenv("SLUICE_SCREENSHOTS")
	if dir == "" {
		return
	}
	png, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err == nil {
		err = os.WriteFile(filepath.Join(dir, name+".png"), png, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}
