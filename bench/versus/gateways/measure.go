package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
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

// method is how a scenario is measured.
type method int

const (
	closedLoop      method = iota // wrk: each connection asks again as soon as it is answered
	fixedRate                     // our own: at half of what the slowest serious rival can do, whatever comes back
	webSockets                    // our own: each connection sends a message, and waits for its echo
	idleConnections               // our own: each connection makes one request, and stays
)

// load is what a load generator tells.
type load struct {
	Requests, Failed int     // that count
	Asked            int     // with those that came before the measurement
	Rate             float64 // a second
	P50, P99, P999   float64 // microseconds; what is not known is zero
}

// measure puts one round's figures of a gateway into its result.
func (r *runner) measure(s scenario, g *running, rate float64, into *result) error {
	switch s.method {
	case idleConnections:
		return r.measureIdle(s, g, into)
	case fixedRate:
		if rate <= 0 {
			return errors.New("no rate to measure at")
		}
		into.add(rateOffered, rate)
	}
	before, err := g.cpu()
	if err != nil {
		return err
	}
	l, err := r.load(s, g, rate, r.long)
	if err != nil {
		return err
	}
	after, err := g.cpu()
	if err != nil {
		return err
	}
	if s.method != fixedRate {
		if err := l.judge(g.traffic); err != nil {
			return err
		}
	} else if l.Failed > 0 {
		into.add(failures, float64(l.Failed))
	}
	into.add(rateReached, l.Rate)
	into.add(cpuPerRequest, float64(after-before)/1e3/float64(max(l.Asked, 1)))
	into.add(p50, l.P50)
	into.add(p99, l.P99)
	if l.P999 > 0 {
		into.add(p999, l.P999)
	}
	into.add(rssLoaded, g.memory()/mebi)
	return nil
}

// judge finds out whether the answers were what the traffic asks for; one in a thousand may differ.
func (l load) judge(t traffic) error {
	odd := l.Failed
	if t.status >= http.StatusBadRequest {
		odd = l.Requests - l.Failed
	}
	if l.Requests == 0 || odd > l.Requests/1000+5 {
		return fmt.Errorf("%d of %d requests were not answered %d", odd, l.Requests, t.status)
	}
	return nil
}

// load asks a gateway for a while. What it asked is remembered: the next load goes on with the next client.
func (r *runner) load(s scenario, g *running, rate float64, long time.Duration) (load, error) {
	var l load
	var err error
	seconds := strconv.Itoa(int(long.Seconds()))
	switch s.method {
	case webSockets:
		l, err = r.generate(nil, "websocket", "-address", g.listen, "-connections", strconv.Itoa(s.connections), "-seconds", seconds)
	case fixedRate:
		l, err = r.generate(g.traffic.request(g.listen), "open", "-address", g.listen, "-connections", strconv.Itoa(s.connections), "-seconds", seconds,
			"-rate", strconv.FormatFloat(rate, 'f', 1, 64))
	default:
		l, err = r.wrk(s, g, seconds)
	}
	g.asked += l.Asked
	return l, err
}

// generate runs one of our own load generators.
func (r *runner) generate(request []byte, args ...string) (l load, err error) {
	c := exec.Command("taskset", append([]string{"-c", loadCore, r.self, "load"}, args...)...)
	c.Stdin = bytes.NewReader(request)
	var told bytes.Buffer
	c.Stderr = &told
	out, err := c.Output()
	if err != nil {
		return l, fmt.Errorf("the load: %w\n%s", err, told.String())
	}
	return l, json.Unmarshal(out, &l)
}

func (r *runner) wrk(s scenario, g *running, seconds string) (load, error) {
	args := []string{"-c", loadCore, "wrk", "-t1", "-c" + strconv.Itoa(s.connections), "-d" + seconds + "s", "--latency"}
	for _, h := range g.traffic.headers {
		args = append(args, "-H", h)
	}
	if script := g.traffic.wrkScript(); script != "" {
		path := filepath.Join(r.folder, "script.lua")
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(script, "START", strconv.Itoa(g.asked))), 0o600); err != nil {
			return load{}, err
		}
		args = append(args, "-s", path)
	}
	scheme := "http://"
	if g.traffic.features.tls {
		scheme = "https://"
	}
	out, err := exec.Command("taskset", append(args, scheme+g.listen+g.traffic.path)...).CombinedOutput()
	if err != nil {
		return load{}, fmt.Errorf("wrk: %w\n%s", err, out)
	}
	return parseWrk(string(out))
}

// warm makes the requests that have to come before any measurement.
func (r *runner) warm(s scenario, g *running) error {
	for g.asked < g.traffic.warm {
		l, err := r.load(s, g, 0, 5*time.Second)
		if err == nil {
			err = l.judge(g.traffic)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// serious are the gateways that set the rate for all.
func serious(rival string) bool {
	return slices.Contains([]string{"sluice", "nginx", "haproxy"}, rival)
}

// halfOfTheSlowest is the rate that latencies are measured at: half of what the slowest of Sluice, nginx and HAProxy
// does when all that can be asked is asked, with what it does in this scenario.
func (r *runner) halfOfTheSlowest(s scenario, all []*running) (float64, error) {
	if s.method != fixedRate {
		return 0, nil
	}
	full := s
	full.method = closedLoop
	slowest := math.Inf(1)
	for _, g := range all {
		if !serious(g.rival) {
			continue
		}
		var rates []float64
		for range 3 {
			l, err := r.load(full, g, 0, r.long)
			if err == nil {
				err = l.judge(g.traffic)
			}
			if err != nil {
				return 0, fmt.Errorf("%s: %w", g.name, err)
			}
			rates = append(rates, l.Rate)
		}
		slowest = min(slowest, median(rates))
	}
	if math.IsInf(slowest, 1) {
		return 0, errors.New("none of Sluice, nginx and HAProxy is there to set the rate")
	}
	return slowest / 2, nil
}

// request is the traffic as bytes, for the load generators that know no HTTP library.
func (t traffic) request(host string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "GET %s HTTP/1.1\r\nHost: %s\r\n", t.path, host)
	for _, h := range t.headers {
		b.WriteString(h + "\r\n")
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func parseWrk(text string) (l load, err error) {
	find := func(pattern string) string {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(text); m != nil {
			return m[1]
		}
		return ""
	}
	var errs [4]error
	l.Requests, errs[0] = strconv.Atoi(find(`(\d+) requests in`))
	l.Asked = l.Requests
	l.Rate, errs[1] = strconv.ParseFloat(find(`Requests/sec:\s+([\d.]+)`), 64)
	l.P50, errs[2] = microseconds(find(`(?m)^\s+50%\s+(\S+)`))
	l.P99, errs[3] = microseconds(find(`(?m)^\s+99%\s+(\S+)`))
	for _, pattern := range []string{`Non-2xx or 3xx responses: (\d+)`, `connect (\d+),`, `read (\d+),`, `write (\d+),`, `timeout (\d+)`} {
		n, _ := strconv.Atoi(find(pattern))
		l.Failed += n
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
