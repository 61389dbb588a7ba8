package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"
)

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
