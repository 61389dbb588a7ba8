package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/sluice-gateway/sluice/engine"
)

// topFrame is how many lines are not rows: four that answer, views, names of columns, help.
const topFrame = 7

// View draws a screen.
func (m topModel) View() tea.View {
	v := tea.NewView(m.screen())
	v.AltScreen = true
	v.WindowTitle = "sluice top"
	return v
}

// room is how many rows fit.
func (m topModel) room() int { return max(1, m.height-topFrame) }

func (m topModel) screen() string {
	var lines []string
	switch {
	case len(m.heard) == 0 && m.err != nil:
		lines = append(lines, m.bad.text(printable(m.err.Error())), "", "Asking again each second. q quits.")
	case len(m.heard) == 0:
		lines = append(lines, "Asking the gateway ...")
	default:
		lines = append(m.answers(), m.tabs())
		lines = append(lines, m.lay(m.view, m.width, m.first, m.room())...)
		for len(lines) < m.height-1 {
			lines = append(lines, "")
		}
		lines = append(lines, m.help())
	}
	for i := range lines {
		lines[i] = ansi.Truncate(lines[i], m.width, "…")
	}
	return strings.Join(lines[:min(len(lines), max(1, m.height))], "\n")
}

// everything is what there is to show, without a screen's bounds.
func (m topModel) everything() string {
	lines := m.answers()
	tables := topTables()
	for v := range topViews {
		if v == topPeers && m.now().Cluster == nil {
			continue
		}
		lines = append(lines, "", m.strong.text(strings.ToUpper(tables[v].name)))
		lines = append(lines, m.lay(v, 0, 0, len(m.rows(v)))...)
	}
	return strings.Join(lines, "\n") + "\n"
}

func (m topModel) now() *engine.Status { return &m.heard[len(m.heard)-1] }
func (m topModel) was() *engine.Status { return &m.heard[0] }

// answers are the lines at the top: what this is, who is refused and why, which upstream is sick, what changed.
func (m topModel) answers() []string {
	s := m.now()
	state := m.good
	if s.State != "serving" {
		state = m.warn
	}
	name := "sluice"
	if s.Cluster != nil {
		name += " " + printable(s.Cluster.Name)
	}
	line := fmt.Sprintf("%s  %s  %s  up %s", m.strong.text(name), state.text(s.State), printable(s.Version), lastedText(time.Duration(s.Uptime*float64(time.Second))))
	if m.err != nil {
		line = m.strong.text(name) + "  " + m.bad.text("no answer since "+m.at.Format(time.TimeOnly)+": "+printable(m.err.Error()))
	}
	return []string{line, m.refusedLine(), m.sickLine(), m.changedLine()}
}

func (m topModel) refusedLine() string {
	now, was := m.now(), m.was()
	seconds := now.Uptime - was.Uptime
	before, after := was.Traffic.Refusals, now.Traffic.Refusals
	requests := per(now.Requests, was.Requests, seconds)
	line := fmt.Sprintf("%s requests/s", m.strong.text(rateText(requests)))
	if d := now.Traffic.Duration; d.P99 > 0 {
		line += fmt.Sprintf(" in %s to %s ms", millisText(d.P50), millisText(d.P99))
	}
	if failed := per(now.Responses["5xx"], was.Responses["5xx"], seconds); failed > 0 {
		line += ", " + m.bad.text(rateText(failed)+"/s 5xx")
	}
	all, _ := grown(after, before)
	if all == 0 {
		return line + ", nobody refused"
	}
	var reasons []string
	for _, name := range slices.SortedFunc(maps.Keys(after), func(a, b string) int {
		return cmp.Or(-cmp.Compare(after[a]-before[a], after[b]-before[b]), cmp.Compare(a, b))
	}) {
		if n := per(after[name], before[name], seconds); n > 0 {
			reasons = append(reasons, printable(strings.ReplaceAll(name, "_", " "))+" "+rateText(n))
		}
	}
	return line + ", " + m.warn.text(rateText(per(all, 0, seconds))+"/s refused") + ": " + strings.Join(reasons, ", ")
}

func (m topModel) sickLine() string {
	var sick []string
	targets := 0
	for _, u := range m.now().Upstreams {
		for _, t := range u.Targets {
			targets++
			if state, _, is := condition(t); is {
				sick = append(sick, printable(u.Name+" "+targetName(t))+" "+state)
			}
		}
	}
	for _, u := range m.now().Upstreams {
		for _, n := range u.Names {
			sick = append(sick, printable(u.Name+" "+n.Name)+" cannot be looked up")
		}
	}
	for _, a := range m.now().Auth {
		if !a.Usable {
			sick = append(sick, printable(a.Name)+" cannot be judged")
		}
	}
	if store := m.now().LimitStore; store != nil && !store.Up {
		sick = append(sick, "Redis, for limits")
	}
	if len(sick) == 0 {
		return m.good.text("well") + ": all of " + count(targets, "target")
	}
	return m.bad.text("sick") + ": " + strings.Join(sick, ", ")
}

func (m topModel) changedLine() string {
	c := m.now().Config
	live := fmt.Sprintf("config %.8s, live for %s", printable(c.Hash), lastedText(m.at.Sub(c.Loaded)))
	if c.LastFailure == nil || c.LastFailure.Before(c.Loaded) {
		return live
	}
	return m.bad.text(fmt.Sprintf("a reload failed %s ago", lastedText(m.at.Sub(*c.LastFailure)))) + ": " + printable(c.LastError) + "; " + live
}

func (m topModel) tabs() string {
	var names []string
	for i, t := range topTables() {
		name := fmt.Sprintf(" %d %s ", i+1, t.name)
		if topView(i) == m.view {
			name = m.strong.text(fmt.Sprintf("[%d %s]", i+1, t.name))
		}
		names = append(names, name)
	}
	return strings.TrimRight(strings.Join(names, ""), " ")
}

func (m topModel) help() string {
	if m.typing {
		return "show only: " + printable(m.filter) + "_"
	}
	text := "q quit  tab view  s sort  r reverse  / filter"
	if m.filter != "" {
		text += "  only: " + printable(m.filter) + " (esc ends it)"
	}
	if n := len(m.rows(m.view)); n > m.room() {
		text += fmt.Sprintf("  rows %d-%d of %d", m.first+1, min(n, m.first+m.room()), n)
	}
	return m.faint.text(text)
}

// rows are those of a view that the filter lets through, in order.
func (m topModel) rows(v topView) [][]topCell {
	if len(m.heard) == 0 {
		return nil
	}
	table, order := topTables()[v], m.orders[v]
	rows := slices.DeleteFunc(table.rows(m.now(), m.was(), m.styles), func(row []topCell) bool {
		return !slices.ContainsFunc(row, func(c topCell) bool {
			return strings.Contains(strings.ToLower(c.text), strings.ToLower(m.filter))
		})
	})
	way := 1
	if table.columns[order.column].number != order.turned {
		way = -1
	}
	slices.SortStableFunc(rows, func(a, b []topCell) int {
		x, y := a[order.column], b[order.column]
		if table.columns[order.column].number {
			return way * cmp.Compare(x.value, y.value)
		}
		return way * cmp.Compare(x.text, y.text)
	})
	return rows
}

// lay writes the names of a view's columns and most of its rows from first on, in a width; 0: any.
func (m topModel) lay(v topView, width, first, most int) []string {
	table, rows := topTables()[v], m.rows(v)
	names := make([]topCell, len(table.columns))
	for i, c := range table.columns {
		if names[i] = (topCell{text: c.name, style: m.faint}); i == m.orders[v].column {
			names[i] = topCell{text: c.name + map[bool]string{true: "↓", false: "↑"}[c.number != m.orders[v].turned], style: m.strong}
		}
	}
	first = min(first, len(rows))
	shown := rows[first:min(len(rows), first+most)]
	widths := fit(table.columns, append([][]topCell{names}, shown...), width)
	lines := []string{line(table.columns, names, widths)}
	for _, row := range shown {
		lines = append(lines, line(table.columns, row, widths))
	}
	if len(rows) == 0 {
		nothing := table.nothing
		if m.filter != "" {
			nothing = "nothing is like that"
		}
		lines = append(lines, m.faint.text(nothing))
	}
	return lines
}

// fit gives every column its width; 0: it is spared. Spare columns go first, then the widest text is cut.
func fit(columns []topColumn, rows [][]topCell, width int) []int {
	widths := make([]int, len(columns))
	total := -2
	for i := range columns {
		for _, row := range rows {
			widths[i] = max(widths[i], ansi.StringWidth(row[i].text))
		}
		total += widths[i] + 2
	}
	for width > 0 && total > width {
		at, most := -1, 0
		for i, c := range columns {
			if widths[i] > 0 && c.spare > most {
				at, most = i, c.spare
			}
		}
		if at < 0 {
			break
		}
		total -= widths[at] + 2
		widths[at] = 0
	}
	for width > 0 && total > width {
		at := slices.Index(widths, slices.Max(widths))
		cut := min(total-width, max(0, widths[at]-8))
		if cut == 0 {
			break
		}
		cut = min(cut, 4) // several wide ones share it
		widths[at] -= cut
		total -= cut
	}
	return widths
}

func line(columns []topColumn, row []topCell, widths []int) string {
	var b strings.Builder
	for i, cell := range row {
		if widths[i] == 0 {
			continue
		}
		text := ansi.Truncate(cell.text, widths[i], "…")
		pad := strings.Repeat(" ", widths[i]-ansi.StringWidth(text))
		if columns[i].number {
			text = pad + cell.style.text(text)
		} else {
			text = cell.style.text(text) + pad
		}
		if b.Len() > 0 {
			b.WriteString("  ")
		}
		b.WriteString(text)
	}
	return strings.TrimRight(b.String(), " ")
}

// printable is a text that a terminal does nothing about: what names and errors hold may be anybody's.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '�'
	}, text)
}
