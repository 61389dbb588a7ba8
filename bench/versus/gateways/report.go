package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// figure is what is measured, named as in the JSON.
type figure string

const (
	rateReached      figure = "requests_per_second"
	rateOffered      figure = "offered_per_second"
	cpuPerRequest    figure = "cpu_us_per_request"
	p50              figure = "p50_us"
	p99              figure = "p99_us"
	p999             figure = "p999_us"
	failures         figure = "failed"
	rssIdle          figure = "rss_idle_mib"
	rssLoaded        figure = "rss_loaded_mib"
	rssPerConnection figure = "rss_per_connection_bytes"
)

const mebi = 1 << 20

// report is all that a run has found.
type report struct {
	Machine  machine           `json:"machine"`
	Command  string            `json:"command"`
	Versions map[string]string `json:"versions"`
	Results  []result          `json:"results"`
	Skipped  []skip            `json:"skipped"`
	Reach    []reached         `json:"reach"`
}

type machine struct {
	CPU    string `json:"cpu"`
	Cores  int    `json:"cores"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
}

// result is a gateway in a scenario: of each figure one value a round.
type result struct {
	Scenario string               `json:"scenario"`
	Gateway  string               `json:"gateway"`
	Figures  map[figure][]float64 `json:"figures"`
}

// skip is what was not measured, and why.
type skip struct {
	Scenario string `json:"scenario"`
	Gateway  string `json:"gateway,omitempty"`
	Why      string `json:"why"`
}

func (r *result) add(f figure, value float64) { r.Figures[f] = append(r.Figures[f], value) }

func (r *result) median(f figure) (float64, bool) {
	if len(r.Figures[f]) == 0 {
		return 0, false
	}
	return median(r.Figures[f]), true
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	if n := len(sorted); n%2 == 0 {
		return (sorted[n/2-1] + sorted[n/2]) / 2
	}
	return sorted[len(sorted)/2]
}

// of finds a gateway in a scenario.
func (r report) of(scenario, gateway string) *result {
	for i := range r.Results {
		if r.Results[i].Scenario == scenario && r.Results[i].Gateway == gateway {
			return &r.Results[i]
		}
	}
	return nil
}

// ratio is the median of the rounds' ratios: rounds are neighbours in time.
func ratio(f figure, over, under *result) (float64, bool) {
	if over == nil || under == nil {
		return 0, false
	}
	a, b := over.Figures[f], under.Figures[f]
	if len(a) == 0 || len(a) != len(b) {
		return 0, false
	}
	all := make([]float64, len(a))
	for i := range a {
		if b[i] == 0 {
			return 0, false
		}
		all[i] = a[i] / b[i]
	}
	return median(all), true
}

func thisMachine() machine {
	m := machine{CPU: "unknown", Cores: runtime.NumCPU(), Go: runtime.Version()}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
			break
		}
	}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		m.Kernel = unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
	}
	return m
}

// column is a figure in the table of a scenario.
type column struct {
	figure figure
	title  string
	format string
}

func columns() []column {
	return []column{
		{rateOffered, "offered/s", "%.0f"}, {rateReached, "requests/s", "%.0f"}, {cpuPerRequest, "CPU µs", "%.2f"}, {p50, "p50 µs", "%.0f"},
		{p99, "p99 µs", "%.0f"}, {p999, "p99.9 µs", "%.0f"}, {failures, "failed", "%.0f"}, {rssIdle, "RSS idle MiB", "%.1f"}, {rssLoaded, "RSS loaded MiB", "%.1f"},
		{rssPerConnection, "RSS per connection, bytes", "%.0f"},
	}
}

// grid is a scenario as rows of words, the first of them titles. Columns that nobody has a figure for are left out.
func grid(results []result) [][]string {
	rows := [][]string{{"gateway"}}
	for _, r := range results {
		rows = append(rows, []string{r.Gateway})
	}
	for _, c := range columns() {
		if !slices.ContainsFunc(results, func(r result) bool { return len(r.Figures[c.figure]) > 0 }) {
			continue
		}
		rows[0] = append(rows[0], c.title)
		for i := range results {
			word := "–"
			if m, ok := results[i].median(c.figure); ok {
				word = fmt.Sprintf(c.format, m)
			}
			rows[i+1] = append(rows[i+1], word)
		}
	}
	rows[0] = append(rows[0], "CPU, against the first")
	for i := range results {
		word := "–"
		if x, ok := ratio(cpuPerRequest, &results[i], &results[0]); ok {
			word = fmt.Sprintf("%.2f", x)
		}
		rows[i+1] = append(rows[i+1], word)
	}
	return rows
}

// tell prints a scenario's table.
func tell(out io.Writer, name string, results []result) {
	rows := grid(results)
	fmt.Fprintf(out, "\n%s\n", name)
	for _, row := range rows {
		for i, word := range row {
			if i == 0 {
				fmt.Fprintf(out, "%-22s", word)
			} else {
				fmt.Fprintf(out, "  %*s", max(9, len([]rune(rows[0][i]))), word)
			}
		}
		fmt.Fprintln(out)
	}
}

// merge takes a later run's scenarios in place of those that it has again.
func (r *report) merge(later report) {
	again := func(scenario string) bool {
		return slices.ContainsFunc(later.Results, func(l result) bool { return l.Scenario == scenario })
	}
	r.Results = append(slices.DeleteFunc(r.Results, func(o result) bool { return again(o.Scenario) }), later.Results...)
	r.Skipped = append(slices.DeleteFunc(r.Skipped, func(o skip) bool { return again(o.Scenario) }), later.Skipped...)
	r.Machine, r.Command = later.Machine, strings.TrimPrefix(r.Command+"\n"+later.Command, "\n")
	if r.Versions == nil {
		r.Versions = map[string]string{}
	}
	for name, version := range later.Versions {
		r.Versions[name] = cmp.Or(version, r.Versions[name])
	}
}

// outputs is where a report goes beside the screen.
type outputs struct{ json, markdown, plots string }

func (o *outputs) flags(flags *flag.FlagSet) {
	flags.StringVar(&o.markdown, "markdown", "", "file to write the report to: between its marks, if it has them as BENCHMARKS.md has")
	flags.StringVar(&o.plots, "plots", "", "folder to draw gateways-cpu.svg and gateways-latency.svg in")
}

func (o *outputs) write(r report) error {
	r.Reach = r.reach()
	tellReach(os.Stdout, r.Reach)
	if o.json != "" {
		text, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			return err
		}
		if err := os.WriteFile(o.json, append(text, '\n'), 0o644); err != nil {
			return err
		}
	}
	if o.markdown != "" {
		if err := r.writeInto(o.markdown); err != nil {
			return err
		}
	}
	if o.plots != "" {
		return r.draw(o.plots)
	}
	return nil
}

// reportAgain makes a report of what earlier runs have written.
func reportAgain(args []string) error {
	flags := flag.NewFlagSet("report", flag.ContinueOnError)
	var out outputs
	out.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	var all report
	for _, name := range flags.Args() {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		var one report
		if err := json.Unmarshal(text, &one); err != nil {
			return fmt.Errorf("cannot read %q: %w", name, err)
		}
		all.merge(one)
	}
	return out.write(all)
}
