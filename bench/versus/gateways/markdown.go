package main

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// markdown is the report as a section of BENCHMARKS.md.
func (r report) markdown() []byte {
	var b bytes.Buffer
	for command := range strings.Lines(r.Command) {
		fmt.Fprintf(&b, "    %s\n", strings.TrimSuffix(command, "\n"))
	}
	fmt.Fprintf(&b, "\n%s, %d cores, %s, %s.", r.Machine.CPU, r.Machine.Cores, r.Machine.Kernel, r.Machine.Go)
	for _, name := range slices.Sorted(maps.Keys(r.Versions)) {
		fmt.Fprintf(&b, " %s: %s.", name, r.Versions[name])
	}
	b.WriteString("\n\n| goal | at least / at most | measured | | figures |\n|---|---|---|---|---|\n")
	for _, row := range r.Reach {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row.words(), " | "))
	}
	b.WriteString("\n![CPU time of a request, by gateway](bench/gateways-cpu.svg)\n\n![Latencies at half load](bench/gateways-latency.svg)\n")
	for _, name := range r.scenarios() {
		fmt.Fprintf(&b, "\n**%s**\n\n", name)
		for i, row := range grid(r.in(name)) {
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
			if i == 0 {
				b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
			}
		}
	}
	if len(r.Skipped) > 0 {
		b.WriteString("\nLeft out:\n\n")
		for _, s := range r.skippedOnce() {
			fmt.Fprintf(&b, "- %s\n", s)
		}
	}
	return b.Bytes()
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
