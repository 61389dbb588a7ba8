package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/engine"
)

// topTable is what a view shows. A row has a cell for each column.
type topTable struct {
	name    string
	columns []topColumn
	rows    func(now, was *engine.Status, s styles) [][]topCell
	nothing string // instead of no rows
}

// topColumn is one of a table. Texts are sorted upward and aligned to the left, numbers the other way.
type topColumn struct {
	name   string
	number bool
	spare  int // columns that are spared first when the terminal is narrow; 0: never
}

// topCell is a text to show, and what it is sorted by if that is no text.
type topCell struct {
	text  string
	value float64
	style style
}

func topTables() [topViews]topTable {
	text := func(name string, spare int) topColumn { return topColumn{name, false, spare} }
	number := func(name string, spare int) topColumn { return topColumn{name, true, spare} }
	return [topViews]topTable{
		{"routes", []topColumn{
			text("ROUTE", 0), number("REQ/S", 0), number("5XX%", 0), number("REFUSED/S", 0), text("MOSTLY", 4), number("P50", 3), number("P95", 2),
			number("P99", 0), number("OWN P99", 6), number("IN FLIGHT", 5), number("TOTAL", 7),
		}, routeCells, "no routes"},
		{"upstreams", []topColumn{
			text("UPSTREAM", 0), text("TARGET", 0), text("STATE", 0), number("REQ/S", 0), number("FAILED/S", 0), number("IN FLIGHT", 2),
			number("CONNS", 3), number("OPENED", 4), number("EJECTED", 5), number("MOVED", 6), text("WHY", 1),
		}, targetCells, "no upstreams"},
		{"limits", []topColumn{
			text("LIMIT", 0), text("KEY", 2), text("RATE", 0), number("REFUSED", 0), number("WOULD REFUSE", 3), text("MODE", 1), text("MOST LIMITED", 0),
		}, limitCells, "no limits"},
		{"clients", []topColumn{text("CLIENT OR ADDRESS", 0), text("THAT IS", 0), number("COUNT", 0), text("BY LIMIT", 0)}, clientCells, "nobody yet"},
		{"peers", []topColumn{
			text("PEER", 0), text("ADDRESS", 1), text("STATE", 0), number("LAG MS", 0), number("RTT MS", 0), number("LOSS%", 0), text("WHY", 2),
		}, peerCells, "this gateway is on its own"},
	}
}

func say(text string) topCell { return topCell{text: printable(text)} }

// rated is a number per second; zero is nothing to look at.
func rated(value float64, s style) topCell {
	if value <= 0 {
		s = ""
	}
	return topCell{rateText(value), value, s}
}

func counted(n uint64) topCell { return topCell{countText(float64(n)), float64(n), ""} }

func timed(ms float64) topCell { return topCell{millisText(ms), ms, ""} }

// per is what a counter grew by in a second between two pictures.
func per(now, was uint64, seconds float64) float64 {
	if seconds <= 0 || now < was {
		return 0
	}
	return float64(now-was) / seconds
}

func routeCells(now, was *engine.Status, s styles) (rows [][]topCell) {
	before := map[string]engine.Traffic{}
	for _, r := range was.Routes {
		before[r.Name] = r.Traffic
	}
	seconds := now.Uptime - was.Uptime
	for _, r := range now.Routes {
		t, b := r.Traffic, before[r.Name]
		requests := per(t.Requests, b.Requests, seconds)
		refused, mostly := grown(t.Refusals, b.Refusals)
		failed := topCell{"0", 0, ""}
		if requests > 0 {
			share := 100 * per(t.Statuses["5xx"], b.Statuses["5xx"], seconds) / requests
			failed = rated(share, s.bad)
		}
		rows = append(rows, []topCell{
			say(r.Name), rated(requests, ""), failed, rated(per(refused, 0, seconds), s.warn), say(mostly), timed(t.Duration.P50), timed(t.Duration.P95),
			timed(t.Duration.P99), timed(t.Overhead.P99), counted(uint64(max(0, t.InFlight))), counted(t.Requests),
		})
	}
	return rows
}

// grown is how many were added to counts by name, and to which the most.
func grown(now, was map[string]uint64) (all uint64, mostly string) {
	most := uint64(0)
	for name, n := range now {
		if n <= was[name] {
			continue
		}
		n -= was[name]
		all += n
		if n > most || n == most && name < mostly {
			most, mostly = n, name
		}
	}
	return all, strings.ReplaceAll(mostly, "_", " ")
}

func targetCells(now, was *engine.Status, s styles) (rows [][]topCell) {
	before := map[[3]string]engine.TargetStatus{}
	for _, u := range was.Upstreams {
		for _, t := range u.Targets {
			before[[3]string{u.Name, t.Name, t.Address}] = t
		}
	}
	seconds := now.Uptime - was.Uptime
	for _, u := range now.Upstreams {
		for _, t := range u.Targets {
			b := before[[3]string{u.Name, t.Name, t.Address}]
			state, why, sick := condition(t)
			look := s.good
			if sick {
				look = s.bad
			}
			rows = append(rows, []topCell{
				say(u.Name), say(targetName(t)), {text: state, style: look}, rated(per(t.Requests, b.Requests, seconds), ""),
				rated(per(t.Failures, b.Failures, seconds), s.bad), counted(uint64(max(0, t.InFlight))), counted(uint64(t.Connections)),
				counted(t.Opened), counted(t.Ejections), counted(t.Moved), say(why),
			})
		}
	}
	return rows
}

// targetName tells of a name which of its addresses it is.
func targetName(t engine.TargetStatus) string {
	if t.Name == "" || t.Name == t.Address {
		return t.Address
	}
	return t.Name + " (" + t.Address + ")"
}

// condition is how a target is, in words, and why.
func condition(t engine.TargetStatus) (state, why string, sick bool) {
	switch {
	case t.Breaker == "open":
		return "breaker open", fmt.Sprintf("tried again in %.0f s", t.Reopens), true
	case t.Health == "unhealthy":
		return "unhealthy", t.LastCheck, true
	case !t.Present:
		return "ejected", cmp.Or(t.LastCheck, "several requests in a row failed"), true
	case t.Breaker != "closed":
		return "on probation", "the breaker is " + t.Breaker, true
	}
	return cmp.Or(t.Health, "well"), t.LastCheck, false
}

func limitCells(now, _ *engine.Status, s styles) (rows [][]topCell) {
	for _, l := range now.Limits {
		mode := l.Mode
		if l.BeforeAuth {
			mode += ", guard"
		}
		worst := topCell{}
		for _, o := range slices.Backward(now.Offenders.Limited) {
			if o.Limit == l.Name {
				worst = say(fmt.Sprintf("%s (%s)", cmp.Or(o.Client, o.Address), countText(float64(o.Count))))
			}
		}
		refused := counted(l.Refused)
		if l.Refused > 0 {
			refused.style = s.warn
		}
		rows = append(rows, []topCell{say(l.Name), say(cmp.Or(strings.Join(l.Key, ", "), "all")), say(l.Rate), refused, counted(l.WouldRefuse), say(mode), worst})
	}
	return rows
}

func clientCells(now, _ *engine.Status, _ styles) (rows [][]topCell) {
	add := func(what, who, limit string, n uint64, unit string) {
		count := counted(n)
		count.text += unit
		rows = append(rows, []topCell{say(who), say(what), count, say(limit)})
	}
	for _, o := range now.Offenders.Limited {
		add("limited", cmp.Or(o.Client, o.Address), o.Limit, o.Count, "")
	}
	for _, o := range now.Offenders.Refused {
		add("refused", cmp.Or(o.Client, o.Address), o.Limit, o.Count, "")
	}
	for _, o := range now.Offenders.Slow {
		add("slow", cmp.Or(o.Client, o.Address), "", o.Count, " ms")
	}
	return rows
}

func peerCells(now, _ *engine.Status, s styles) (rows [][]topCell) {
	if now.Cluster == nil {
		return nil
	}
	for _, p := range now.Cluster.Peers {
		state := say(p.State)
		if state.style = s.good; p.State != "alive" {
			state.style = s.bad
		}
		loss := topCell{fmt.Sprintf("%.1f", 100*p.Loss), p.Loss, ""}
		rows = append(rows, []topCell{say(p.Name), say(p.Address), state, timed(p.Lag), timed(p.RTT), loss, say(p.Error)})
	}
	return rows
}
