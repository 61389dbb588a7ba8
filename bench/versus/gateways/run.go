package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// runner measures gateways.
type runner struct {
	rounds                 int
	long, settle, patience time.Duration
	command                string
	rivals                 []rival

	self, folder   string
	upstream, echo string            // addresses of the origin and of the echo
	programs       map[string]string // by rival
	lacking        map[string]string // why a rival is left out
	credentials    *credentials
	report         report
}

// before is another binary of Sluice.
const before = "before"

// find takes over the chosen rivals, and binaries of Sluice that are there already.
func (r *runner) find(rivals []rival, sluice, other string) {
	there := func(path string) func(context.Context, string) (string, error) {
		return func(context.Context, string) (string, error) { return filepath.Abs(path) }
	}
	for _, v := range rivals {
		if v.name == "sluice" && sluice != "" {
			v.build = there(sluice)
		}
		r.rivals = append(r.rivals, v)
		if v.name == "sluice" && other != "" {
			v.name, v.build = before, there(other)
			r.rivals = append(r.rivals, v)
		}
	}
}

// run measures the scenarios of these names. One that fails is told with the error, and the others are in the report.
func (r *runner) run(names string) (report, error) {
	var err error
	if r.folder, err = os.MkdirTemp("", "gateways"); err != nil {
		return report{}, err
	}
	defer os.RemoveAll(r.folder)
	if r.self, err = os.Executable(); err != nil {
		return report{}, err
	}
	if r.credentials, err = newCredentials(r.folder, time.Now()); err != nil {
		return report{}, err
	}
	scenarios, err := pick(allScenarios(r.credentials.token), names)
	if err != nil {
		return report{}, err
	}
	r.report = report{Machine: thisMachine(), Command: r.command, Versions: map[string]string{}}
	r.gather(r.wanted(scenarios))
	for _, u := range []struct {
		address *string
		args    []string
	}{{&r.upstream, nil}, {&r.echo, []string{"-echo"}}} {
		p, err := r.startUpstream(u.address, u.args...)
		if err != nil {
			return report{}, err
		}
		defer p.stop()
	}
	asked, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var failed []error
	for _, s := range scenarios {
		if asked.Err() != nil { // what has been measured is not lost
			r.skip(s.name, "", "the run was ended before")
			continue
		}
		if err := r.scenario(s); err != nil {
			failed = append(failed, fmt.Errorf("%s: %w", s.name, err))
			r.skip(s.name, "", "it failed")
		}
	}
	return r.report, errors.Join(failed...)
}

func (r *runner) startUpstream(address *string, args ...string) (*process, error) {
	var err error
	if *address, err = freeAddress(); err != nil {
		return nil, err
	}
	p, err := start(loadCore, r.self, append([]string{"serve", "-listen", *address}, args...)...)
	if err != nil {
		return nil, err
	}
	if err := await(*address); err != nil {
		p.stop()
		return nil, err
	}
	return p, nil
}

// wanted are the chosen rivals that any of the scenarios is for. Another binary of Sluice is measured wherever the
// first one is.
func (r *runner) wanted(scenarios []scenario) (all []rival) {
	for _, v := range r.rivals {
		wanted := false
		for i := range scenarios {
			s := &scenarios[i]
			first := slices.IndexFunc(s.entries, func(e entry) bool { return e.rival == "sluice" })
			if v.name == before && first >= 0 {
				e := s.entries[first]
				e.name, e.rival = before, before
				s.entries = slices.Insert(s.entries, first+1, e)
			}
			wanted = wanted || slices.ContainsFunc(s.entries, func(e entry) bool { return e.rival == v.name })
		}
		if wanted {
			all = append(all, v)
		}
	}
	return all
}

// gather finds the rivals' programs. Who cannot be had is named, and left out.
func (r *runner) gather(rivals []rival) {
	r.programs, r.lacking = map[string]string{}, map[string]string{}
	for _, v := range rivals {
		ctx, cancel := context.WithTimeout(context.Background(), r.patience)
		program, err := v.find(ctx, r.folder)
		cancel()
		if err != nil {
			fmt.Printf("%s is left out: %v\n", v.name, err)
			r.lacking[v.name] = "it could not be had: neither built nor found"
			continue
		}
		r.programs[v.name] = program
		if version := v.tell(program); version != "" {
			r.report.Versions[v.name] = version
		}
	}
}

// running is a gateway that has been set up.
type running struct {
	*process
	entry
	listen string
	asked  int // requests so far
}

// scenario measures all gateways that can do it.
func (r *runner) scenario(s scenario) error {
	why, err := r.impossible(s)
	if err != nil {
		return err
	}
	if why != "" {
		r.skip(s.name, "", why)
		return nil
	}
	var all []*running
	defer func() {
		for _, g := range all {
			g.stop()
		}
	}()
	for _, e := range s.entries {
		v, why := r.takesPart(e)
		if why != "" {
			r.skip(s.name, e.name, why)
			continue
		}
		g, err := r.start(v, e)
		if err != nil {
			return fmt.Errorf("%s: %w", e.name, err)
		}
		all = append(all, g)
		if err := r.check(g); err != nil {
			return fmt.Errorf("%s: %w\n%s", e.name, err, g.output.String())
		}
	}
	if len(all) == 0 {
		return nil
	}
	results, err := r.measureAll(s, all)
	if err != nil {
		return err
	}
	r.report.Results = append(r.report.Results, results...)
	tell(os.Stdout, s.name, results)
	return nil
}

// impossible tells why a scenario cannot be measured at all; "" if it can.
func (r *runner) impossible(s scenario) (string, error) {
	program := r.programs["sluice"]
	if s.missing != "" || s.needs == "" || program == "" {
		return s.missing, nil
	}
	refused, err := refuses(program, r.folder, s.needs)
	if refused != "" {
		refused = "Sluice refuses it: " + refused
	}
	return refused, err
}

// takesPart gives the rival of an entry, or tells why there is none.
func (r *runner) takesPart(e entry) (rival, string) {
	if e.rival == direct {
		return rival{name: direct}, ""
	}
	i := slices.IndexFunc(r.rivals, func(v rival) bool { return v.name == e.rival })
	if i < 0 {
		return rival{}, "not chosen"
	}
	if why := r.lacking[e.rival]; why != "" {
		return rival{}, why
	}
	return r.rivals[i], r.rivals[i].lacks(r.programs[e.rival], e.traffic.features)
}

// skip notes what is not measured, and tells it unless that was told before.
func (r *runner) skip(scenario, gateway, why string) {
	if why != "not chosen" && r.lacking[gateway] == "" {
		fmt.Printf("%s: left out: %s\n", strings.TrimSuffix(scenario+", "+gateway, ", "), why)
	}
	r.report.Skipped = append(r.report.Skipped, skip{scenario, gateway, why})
}

func (r *runner) start(v rival, e entry) (*running, error) {
	if v.name == direct {
		return &running{entry: e, listen: r.upstream}, nil
	}
	p := place{upstream: r.upstream, self: r.self, program: r.programs[v.name], credentials: r.credentials, features: e.traffic.features}
	if e.traffic.features.upgrade {
		p.upstream = r.echo
	}
	cores := e.cores
	if cores == "" {
		cores = gatewayCore
	}
	p.cores = strings.Count(cores, ",") + 1
	var err error
	if p.folder, err = os.MkdirTemp(r.folder, v.name); err != nil {
		return nil, err
	}
	for _, a := range []*string{&p.listen, &p.admin, &p.spare} {
		if *a, err = freeAddress(); err != nil {
			return nil, err
		}
	}
	command, err := v.setup(p)
	if err != nil {
		return nil, err
	}
	process, err := start(cores, command[0], command[1:]...)
	if err != nil {
		return nil, err
	}
	g := &running{process: process, entry: e, listen: p.listen}
	if err := await(p.listen); err != nil {
		g.stop()
		return nil, fmt.Errorf("%w\n%s", err, g.output.String())
	}
	return g, nil
}

// measureAll goes round the gateways; each round begins with another one.
func (r *runner) measureAll(s scenario, all []*running) ([]result, error) {
	results := make([]result, len(all))
	for i, g := range all {
		results[i] = result{Scenario: s.name, Gateway: g.name, Figures: map[figure][]float64{}}
		results[i].add(rssIdle, g.memory()/mebi)
		if err := r.warm(s, g); err != nil {
			return nil, fmt.Errorf("%s: %w", g.name, err)
		}
	}
	rate, err := r.halfOfTheSlowest(s, all)
	if err != nil {
		return nil, err
	}
	for round := range r.rounds {
		for i := range all {
			g := (i + round) % len(all)
			if err := r.measure(s, all[g], rate, &results[g]); err != nil {
				return nil, fmt.Errorf("%s: %w\n%s", all[g].name, err, all[g].output.String())
			}
		}
	}
	return results, nil
}
