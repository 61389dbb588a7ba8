package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine/config"
)

// keyJSON is a key as --format json prints it. The key itself is there only when it has just been made.
type keyJSON struct {
	ID      string    `json:"id"`
	Key     string    `json:"key,omitempty"`
	Client  string    `json:"client"`
	Tier    string    `json:"tier,omitempty"`
	Scopes  []string  `json:"scopes"`
	Rate    string    `json:"rate,omitempty"`
	Created time.Time `json:"created,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	State   string    `json:"state"` // active, disabled or expired

	Replaces string    `json:"replaces,omitempty"` // the id of the key that was rotated ...
	Until    time.Time `json:"until,omitzero"`     // ... and when it ends; none: it has
}

func (p keyPrinter) view(r auth.KeyRecord) keyJSON {
	k := keyJSON{
		ID: r.ID, Client: r.Client, Tier: r.Tier, Scopes: append([]string{}, r.Scopes.List()...),
		Created: r.Created, Expires: r.Expires, State: "active",
	}
	if r.Rate != (auth.Rate{}) {
		k.Rate = config.Rate(r.Rate).String()
	}
	switch {
	case r.Disabled:
		k.State = "disabled"
	case !r.Expires.IsZero() && !p.now.Before(r.Expires):
		k.State = "expired"
	}
	return k
}

// list prints all keys, for people in columns.
func (p keyPrinter) list(records []auth.KeyRecord) error {
	views := make([]keyJSON, len(records))
	rows := [][]string{{"ID", "CLIENT", "TIER", "SCOPES", "RATE", "CREATED", "EXPIRES", "STATE"}}
	for i, r := range records {
		k := p.view(r)
		views[i] = k
		rows = append(rows, []string{
			k.ID, k.Client, orDash(k.Tier), orDash(strings.Join(k.Scopes, " ")), orDash(k.Rate),
			showTime(k.Created), showTime(k.Expires), k.State,
		})
	}
	switch {
	case p.json:
		return printJSON(p.out, views)
	case len(views) == 0:
		_, err := fmt.Fprintln(p.out, "no keys")
		return err
	}
	p.table(rows)
	return nil
}

// one prints a key, for people to w.
func (p keyPrinter) one(w io.Writer, k keyJSON) error {
	if p.json {
		return printJSON(p.out, k)
	}
	lines := [][2]string{
		{"id", k.ID}, {"client", k.Client}, {"tier", orDash(k.Tier)}, {"scopes", orDash(strings.Join(k.Scopes, " "))},
		{"rate", orDash(k.Rate)}, {"created", showTime(k.Created)}, {"expires", showTime(k.Expires)}, {"state", k.State},
	}
	if k.Replaces != "" {
		end := "which is gone"
		if !k.Until.IsZero() {
			end = "which works until " + showTime(k.Until)
		}
		lines = append(lines, [2]string{"replaces", k.Replaces + ", " + end})
	}
	for _, line := range lines {
		if _, err := fmt.Fprintf(w, "%-10s %s\n", line[0], line[1]); err != nil {
			return err
		}
	}
	return nil
}

// made prints a new key: the key alone where a program may read it, the rest beside.
func (p keyPrinter) made(key string, k keyJSON) error {
	if p.json {
		k.Key = key
		return p.lost(k.ID, printJSON(p.out, k))
	}
	_ = p.one(p.notes, k)
	fmt.Fprintln(p.notes, "\nThe key is not shown again:")
	_, err := fmt.Fprintln(p.out, key)
	return p.lost(k.ID, err)
}

func (p keyPrinter) lost(id string, err error) error {
	if err != nil {
		return fmt.Errorf("cannot print the key, which nobody has now: revoke %s: %w", id, err)
	}
	return nil
}

// did prints what was done to a key.
func (p keyPrinter) did(what string, r auth.KeyRecord) error {
	if p.json {
		return printJSON(p.out, p.view(r))
	}
	_, err := fmt.Fprintf(p.out, "%s %s of %s\n", what, r.ID, r.Client)
	return err
}
