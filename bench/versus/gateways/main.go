// Command gateways measures Sluice beside other gateways: the same requests, the same answers, in turns within one
// run.
//
//	go run ./gateways [-rounds 5] [-time 3s] [-scenarios bare,full,...] [-rivals nginx,...] [-json FILE]
//	go run ./gateways report [-markdown FILE] [-plots FOLDER] FILE...
//
// The gateway has one core to itself; the load and the upstream share the other. For each scenario every gateway is
// started, its answers are held against the upstream's own, and then all are measured once a round, one after the
// other, so that a busy machine slows all alike. What is told is the median of the rounds. A report can be made
// again from the files that runs have written; a scenario that is in several is taken from the last.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	verb, args := "run", os.Args[1:]
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		verb, args = args[0], args[1:]
	}
	switch verb {
	case "run":
		fail(measureAll(args))
	case "report":
		fail(reportAgain(args))
	case "serve":
		fail(serve(args))
	case "load":
		fail(generate(args))
	default:
		fail(fmt.Errorf("unknown verb %q: run or report", verb))
	}
}

func measureAll(args []string) error {
	r := runner{command: "make bench-versus ARGS='" + strings.Join(args, " ") + "'"}
	flags := flag.NewFlagSet("run", flag.ContinueOnError)
	scenarios := flags.String("scenarios", "", "comma-separated; empty: all")
	rivals := flags.String("rivals", "", "comma-separated; empty: all that can be had")
	flags.IntVar(&r.rounds, "rounds", 5, "measurements of each gateway in each scenario")
	flags.DurationVar(&r.long, "time", 3*time.Second, "length of a measurement, in whole seconds")
	flags.DurationVar(&r.settle, "settle", 25*time.Second, "time that idle connections are given before memory is read")
	flags.DurationVar(&r.patience, "build", 20*time.Minute, "longest time for building a rival from its module")
	sluice := flags.String("sluice", "", "the gateway's binary; empty: built from this tree")
	other := flags.String("before", "", "another binary of Sluice, to be measured beside it")
	var out outputs
	flags.StringVar(&out.json, "json", "", "file to write all figures to")
	out.flags(flags)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if r.long < time.Second {
		return fmt.Errorf("-time %v: at least a second", r.long)
	}
	all, err := pick(allRivals(), *rivals)
	if err != nil {
		return err
	}
	r.find(all, *sluice, *other)
	run, err := r.run(*scenarios)
	if len(run.Results) == 0 {
		return err
	}
	return errors.Join(err, out.write(run))
}

// named is what can be chosen by its name.
type named interface{ label() string }

func pick[T named](all []T, names string) ([]T, error) {
	if names == "" {
		return all, nil
	}
	var chosen []T
	for _, name := range strings.Split(names, ",") {
		found := len(chosen)
		for _, one := range all {
			if one.label() == name {
				chosen = append(chosen, one)
			}
		}
		if len(chosen) == found {
			return nil, fmt.Errorf("there is no %q", name)
		}
	}
	return chosen, nil
}
