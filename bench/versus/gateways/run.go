package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// runner measures gateways.
type runner struct {
	rounds       int
	long         time.Duration
	sluice, json string
	before       string

	self, folder, upstream string
	results                []result
}

// result is a gateway in a scenario: one figure a round.
type result struct {
	Scenario string    `json:"scenario"`
	Gateway  string    `json:"gateway"`
	Rate     []float64 `json:"requests_per_second"`
	CPU      []float64 `json:"cpu_us_per_request"`
	P50      []float64 `json:"p50_us"`
	P99      []float64 `json:"p99_us"`
	Memory   []float64 `json:"rss_mib"`
}

func (r *runner) run(scenarios []scenario, rivals []rival) error {
	var err error
	if r.folder, err = os.MkdirTemp("", "gateways"); err != nil {
		return err
	}
	defer os.RemoveAll(r.folder)
	if r.self, err = os.Executable(); err != nil {
		return err
	}
	if r.sluice == "" {
		r.sluice = filepath.Join(r.folder, "sluice")
		build := exec.Command("go", "build", "-C", "../..", "-trimpath", "-o", r.sluice, "./cmd/sluice") // from the folder of this module
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
	}
	if r.before != "" {
		rivals = slices.Insert(slices.Clone(rivals), min(1, len(rivals)), rival{"before", r.before, anything, setupSluice})
	}
	if r.upstream, err = freeAddress(); err != nil {
		return err
	}
	origin, err := start(loadCore, r.self, "serve", "-listen", r.upstream)
	if err != nil {
		return err
	}
	defer origin.stop()
	if err := await(r.upstream); err != nil {
		return err
	}
	for _, s := range scenarios {
		if err := r.scenario(s, rivals); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return r.write()
}

// quietName is Sluice without what a scenario asks for.
const quietName = "quiet"

// running is a gateway that has been set up.
type running struct {
	*process
	name, listen string
}

// scenario measures all gateways that can do it.
func (r *runner) scenario(s scenario, rivals []rival) error {
	var all []*running
	defer func() {
		for _, g := range all {
			g.stop()
		}
	}()
	if s.quiet {
		rivals = []rival{{"sluice", "", anything, setupSluice}, {quietName, "", anything, setupSluice}}
	}
	for _, rival := range rivals {
		switch {
		case !rival.installed():
			fmt.Printf("%s: %s is not installed\n", s.name, rival.name)
			continue
		case !rival.does(s.features):
			continue
		}
		g, err := r.start(s, rival)
		if err != nil {
			return fmt.Errorf("%s: %w", rival.name, err)
		}
		all = append(all, g)
		if err := s.check(g.listen); err != nil {
			return fmt.Errorf("%s: %w\n%s", rival.name, err, g.output.String())
		}
	}
	results := make([]result, len(all))
	for round := range r.rounds {
		for i := range all { // each round begins with another one
			g := (i + round) % len(all)
			if err := r.measure(s, all[g], &results[g]); err != nil {
				return fmt.Errorf("%s: %w\n%s", all[g].name, err, all[g].output.String())
			}
		}
	}
	for i := range results {
		results[i].Scenario, results[i].Gateway = s.name, all[i].name
	}
	r.results = append(r.results, results...)
	tell(results)
	return nil
}

func (r *runner) start(s scenario, v rival) (*running, error) {
	p := place{upstream: r.upstream, self: r.self, sluice: r.sluice, features: s.features}
	switch v.name {
	case "before":
		p.sluice = r.before
	case quietName:
		p.features = features{}
	}
	var err error
	if p.folder, err = os.MkdirTemp(r.folder, v.name); err != nil {
		return nil, err
	}
	if p.listen, err = freeAddress(); err != nil {
		return nil, err
	}
	if p.admin, err = freeAddress(); err != nil {
		return nil, err
	}
	command, err := v.setup(p)
	if err != nil {
		return nil, err
	}
	process, err := start(gatewayCore, command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	g := &running{process, v.name, p.listen}
	if err := await(p.listen); err != nil {
		g.stop()
		return nil, fmt.Errorf("%w\n%s", err, g.output.String())
	}
	return g, nil
}

// check holds one answer against what the scenario expects.
func (s scenario) check(address string) error {
	method, body := "GET", io.Reader(nil)
	if s.body > 0 {
		method, body = "POST", strings.NewReader(strings.Repeat("x", s.body))
	}
	var status, length int
	for range 5 { // a limit of one a second refuses the second
		request, err := http.NewRequest(method, "http://"+address+s.path, body)
		if err != nil {
			return err
		}
		for _, h := range s.headers {
			name, value, _ := strings.Cut(h, ": ")
			request.Header.Set(name, value)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		text, err := io.ReadAll(response.Body)
		_ = response.Body.Close()
		if err != nil {
			return err
		}
		if status, length = response.StatusCode, len(text); status == s.status && (s.length < 0 || s.length == length) {
			return nil
		}
	}
	return fmt.Errorf("answered %d with %d bytes, expected %d with %d", status, length, s.status, s.length)
}

// measure lets wrk ask a gateway for a while.
func (r *runner) measure(s scenario, g *running, into *result) error {
	before, err := g.cpu()
	if err != nil {
		return err
	}
	args := []string{"-c", loadCore, "wrk", "-t1", "-c" + strconv.Itoa(s.connections), "-d" + strconv.Itoa(int(r.long.Seconds())) + "s", "--latency"}
	for _, h := range s.headers {
		args = append(args, "-H", h)
	}
	if script := s.script(); script != "" {
		path := filepath.Join(r.folder, s.name+".lua")
		if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
			return err
		}
		args = append(args, "-s", path)
	}
	out, err := exec.Command("taskset", append(args, "http://"+g.listen+s.path)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("wrk: %w\n%s", err, out)
	}
	after, err := g.cpu()
	if err != nil {
		return err
	}
	load, err := parseWrk(string(out))
	if err != nil {
		return err
	}
	if failed := load.failed; (s.status < 400) == (failed > load.requests/1000) {
		return fmt.Errorf("%d of %d requests failed, in a scenario where all are answered %d", failed, load.requests, s.status)
	}
	into.Rate = append(into.Rate, load.rate)
	into.CPU = append(into.CPU, float64((after-before).Microseconds())/float64(load.requests))
	into.P50 = append(into.P50, load.p50)
	into.P99 = append(into.P99, load.p99)
	into.Memory = append(into.Memory, float64(g.memory())/(1<<20))
	return nil
}

// load is what wrk tells.
type load struct {
	requests, failed int
	rate, p50, p99   float64 // a second; microseconds
}

func parseWrk(text string) (l load, err error) {
	find := func(pattern string) string {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	var errs [4]error
	l.requests, errs[0] = strconv.Atoi(find(`(\d+) requests in`))
	l.rate, errs[1] = strconv.ParseFloat(find(`Requests/sec:\s+([\d.]+)`), 64)
	l.p50, errs[2] = microseconds(find(`(?m)^\s+50%\s+(\S+)`))
	l.p99, errs[3] = microseconds(find(`(?m)^\s+99%\s+(\S+)`))
	if n := find(`Non-2xx or 3xx responses: (\d+)`); n != "" {
		l.failed, _ = strconv.Atoi(n)
	}
	if err := errors.Join(errs[:]...); err != nil {
		return l, fmt.Errorf("cannot read wrk's words: %w\n%s", err, text)
	}
	return l, nil
}

func microseconds(text string) (float64, error) {
	d, err := time.ParseDuration(text)
	return float64(d) / 1e3, err
}

func median(all []float64) float64 {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// tell prints a scenario's table. The ratios are the median of the rounds' ratios, as neighbours in time.
func tell(all []result) {
	fmt.Printf("\n%s\n%-10s %12s %14s %10s %10s %10s %22s\n", all[0].Scenario, "gateway", "requests/s", "CPU us/request", "p50 us", "p99 us", "RSS MiB", "CPU against the first")
	for _, g := range all {
		ratios := make([]float64, len(g.CPU))
		for i := range ratios {
			ratios[i] = g.CPU[i] / all[0].CPU[i]
		}
		fmt.Printf("%-10s %12.0f %14.2f %10.0f %10.0f %10.1f %22.2f\n", g.Gateway, median(g.Rate), median(g.CPU), median(g.P50), median(g.P99), median(g.Memory), median(ratios))
	}
}

func (r *runner) write() error {
	if r.json == "" {
		return nil
	}
	text, err := json.MarshalIndent(r.results, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.json, append(text, '\n'), 0o644)
}
