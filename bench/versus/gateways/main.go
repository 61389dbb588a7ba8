// Command gateways measures Sluice beside other gateways: the same requests, the same answers, in turns within one
// run.
//
//	go run ./gateways [-rounds 5] [-seconds 3] [-scenarios bare,full,...] [-rivals nginx,...] [-json FILE]
//
// The gateway has one core to itself; the load (wrk) and the upstream share the other. For each scenario every
// gateway is started, its answer is held against what the scenario expects, and then all are measured once a round,
// one after the other, so that a busy machine slows all alike. What is told is the median of the rounds.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		serve(os.Args[2:])
		return
	}
	r := runner{}
	scenarios := flag.String("scenarios", "", "comma-separated; empty: all")
	rivals := flag.String("rivals", "", "comma-separated; empty: all that are installed")
	flag.IntVar(&r.rounds, "rounds", 5, "measurements of each gateway in each scenario")
	flag.DurationVar(&r.long, "time", 3*time.Second, "length of a measurement")
	flag.StringVar(&r.sluice, "sluice", "", "the gateway's binary; empty: built from this tree")
	flag.StringVar(&r.before, "before", "", "another binary of Sluice, to be measured beside it")
	flag.StringVar(&r.json, "json", "", "file to write all figures to")
	flag.Parse()
	if err := r.run(pick(allScenarios(), *scenarios), pick(allRivals(), *rivals)); err != nil {
		fmt.Fprintln(os.Stderr, "gateways:", err)
		os.Exit(1)
	}
}

// named is what can be chosen by its name.
type named interface{ label() string }

func pick[T named](all []T, names string) []T {
	if names == "" {
		return all
	}
	var chosen []T
	for _, name := range strings.Split(names, ",") {
		for _, one := range all {
			if one.label() == name {
				chosen = append(chosen, one)
			}
		}
	}
	return chosen
}
