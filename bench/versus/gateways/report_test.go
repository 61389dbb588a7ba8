package main

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func one(scenario, gateway string, f figure, values ...float64) result {
	return result{Scenario: scenario, Gateway: gateway, Figures: map[figure][]float64{f: values}}
}

func row(t *testing.T, r report, what string) reached {
	t.Helper()
	for _, row := range r.reach() {
		if row.What == what {
			return row
		}
	}
	t.Fatalf("there is no goal %q", what)
	return reached{}
}

func TestGoalsAreJudged(t *testing.T) {
	cases := []struct {
		results []result
		what    string
		value   float64
		verdict string
		intent  string
	}{
		{[]result{one("full", "sluice", cpuPerRequest, 10, 10, 10), one("full", nginxBare, cpuPerRequest, 12, 11, 30)},
			"full vs nginx bare", 1.2, met, "the median of the rounds' ratios, and less time is better"},
		{[]result{one("full", "sluice", cpuPerRequest, 10), one("full", nginxBare, cpuPerRequest, 10.9)},
			"full vs nginx bare", 1.09, notMet, "a little too little"},
		{[]result{one("full", "sluice", cpuPerRequest, 10)}, "full vs nginx bare", 0, notMeasured, "nginx was not there"},
		{[]result{one("full", "sluice", cpuPerRequest, 10, 10), one("full", nginxBare, cpuPerRequest, 20)},
			"full vs nginx bare", 0, notMeasured, "rounds that do not pair"},
		{[]result{one("latency-full", "sluice", p99, 300), one("latency-full", nginxBare, p99, 400)},
			"p99 at half load vs nginx bare", 0.75, met, "less is better"},
		{[]result{one("latency-full", "sluice", p999, 700), one("latency-full", nginxBare, p999, 400)},
			"p99.9 at half load vs nginx bare", 1.75, notMet, "more is worse"},
		{[]result{one("idle", "sluice", rssPerConnection, 5000, 7000, 6000)}, "RSS per idle connection", 6000, met, "an absolute goal"},
		{[]result{one("idle", "sluice", rssPerConnection, 18000)}, "RSS per idle connection", 18000, notMet, "an absolute goal missed"},
		{[]result{one("body-1MiB", "sluice", rateReached, 900), one("body-1MiB", "nginx", rateReached, 1000)},
			"1 MiB bodies, bytes/s vs nginx", 0.9, notMet, "more requests are better"},
		{[]result{one("two-cores", "sluice", rateReached, 100), one("two-cores", "sluice on two", rateReached, 180),
			one("two-cores", "nginx", rateReached, 100), one("two-cores", "nginx on two", rateReached, 120)},
			"what a second core brings, vs what it brings nginx", 1.5, notMet, "a gain of gains"},
	}
	for _, c := range cases {
		got := row(t, report{Results: c.results}, c.what)
		if got.Verdict != c.verdict || math.Abs(got.Measured-c.value) > 1e-9 {
			t.Errorf("%s: want %v %s, have %+v", c.intent, c.value, c.verdict, got)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		all    []float64
		want   float64
		intent string
	}{{[]float64{3, 1, 2}, 2, "odd"}, {[]float64{4, 1, 2, 3}, 2.5, "even"}, {[]float64{7}, 7, "alone"}} {
		if got := median(c.all); got != c.want {
			t.Errorf("%s: %v", c.intent, got)
		}
	}
}

func sample() report {
	r := report{Command: "make bench-versus ARGS=''", Machine: machine{CPU: "x", Cores: 2}, Versions: map[string]string{"nginx": "nginx/1.22.1"}}
	for _, s := range []string{"bare", "full", "latency-full"} {
		for i, g := range []string{"sluice", "nginx", nginxBare, "sluice with one"} {
			x := float64(i + 1)
			one := result{Scenario: s, Gateway: g, Figures: map[figure][]float64{
				cpuPerRequest: {10 * x, 11 * x, 12 * x}, rateReached: {1e5 / x, 1e5 / x, 1e5 / x}, p50: {50, 50, 50}, p99: {100 * x, 100 * x, 100 * x}, p999: {900, 900, 900},
			}}
			if s == "latency-full" {
				one.add(rateOffered, 1000)
			}
			r.Results = append(r.Results, one)
		}
	}
	r.Skipped = []skip{{"bare", "traefik", "it could not be had"}, {"full", "traefik", "it could not be had"}}
	r.Reach = r.reach()
	return r
}

func TestReportIsWhole(t *testing.T) {
	r := sample()
	text := string(r.markdown())
	for _, want := range []string{"    make bench-versus", "| full vs nginx bare | at least 1.1x | 3.00x | met |", "| latency-full | 50, 100, 900 |", "| bare | 11.0, 100000 |", "- traefik in bare, full: it could not be had", "nginx/1.22.1"} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "|") && strings.Count(line, "|") < 3 {
			t.Errorf("not a row: %q", line)
		}
	}
	var screen bytes.Buffer
	tell(&screen, "full", r.in("full")) // an empty line, the name, titles, four gateways
	if lines := strings.Count(screen.String(), "\n"); lines != 7 || !strings.Contains(screen.String(), "3.00") {
		t.Errorf("%s", screen.String())
	}
}

// What stands around the marks stays, however often a report is written.
func TestReportStandsBetweenItsMarks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "BENCHMARKS.md")
	if err := os.WriteFile(path, []byte("before\n"+reportBegin+"old\n"+reportEnd+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := sample()
	for range 2 {
		if err := r.writeInto(path); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if want := "before\n" + reportBegin + string(r.markdown()) + reportEnd + "after\n"; err != nil || string(got) != want {
		t.Errorf("%v\n%s", err, got)
	}
}

func TestPlotsAreDrawn(t *testing.T) {
	for name, r := range map[string]report{"sample": sample(), "nothing measured": {}} {
		folder := t.TempDir()
		if err := r.draw(folder); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, plot := range []string{"gateways-cpu.svg", "gateways-latency.svg"} {
			text, err := os.ReadFile(filepath.Join(folder, plot))
			if err != nil || !bytes.Contains(text, []byte("<svg")) {
				t.Errorf("%s: %s: %v", name, plot, err)
			}
		}
	}
}

func TestLaterRunReplacesItsScenarios(t *testing.T) {
	first := sample()
	later := report{Command: "again", Results: []result{one("full", "sluice", cpuPerRequest, 1)}, Versions: map[string]string{"nginx": "nginx/2"}}
	first.merge(later)
	if got := first.in("full"); len(got) != 1 || got[0].Figures[cpuPerRequest][0] != 1 {
		t.Errorf("%+v", got)
	}
	if len(first.in("bare")) != 4 || first.Versions["nginx"] != "nginx/2" || !strings.HasSuffix(first.Command, "\nagain") {
		t.Errorf("%+v", first)
	}
}
