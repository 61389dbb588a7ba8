package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/config"
)

// fewMisses is how many routes that do not match are shown without --all.
const fewMisses = 5

func newExplain(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain METHOD URL",
		Short: "Tell what the gateway would do with a request",
		Long: `Explain takes a request through the gateway's own code, offline, and tells which
route takes it and why others do not, what the route asks of it, where it goes,
and what the upstream gets; or why it is refused.

Nothing is sent. The URL is taken as it is: dots and escapes are the gateway's
to judge. A URL that is only a path has the Host localhost. A request id that the
gateway would make up shows as zeros.`,
		Example: `  sluice explain GET http://api.example.com/users/42
  sluice explain POST /orders -H 'Host: api.example.com' -H 'X-API-Version: v2'
  sluice explain GET /users/42 --client 203.0.113.9 --format json`,
		Args: usage(cobra.ExactArgs(2)),
	}
	headers := cmd.Flags().StringArrayP("header", "H", nil, "a request header, as \"`Name: value`\"; may be repeated")
	client := cmd.Flags().String("client", "127.0.0.1", "the `address` that the connection comes from")
	size := cmd.Flags().Int64("body-size", 0, "`bytes` in the request's body")
	all := cmd.Flags().Bool("all", false, "show every route that does not match")
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		misuse := func(err error) error { return usageError{cmd.CommandPath(), err} }
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		address, err := netip.ParseAddr(*client)
		if err != nil {
			return misuse(fmt.Errorf("--client: %w", err))
		}
		if *size < 0 {
			return misuse(errors.New("--body-size is less than nothing"))
		}
		explained, err := engine.Explain(*path, engine.ExplainRequest{
			Method: args[0], URL: args[1], Header: *headers, Client: address, BodySize: *size,
		})
		var faults config.Faults
		switch {
		case errors.As(err, &faults):
			return err
		case err != nil:
			return misuse(err)
		case *format == formatJSON:
			return printJSON(cmd.OutOrStdout(), explained)
		}
		out := cmd.OutOrStdout()
		p := explanationPrinter{out: out, styles: stylesFor(out, os.Getenv), all: *all}
		p.print(explained)
		return nil
	}
	return cmd
}

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
	}
	p.line("request", strings.TrimSpace(e.Method+" "+e.Host+e.Path+e.Query))
	p.line("client", e.Client)
	if e.Route != nil {
		p.route(e.Route)
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
	p.line("auth", strings.Join(r.Auth, " or "))
	p.line("scopes", strings.Join(r.Scopes, " and "))
	p.line("limits", strings.Join(r.Limits, ", "))
	p.line("timeout", r.Timeout)
	body := "up to " + r.MaxBodyBytes
	if r.MaxBodyBytes == "0" {
		body = "of any size"
	}
	p.line("body", body)
	p.line("to", r.To)
}

func choiceText(c engine.Choice) string {
	text := c.Name + ": " + c.By
	if c.Value != "" {
		text += fmt.Sprintf(" %q", c.Value)
	} else if c.By != "random" {
		text += " is not there"
	}
	switch {
	case c.To != "":
		text += " -> " + c.To
	case c.By != "random":
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
	fmt.Fprintf(p.out, "\nsent to %s:\n", e.Upstreams[0].Name)
	for _, line := range e.Forwarded {
		fmt.Fprintln(p.out, "  "+line)
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
