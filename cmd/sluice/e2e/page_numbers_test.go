package e2e

import (
	"fmt"
	"math"
	"slices"
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
	const perSecond, oneIn = 250, 5 // is refused
	client := g.dial(t)
	began := time.Now()
	n := 0
	var passed, refused answerTimes
	for ; time.Since(began) < 12*time.Second; n++ {
		time.Sleep(time.Until(began.Add(time.Duration(n) * time.Second / perSecond)))
		path, want, ended := "/x", 200, &passed
		if n%oneIn == 0 {
			path, want, ended = "/refused", 429, &refused
		}
		_ = client.SetDeadline(time.Now().Add(patience))
		if r := client.do("GET " + path + " HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != want {
			t.Fatalf("%s: status %d", path, r.status)
		}
		*ended = append(*ended, time.Now())
		if n > 8*perSecond && n%perSecond == 100 {
			all := slices.SortedFunc(slices.Values(slices.Concat(passed, refused)), time.Time.Compare)
			answerTimes(all).agree(t, "requests", b.number(`[data-figure="requests"] dd`))
			refused.agree(t, "refused", b.number(`[data-figure="refused"] dd`))
			passed.agree(t, "the route's rate", b.number("#routes-table tbody td:nth-child(4)"))
			if p50 := b.number(`[data-figure="p50"] dd`); p50 <= 0 || p50 > 1000 {
				t.Errorf("p50 is %v ms", p50)
			}
		}
	}
	eventually(t, "all requests are counted", func() bool { return b.number(`[data-figure="requests in all"] dd`) == float64(n+11) })
	rows := func(route string) float64 {
		return evaluate[float64](b, fmt.Sprintf(`Number([...document.querySelectorAll("#routes-table tbody tr")].find((e) => e.cells[0].innerText === %q).cells[12].innerText.replaceAll(",", ""))`, route))
	}
	if got := rows("all"); got != float64(len(passed)+10) {
		t.Errorf("the route had %v requests, and %d were sent", got, len(passed)+10)
	}
	if got := rows("refused"); got != float64(len(refused)+1) {
		t.Errorf("the other had %v requests, and %d were sent", got, len(refused)+1)
	}
	b.shows("#refused", "rate limited", fmt.Sprintf("· %d requests", len(refused)))
	b.shows("#limits-table", fmt.Sprint(len(refused)))
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

// answerTimes are when answers came, in that order.
type answerTimes []time.Time

// agree holds a rate that the page shows against what was measured here. The page takes it over five seconds and up to
// one more, of a time that ended up to two seconds ago; the machine may have kept the load from being even.
func (a answerTimes) agree(t *testing.T, what string, shown float64) {
	t.Helper()
	least, most := math.Inf(1), 0.0
	now := time.Now()
	for late := time.Duration(0); late <= 2500*time.Millisecond; late += 50 * time.Millisecond {
		for length := 5 * time.Second; length <= 6*time.Second; length += 100 * time.Millisecond {
			end := now.Add(-late)
			from, _ := slices.BinarySearchFunc(a, end.Add(-length), time.Time.Compare)
			to, _ := slices.BinarySearchFunc(a, end, time.Time.Compare)
			rate := float64(to-from) / length.Seconds()
			least, most = min(least, rate), max(most, rate)
		}
	}
	if shown < 0.98*least || shown > 1.02*most {
		t.Errorf("%s is %v, and was %.1f to %.1f: they agree within 2 %%", what, shown, least, most)
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
