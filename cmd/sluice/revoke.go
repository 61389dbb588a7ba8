package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine"
	"github.com/sluice-gateway/sluice/engine/admin"
	"github.com/sluice-gateway/sluice/engine/config"
)

func newRevoke(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke --jti ID | --sub ID | --client NAME | --key ID",
		Short: "Refuse tokens or keys from now on",
		Long: `Revoke makes the running gateway refuse what a flag names, within a second also on
the gateways that share its revocations, and close the WebSockets and streams
opened with it. If no gateway can be reached, revoke writes to the store itself,
[auth.revocation], and says so.

What is revoked cannot be taken back. It is forgotten when it has expired by
itself: a jti or sub after 90 days, a client or key after ten years, or after the
time of --for, which may be as long as the longest of them.

--before spares what is issued at that time or later: everything of a client, say,
up to now. API keys are issued when they are created.`,
		Example: `  sluice revoke --jti 9f3c2a10 --issuer main
  sluice revoke --sub user-42 --before now --for 30d
  sluice revoke --key key_0123456789abcdef`,
		Args: usage(cobra.NoArgs),
	}
	f := cmd.Flags()
	w := wish{
		jti:    f.String("jti", "", "one token, by its `ID`"),
		sub:    f.String("sub", "", "the tokens of a subject, by its `ID`"),
		client: f.String("client", "", "tokens and keys of a client, by its `NAME`"),
		key:    f.String("key", "", "an API key, by its `ID` (or itself)"),
		issuer: f.String("issuer", "", "only tokens of this issuer: the `NAME` of its table, or its iss"),
		before: f.String("before", "", "only what was issued before this `time`: now, 2027-01-31 or 2027-01-31T12:00:00Z"),
		life:   f.String("for", "", "how long to remember it, such as `30d`"),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		entry, err := w.entry(time.Now())
		if err != nil {
			return usageError{cmd.CommandPath(), err}
		}
		done, err := withdraw(cmd.Context(), *path, entry)
		if err != nil {
			return misusedRevocation(cmd, err)
		}
		if done.where != "" {
			fmt.Fprintf(cmd.ErrOrStderr(), "sluice: %v: written to %s\n", done.absent, done.where)
		}
		if *format == formatJSON {
			return printJSON(cmd.OutOrStdout(), admin.NewRevocation(done.entry))
		}
		_, err = fmt.Fprintln(cmd.OutOrStdout(), "revoked "+entryText(done.entry))
		return err
	}
	return cmd
}

// wish is what is to be revoked, as the command line says it.
type wish struct{ jti, sub, client, key, issuer, before, life *string }

func (w wish) entry(now time.Time) (revocation.Entry, error) {
	e := revocation.Entry{Issuer: *w.issuer}
	n := 0
	for _, flag := range []struct {
		kind revocation.Kind
		id   string
	}{{revocation.Token, *w.jti}, {revocation.Subject, *w.sub}, {revocation.Client, *w.client}, {revocation.Key, *w.key}} {
		if flag.id != "" {
			e.Kind, e.ID = flag.kind, flag.id
			n++
		}
	}
	switch {
	case n != 1:
		return e, errors.New("want one of --jti, --sub, --client and --key")
	case e.Issuer != "" && e.Kind != revocation.Token && e.Kind != revocation.Subject:
		return e, errors.New("--issuer goes with --jti and --sub only")
	case e.Kind == revocation.Key && auth.LooksLikeKey(e.ID):
		e.ID = auth.DigestKey([]byte(e.ID)).KeyID()
	case e.Kind == revocation.Key && !engine.IsKeyID(e.ID): // if it is a key with a typo, it would revoke nothing
		return e, errors.New("--key wants the id of a key, such as key_0123456789abcdef, or a key that sluice keys has made")
	}
	switch *w.before {
	case "":
	case "now":
		e.Before = now.UTC()
	default:
		var err error
		if e.Before, err = parseMoment(*w.before); err != nil {
			return e, fmt.Errorf("--before: %w", err)
		}
	}
	if *w.life != "" {
		life, err := parseSpan(*w.life)
		if err != nil || life == 0 {
			return e, fmt.Errorf("--for: %w", errSpan)
		}
		e.Expires = now.Add(life).UTC()
	}
	return e, nil
}

// withdrawal is what became of a revocation.
type withdrawal struct {
	entry  revocation.Entry
	where  string // the store that it was written to; empty: a gateway has it
	absent error  // why there was no gateway to tell
}

// withdraw revokes through the running gateway, or else writes to the store.
func withdraw(ctx context.Context, path string, entry revocation.Entry) (withdrawal, error) {
	kept, absent := tellGateway(ctx, path, entry)
	var refused *refusal
	switch {
	case absent == nil:
		return withdrawal{entry: kept}, nil
	case errors.As(absent, &refused):
		return withdrawal{}, absent
	}
	var faults config.Faults
	kept, where, err := engine.RevokeOffline(ctx, path, entry)
	switch {
	case errors.As(err, &faults), errors.Is(err, revocation.ErrInvalid):
		return withdrawal{}, err
	case err != nil:
		return withdrawal{}, fmt.Errorf("%w; %w", absent, err)
	}
	return withdrawal{kept, where, absent}, nil
}

// tellGateway revokes through the admin side.
func tellGateway(ctx context.Context, path string, entry revocation.Entry) (kept revocation.Entry, err error) {
	c, err := newControl(path)
	if err != nil {
		return entry, err
	}
	body, err := json.Marshal(admin.NewRevocation(entry))
	if err != nil {
		return entry, fmt.Errorf("cannot write the revocation: %w", err)
	}
	var answer admin.Revocation
	if err := c.tell(ctx, http.MethodPost, "/revocations", nil, bytes.NewReader(body), &answer); err != nil {
		return entry, err
	}
	return answer.Entry()
}

// misusedRevocation makes an entry that cannot be a mistake in the command line, whoever found it out.
func misusedRevocation(cmd *cobra.Command, err error) error {
	if reason, ok := strings.CutPrefix(err.Error(), revocation.ErrInvalid.Error()+": "); ok {
		return usageError{cmd.CommandPath(), errors.New(reason)}
	}
	return misusedKey(cmd, err)
}

func entryText(e revocation.Entry) string {
	names := map[revocation.Kind]string{revocation.Token: "jti ", revocation.Subject: "sub ", revocation.Client: "client "}
	text := names[e.Kind] + e.ID
	if e.Issuer != "" {
		text += " of " + e.Issuer
	}
	if !e.Before.IsZero() {
		text += ", if issued before " + showTime(e.Before)
	}
	return text + ", until " + showTime(e.Expires)
}
