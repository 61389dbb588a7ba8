package main

import (
	"bytes"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
)

// The lines in BENCHMARKS.md between which a report belongs.
const (
	reportBegin = "<!-- gateways: generated -->\n"
	reportEnd   = "<!-- gateways: end -->\n"
)

// writeInto puts a report into a file: between its marks if it has them, else in place of all that it holds.
func (r report) writeInto(path string) error {
	text := r.markdown()
	if old, err := os.ReadFile(path); err == nil {
		before, rest, ok1 := bytes.Cut(old, []byte(reportBegin))
		_, after, ok2 := bytes.Cut(rest, []byte(reportEnd))
		if ok1 && ok2 {
			text = slices.Concat(before, []byte(reportBegin), text, []byte(reportEnd), after)
		}
	}
	return os.WriteFile(path, text, 0o644)
}

// markdown is the report as a part of BENCHMARKS.md.
func (r report) markdown() []byte {
	var b bytes.Buffer
	for command := range strings.Lines(r.Command) {
		fmt.Fprintf(&b, "    %s\n", strings.TrimSuffix(command, "\n"))
	}
	fmt.Fprintf(&b, "\n%s, %d cores, %s, %s.", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, " %s: %s.", name, r.Versions[name])
	}
	b.WriteString("\n\n| goal | | measured | | figures |\n|---|---|---|---|---|\n")
	for _, row := range r.Reach {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row.words(), " | "))
	}
	b.WriteString("\n![CPU time of a request, by gateway](bench/gateways-cpu.svg)\n\n![Latencies at half load, by gateway](bench/gateways-latency.svg)\n")
	for _, m := range matrices() {
		r.writeMatrix(&b, m)
	}
	if len(r.Skipped) > 0 {
		b.WriteString("\nLeft out:\n\n")
		for _, s := range r.skippedOnce() {
			fmt.Fprintf(&b, "- %s\n", s)
		}
	}
	return b.Bytes()
}

// matrix is a table of scenarios and gateways.
type matrix struct {
	title string
	cell  []column // what is in a cell, one after the other
	has   figure   // scenarios without this figure are left out ...
	not   figure   // ... and those with this one
}

func matrices() []matrix {
	return []matrix{
		{"CPU time of a request in µs, and requests per second", []column{{cpuPerRequest, "", "%.1f"}, {rateReached, "", "%.0f"}}, cpuPerRequest, rateOffered},
		{"Latency at half load in µs: p50, p99, p99.9, from the time that a request was due", []column{{p50, "", "%.0f"}, {p99, "", "%.0f"}, {p999, "", "%.0f"}}, rateOffered, ""},
		{"Resident memory in MiB: before load, and after", []column{{rssIdle, "", "%.0f"}, {rssLoaded, "", "%.0f"}}, rssLoaded, rateOffered},
		{"Resident memory that an idle connection takes, in bytes", []column{{rssPerConnection, "", "%.0f"}}, rssPerConnection, ""},
	}
}

// writeMatrix writes a table. Gateways that are in few scenarios, as a second Sluice, share the last column.
func (r report) writeMatrix(b *bytes.Buffer, m matrix) {
	scenarios := slices.DeleteFunc(r.scenarios(), func(s string) bool {
		all := r.in(s)
		return !slices.ContainsFunc(all, func(o result) bool { return len(o.Figures[m.has]) > 0 }) ||
			slices.ContainsFunc(all, func(o result) bool { return len(o.Figures[m.not]) > 0 })
	})
	if len(scenarios) == 0 {
		return
	}
	gateways := r.shown(scenarios)
	titles := gateways
	if slices.ContainsFunc(r.Results, func(o result) bool {
		return slices.Contains(scenarios, o.Scenario) && !slices.Contains(gateways, o.Gateway)
	}) {
		titles = append(slices.Clone(gateways), "others")
	}
	fmt.Fprintf(b, "\n%s:\n\n| | %s |\n|%s\n", m.title, strings.Join(titles, " | "), strings.Repeat("---|", len(titles)+1))
	for _, s := range scenarios {
		fmt.Fprintf(b, "| %s |", s)
		for _, g := range gateways {
			fmt.Fprintf(b, " %s |", m.words(r.of(s, g)))
		}
		var others []string
		for _, o := range r.in(s) {
			if !slices.Contains(gateways, o.Gateway) {
				others = append(others, o.Gateway+" "+m.words(&o))
			}
		}
		if len(titles) > len(gateways) {
			fmt.Fprintf(b, " %s |", strings.Join(others, "; "))
		}
		b.WriteString("\n")
	}
}

func (m matrix) words(o *result) string {
	if o == nil {
		return "–"
	}
	var all []string
	for _, c := range m.cell {
		if value, ok := o.median(c.figure); ok {
			all = append(all, fmt.Sprintf(c.format, value))
		}
	}
	if len(all) == 0 {
		return "–"
	}
	return strings.Join(all, ", ")
}

// scenarios are the names of what was measured, in order.
func (r report) scenarios() (names []string) {
	for _, one := range r.Results {
		if !slices.Contains(names, one.Scenario) {
			names = append(names, one.Scenario)
		}
	}
	return names
}

func (r report) in(scenario string) (all []result) {
	for _, one := range r.Results {
		if one.Scenario == scenario {
			all = append(all, one)
		}
	}
	return all
}

// skippedOnce tells each reason once, with all scenarios that it holds for.
func (r report) skippedOnce() (lines []string) {
	type reason struct{ gateway, why string }
	var order []reason
	where := map[reason][]string{}
	for _, s := range r.Skipped {
		key := reason{s.Gateway, s.Why}
		if where[key] == nil {
			order = append(order, key)
		}
		where[key] = append(where[key], s.Scenario)
	}
	for _, key := range order {
		who := strings.Join(where[key], ", ")
		if key.gateway != "" {
			who = key.gateway + " in " + who
		}
		lines = append(lines, who+": "+key.why)
	}
	return lines
}
