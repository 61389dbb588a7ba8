package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-gateway/sluice/engine"
)

// fewMisses is how many routes that do not match are shown without --all.
const fewMisses = 5

// explanationPrinter writes an explanation for people: one fact a line, the verdict first.
type explanationPrinter struct {
	out io.Writer
	styles
	all bool // near misses
}

// line writes a fact; one without a value is left out.
func (p explanationPrinter) line(name, value string) {
	if value != "" {
		fmt.Fprintf(p.out, "%-10s %s\n", name, value)
	}
}

func (p explanationPrinter) print(e *engine.Explanation) {
	if r := e.Refusal; r != nil {
		p.line("verdict", p.bad.text(fmt.Sprintf("%d %s", r.Status, r.Reason))+": "+r.Detail)
		p.line("allow", r.Allow)
	} else {
		p.line("verdict", p.good.text("forwarded")+" by route "+p.strong.text(e.Route.Name))
		p.line("provided", inWords(e.Provided))
	}
	p.line("request", strings.TrimSpace(e.Method+" "+e.Host+e.Path+e.Query))
	p.line("client", e.Client)
	if e.Route != nil {
		p.route(e.Route)
		p.access(e)
	}
	for _, c := range e.Choices {
		p.line("choice", choiceText(c))
	}
	for _, u := range e.Upstreams {
		p.line("upstream", upstreamText(u))
	}
	if len(e.Forwarded) > 0 {
		p.sent(e)
	}
	p.nearMisses(e)
}

func (p explanationPrinter) route(r *engine.ExplainedRoute) {
	p.line("route", fmt.Sprintf("%s (%s)", r.Name, r.Pattern))
	for _, c := range r.Captures {
		p.line("", fmt.Sprintf("%s = %s", c.Name, c.Value))
	}
	p.line("timeout", r.Timeout)
	body := "up to " + r.MaxBodyBytes
	if r.MaxBodyBytes == "0" {
		body = "of any size"
	}
	p.line("body", body)
	p.line("to", r.To)
}

// access tells who may pass, and how often.
func (p explanationPrinter) access(e *engine.Explanation) {
	if len(e.Methods) == 0 {
		p.line("auth", "none: everybody may pass")
	}
	if e.Preflight {
		p.line("auth", "not for this request: a browser asks for permission without credentials")
	}
	for _, m := range e.Methods {
		p.line("auth", methodText(m))
	}
	p.line("scopes", strings.Join(e.Route.Scopes, " and "))
	for _, l := range e.Limits {
		p.line("limit", limitText(l))
	}
}

func methodText(m engine.ExplainedMethod) string {
	text := m.Name + " in " + strings.TrimSpace(m.Header+" "+m.Scheme) + ": "
	switch m.Shown {
	case engine.ShownCredential:
		return text + "there is one, and nobody was asked whether it is good"
	case engine.ShownOther:
		return text + "what is there cannot be one"
	case engine.ShownSeveral:
		return text + "there are several"
	}
	return text + "there is none"
}

func limitText(l engine.ExplainedLimit) string {
	text := fmt.Sprintf("%s: %s %s", l.Name, l.Algorithm, l.Rate)
	if l.Burst > 0 {
		text += fmt.Sprintf(", burst %d", l.Burst)
	}
	if l.Cost > 1 {
		text += fmt.Sprintf(", cost %d", l.Cost)
	}
	for _, tier := range slices.Sorted(maps.Keys(l.Tiers)) {
		text += fmt.Sprintf(", %s %s", tier, l.Tiers[tier])
	}
	if l.OwnRate {
		text += ", or the API key's own rate"
	}
	if l.MaxWait != "" {
		text += ", waits up to " + l.MaxWait
	}
	parts := make([]string, len(l.Key))
	for i, part := range l.Key {
		parts[i] = part.Part + " = " + part.Value
		if part.Note != "" {
			parts[i] += "(" + part.Note + ")"
		}
	}
	if len(parts) == 0 {
		parts = []string{"one bucket for all"}
	}
	text += "; " + strings.Join(parts, ", ")
	for _, is := range []struct {
		so   bool
		text string
	}{{l.Guard, "before authentication"}, {l.Scope != "", "in " + l.Scope + " (without it: " + l.OnStoreError + ")"}, {l.Mode == "shadow", "counts only"}, {l.Hidden, "clients are not told"}} {
		if is.so {
			text += "; " + is.text
		}
	}
	return text
}

// inWords joins what all has to be so.
func inWords(list []string) string {
	if len(list) < 2 {
		return strings.Join(list, "")
	}
	return strings.Join(list[:len(list)-1], ", ") + " and " + list[len(list)-1]
}

func choiceText(c engine.Choice) string {
	text, drawn := c.Name+": "+c.By, c.By == "random"
	switch {
	case c.Value != "":
		text += fmt.Sprintf(" %q", c.Value)
	case c.By == "client":
		text, drawn = text+" (the authenticated client), the same side every time", true
	case !drawn:
		text += " is not there"
	}
	switch {
	case c.To != "":
		text += " -> " + c.To
	case !drawn:
		text += " -> nowhere"
	}
	if c.Share < 1 {
		text += fmt.Sprintf(" (reached by %s)", percent(c.Share))
	}
	return text
}

func upstreamText(u engine.ExplainedUpstream) string {
	if u.Name == "" {
		return percent(u.Share) + " go nowhere: 404"
	}
	targets := make([]string, len(u.Targets))
	for i, t := range u.Targets {
		targets[i] = t.URL
		if t.Weight != 1 {
			targets[i] += fmt.Sprintf(" (weight %d)", t.Weight)
		}
	}
	return fmt.Sprintf("%s %s: %s", percent(u.Share), u.Name, strings.Join(targets, ", "))
}

// percent writes a share with as many digits as a weight of one in a thousand needs.
func percent(share float64) string {
	return fmt.Sprintf("%.3g%%", share*100)
}

func (p explanationPrinter) sent(e *engine.Explanation) {
	provided := ""
	if e.Refusal != nil {
		provided = ", with good credentials"
	}
	fmt.Fprintf(p.out, "\nsent to %s%s:\n", e.Upstreams[0].Name, provided)
	for _, line := range e.Forwarded {
		fmt.Fprintln(p.out, "  "+line)
	}
	for _, name := range e.Withheld {
		fmt.Fprintln(p.out, p.faint.text("  without "+name+": it is for the gateway"))
	}
}

func (p explanationPrinter) nearMisses(e *engine.Explanation) {
	shown := e.NearMisses
	if !p.all {
		shown = shown[:min(len(shown), fewMisses)]
	}
	if len(shown) == 0 {
		return
	}
	fmt.Fprintln(p.out, "\nother routes:")
	for _, m := range shown {
		fmt.Fprintf(p.out, "  %s (%s): %s\n", m.Route, m.Pattern, m.Reason)
	}
	if hidden := len(e.NearMisses) - len(shown); hidden > 0 {
		fmt.Fprintln(p.out, p.faint.text(fmt.Sprintf("  and %d more: --all shows them", hidden)))
	}
}
