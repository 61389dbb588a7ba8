package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/engine"
)

func newLimits(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "limits",
		Short: "Show and reset the rate limits of the running gateway",
		Long: `Limits asks the running gateway, at the admin address that the configuration
names, how its rate limits stand.

A KEY is one value for each part of the limit's key, in that order:

  client       the client's name; the address of one that is not authenticated
  ip           an address; of IPv6, any that has the same ipv6_prefix
  route        a route's name
  host         a host
  method       a method
  header:NAME  the header's value
  claim:NAME   the claim's value

'' stands for a header or claim that is missing, and for the address of a client
on a unix socket. A client that is named like an address, or a header that comes
twice, cannot be asked for.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newLimitsShow(path), newLimitsReset(path))
	return cmd
}

func newLimitsShow(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show [LIMIT [KEY...]]",
		Short: "Show all limits, one of them, or the bucket of a key",
		Long: `Show tells how the limits of the running gateway are set and what came of them,
or how full the bucket of a key is, one for each of the limit's rates. What a KEY
is made of: sluice limits --help`,
		Example: `  sluice limits show
  sluice limits show per-client alice
  sluice limits show per-ip 203.0.113.9 --format json`,
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		c, err := newControl(*path)
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		p := limitsPrinter{out: out, styles: stylesFor(out, os.Getenv), json: *format == formatJSON}
		switch len(args) {
		case 0:
			return p.showAll(cmd.Context(), c)
		case 1:
			return p.showOne(cmd.Context(), c, args[0])
		}
		return misusedKey(cmd, p.showBuckets(cmd.Context(), c, args[0], args[1:]))
	}
	return cmd
}

func newLimitsReset(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reset LIMIT [KEY...]",
		Short: "Fill the bucket of a key",
		Long: `Reset fills the bucket that a limit has for a key, as if nothing had been taken
from it. Requests that wait in a leaky bucket's queue keep their place. What a
KEY is made of: sluice limits --help`,
		Example: `  sluice limits reset per-client alice
  sluice limits reset per-ip-and-route 203.0.113.9 orders`,
		Args: usage(cobra.MinimumNArgs(1)),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		c, err := newControl(*path)
		if err != nil {
			return err
		}
		var answer json.RawMessage
		err = c.ask(cmd.Context(), http.MethodDelete, limitPath(args[0]), url.Values{"key": args[1:]}, &answer)
		if err != nil {
			return misusedKey(cmd, err)
		}
		if *format == formatJSON {
			return printJSON(cmd.OutOrStdout(), answer)
		}
		var done struct{ Reset int }
		if err := json.Unmarshal(answer, &done); err != nil {
			return fmt.Errorf("cannot read the gateway's answer: %w", err)
		}
		text := "reset " + count(done.Reset, "bucket")
		if done.Reset == 0 {
			text = "nothing to reset: the bucket is full"
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), text)
		return err
	}
	return cmd
}

func limitPath(name string) string { return "/limits/" + name }

// misusedKey makes a key that cannot be one of the limit's a mistake in the command line.
func misusedKey(cmd *cobra.Command, err error) error {
	var r *refusal
	if errors.As(err, &r) && r.status == http.StatusBadRequest {
		return usageError{cmd.CommandPath(), errors.New(r.detail)}
	}
	return err
}

// limitsPrinter shows what the gateway tells of its limits.
type limitsPrinter struct {
	out io.Writer
	styles
	json bool
}

// limitsAnswer is that of GET /limits.
type limitsAnswer struct {
	Limits []engine.LimitSummary `json:"limits"`
	Table  engine.LimitTable     `json:"table"`
	Store  *engine.LimitStore    `json:"store,omitempty"`
}

func (p limitsPrinter) showAll(ctx context.Context, c *control) error {
	var a limitsAnswer
	if err := c.ask(ctx, http.MethodGet, "/limits", nil, &a); err != nil || p.json {
		return p.orJSON(a, err)
	}
	if len(a.Limits) == 0 {
		_, err := fmt.Fprintln(p.out, "no limits")
		return err
	}
	rows := [][]string{{"LIMIT", "ALGORITHM", "KEY", "RATE", "BURST", "MODE", "REFUSED", "WOULD REFUSE"}}
	for _, l := range a.Limits {
		rows = append(rows, []string{
			l.Name, l.Algorithm, keyText(l.Key), l.Rate, burstText(l.Burst), l.Mode, fmt.Sprint(l.Refused), fmt.Sprint(l.WouldRefuse),
		})
	}
	p.table(rows)
	t, s := a.Table, a.Store
	if s != nil {
		fmt.Fprintf(p.out, "\nRedis %s: asked %s, %d failed; %s refused without asking\n",
			storeText(s), count(int(s.Asked), "time"), s.Failed, count(int(s.Recalled), "request"))
	}
	_, err := fmt.Fprintf(p.out, "\n%d of %s in use; %d begun, %d evicted; %s counted in shared ones\n",
		t.Live, count(t.Capacity, "bucket"), t.Claims, t.Evictions, count(int(t.Overflowed), "request"))
	return err
}

// showOne shows a limit, and its bucket if there is only one.
func (p limitsPrinter) showOne(ctx context.Context, c *control, name string) error {
	var a limitsAnswer
	if err := c.ask(ctx, http.MethodGet, "/limits", nil, &a); err != nil {
		return err
	}
	i := slices.IndexFunc(a.Limits, func(l engine.LimitSummary) bool { return l.Name == name })
	switch {
	case i < 0:
		return fmt.Errorf("the gateway at %s has no limit %q", c.address, name)
	case p.json && len(a.Limits[i].Key) > 0:
		return printJSON(p.out, a.Limits[i])
	case p.json:
		return p.showBuckets(ctx, c, name, nil)
	}
	l := a.Limits[i]
	var tiers []string
	for _, tier := range slices.Sorted(maps.Keys(l.Tiers)) {
		tiers = append(tiers, tier+" "+l.Tiers[tier])
	}
	for _, line := range [][2]string{
		{"limit", p.strong.text(l.Name)}, {"algorithm", l.Algorithm}, {"key", keyText(l.Key)}, {"rate", l.Rate},
		{"tiers", strings.Join(tiers, ", ")}, {"burst", burstText(l.Burst)}, {"mode", modeText(l)}, {"scope", scopeText(l)},
		{"refused", fmt.Sprint(l.Refused)}, {"would refuse", fmt.Sprint(l.WouldRefuse)},
	} {
		if line[1] != "" {
			fmt.Fprintf(p.out, "%-12s %s\n", line[0], line[1])
		}
	}
	if len(l.Key) > 0 {
		return nil
	}
	fmt.Fprintln(p.out)
	return p.showBuckets(ctx, c, name, nil)
}

func (p limitsPrinter) showBuckets(ctx context.Context, c *control, name string, key []string) error {
	var a struct {
		Limit   string              `json:"limit"`
		Key     []string            `json:"key"`
		Buckets []engine.LimitState `json:"buckets"`
	}
	if err := c.ask(ctx, http.MethodGet, limitPath(name), url.Values{"key": key}, &a); err != nil || p.json {
		return p.orJSON(a, err)
	}
	if len(a.Buckets) == 0 {
		_, err := fmt.Fprintln(p.out, "full: nothing was taken lately")
		return err
	}
	rows := [][]string{{"TIER", "RATE", "REMAINING", "OF", "FULL IN"}}
	for _, s := range a.Buckets {
		full := time.Duration(s.Reset * float64(time.Second)).Round(time.Millisecond)
		rows = append(rows, []string{orDash(s.Tier), s.Rate, fmt.Sprint(s.Remaining), fmt.Sprint(s.Limit), full.String()})
	}
	p.table(rows)
	return nil
}

// orJSON prints an answer as it came, unless there is none.
func (p limitsPrinter) orJSON(answer any, err error) error {
	if err != nil {
		return err
	}
	return printJSON(p.out, answer)
}

// table prints rows with aligned columns; the first is their names.
func (p limitsPrinter) table(rows [][]string) {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	_ = w.Flush() // a Builder takes everything
	names, rest, _ := strings.Cut(text.String(), "\n")
	fmt.Fprint(p.out, p.strong.text(names)+"\n"+rest)
}

func keyText(parts []string) string { return orDash(strings.Join(parts, ", ")) }

func burstText(burst int64) string {
	if burst == 0 {
		return "-"
	}
	return fmt.Sprint(burst)
}

func modeText(l engine.LimitSummary) string {
	text := l.Mode
	if l.BeforeAuth {
		text += ", before authentication"
	}
	if l.Hidden {
		text += ", hidden from clients"
	}
	return text
}

func storeText(s *engine.LimitStore) string {
	if s.Up {
		return "decides"
	}
	return "does not decide"
}

// scopeText is empty for a limit of the process alone.
func scopeText(l engine.LimitSummary) string {
	if l.OnStoreError == "" {
		return ""
	}
	return fmt.Sprintf("%s; without it: %s (%s so far)", l.Scope, l.OnStoreError, count(int(l.Degraded), "request"))
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
