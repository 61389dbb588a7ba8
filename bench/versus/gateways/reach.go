package main

import (
	"fmt"
	"io"
	"strings"
)

// reached is a row of the goals, and what was measured of it. Ratios are the median of the rounds' ratios.
type reached struct {
	What     string  `json:"what"`
	Goal     string  `json:"goal"`
	Measured float64 `json:"measured"`
	Verdict  string  `json:"verdict"` // met, not met, not measured
	Note     string  `json:"note,omitempty"`
}

// goal is a row of the table of goals.
type goal struct {
	what    string
	limit   float64
	atMost  bool
	unit    string
	measure func(report) (value float64, note string, ok bool)
}

const (
	met         = "met"
	notMet      = "not met"
	notMeasured = "not measured"
)

func goals() []goal {
	return []goal{
		{"full vs nginx bare", 1.10, false, "x", cheaper("full", nginxBare)},
		{"full with lanes vs nginx bare, 64 connections", 1.2, false, "x", cheaper("lanes-64", nginxBare)},
		{"full with lanes vs nginx bare, 256 connections", 1.5, false, "x", cheaper("lanes-256", nginxBare)},
		{"full JWT (cached) vs nginx bare", 1.05, false, "x", cheaper("jwt", nginxBare)},
		{"refused vs nginx `limit_req` refusing", 1.5, false, "x", cheaper("refused", "nginx")},
		{"full vs HAProxy with key and stick table", 1.25, false, "x", cheaper("full", "haproxy")},
		{"full vs Traefik with a rate limit", 5, false, "x", cheaper("full", "traefik")},
		{"full vs Caddy with a rate limit", 5, false, "x", cheaper("full", "caddy")},
		{"p99 at half load vs nginx bare", 1.0, true, "x", later(p99)},
		{"p99.9 at half load vs nginx bare", 1.5, true, "x", later(p999)},
		{"what a second core brings, vs what it brings nginx", 1.7, false, "x", gains},
		{"10k routes, 1M clients vs 1 route, 1 client", 0.93, false, "x", cheaper("clients-1M", "sluice with one")},
		{"TLS 1.3 keep-alive vs nginx TLS", 0.95, false, "x", cheaper("tls", "nginx")},
		{"1 MiB bodies, bytes/s vs nginx", 1.0, false, "x", func(r report) (float64, string, bool) {
			return compare(r, "body-1MiB", rateReached, "sluice", "nginx")
		}},
		{"RSS per idle connection", 6 << 10, true, " bytes", func(r report) (float64, string, bool) {
			one := r.of("idle", "sluice")
			if one == nil {
				return 0, "", false
			}
			value, ok := one.median(rssPerConnection)
			return value, r.list("idle", rssPerConnection, "sluice", "nginx", "haproxy"), ok
		}},
	}
}

// cheaper is how many times the processor time of Sluice another takes in a scenario. The throughput's ratio is noted.
func cheaper(scenario, than string) func(report) (float64, string, bool) {
	return func(r report) (float64, string, bool) {
		value, note, ok := compare(r, scenario, cpuPerRequest, than, "sluice")
		if rates, _, there := compare(r, scenario, rateReached, "sluice", than); there {
			note += fmt.Sprintf("; throughput %.2fx", rates)
		}
		return value, note, ok
	}
}

// later compares percentiles at the same rate: Sluice with everything on, and nginx with nothing on.
func later(percentile figure) func(report) (float64, string, bool) {
	return func(r report) (float64, string, bool) {
		value, note, ok := compare(r, "latency-full", percentile, "sluice", nginxBare)
		if same, _, there := compare(r, "latency-full", percentile, "sluice", "nginx"); there {
			note += fmt.Sprintf("; vs nginx with the same on %.2fx", same)
		}
		if bare, _, there := compare(r, "latency-bare", percentile, "sluice", "nginx"); there {
			note += fmt.Sprintf("; both bare %.2fx", bare)
		}
		return value, note, ok
	}
}

// gains is what a second core brings Sluice, over what it brings nginx.
func gains(r report) (float64, string, bool) {
	mine, _, ok1 := compare(r, "two-cores", rateReached, "sluice on two", "sluice")
	theirs, _, ok2 := compare(r, "two-cores", rateReached, "nginx on two", "nginx")
	if !ok1 || !ok2 {
		return 0, "", false
	}
	return mine / theirs, fmt.Sprintf("Sluice %.2fx, nginx %.2fx: load and upstream take their part of the second core", mine, theirs), true
}

// compare is the ratio of a figure of two gateways in a scenario, with both in the note.
func compare(r report, scenario string, f figure, over, under string) (float64, string, bool) {
	value, ok := ratio(f, r.of(scenario, over), r.of(scenario, under))
	return value, r.list(scenario, f, over, under), ok
}

func (r report) list(scenario string, f figure, gateways ...string) string {
	var all []string
	for _, name := range gateways {
		if one := r.of(scenario, name); one != nil {
			if m, ok := one.median(f); ok {
				format := "%s %.0f"
				if m < 1000 {
					format = "%s %.3g"
				}
				all = append(all, fmt.Sprintf(format, name, m))
			}
		}
	}
	return strings.Join(all, ", ")
}

// reach is the table of goals.
func (r report) reach() []reached {
	var all []reached
	for _, g := range goals() {
		row := reached{What: g.what, Goal: fmt.Sprintf("at least %g%s", g.limit, g.unit), Verdict: notMeasured}
		if g.atMost {
			row.Goal = fmt.Sprintf("at most %g%s", g.limit, g.unit)
		}
		if value, note, ok := g.measure(r); ok {
			row.Measured, row.Note, row.Verdict = value, note, notMet
			if value >= g.limit && !g.atMost || value <= g.limit && g.atMost {
				row.Verdict = met
			}
		}
		all = append(all, row)
	}
	return all
}

func (row reached) words() []string {
	measured := "–"
	if row.Verdict != notMeasured {
		measured = fmt.Sprintf("%.2fx", row.Measured)
		if strings.HasSuffix(row.Goal, "bytes") {
			measured = fmt.Sprintf("%.0f bytes", row.Measured)
		}
	}
	return []string{row.What, row.Goal, measured, row.Verdict, row.Note}
}

func tellReach(out io.Writer, rows []reached) {
	fmt.Fprintf(out, "\n%-52s %-20s %-12s %s\n", "goal", "", "measured", "")
	for _, row := range rows {
		w := row.words()
		fmt.Fprintf(out, "%-52s %-20s %-12s %-12s  %s\n", w[0], w[1], w[2], w[3], w[4])
	}
}
