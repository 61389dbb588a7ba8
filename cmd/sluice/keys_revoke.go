package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine"
)

// afterRevocation is how long a key that has no record is remembered as revoked. That need not be long: it
// is for what is open, and for gateways that cannot read the store.
const afterRevocation = day

func newKeysRevoke(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke ID|KEY",
		Short: "Remove a key for good",
		Long: `Revoke removes a key from the store. Within a second it does not work any more on
any gateway that uses the store, and the WebSockets and streams opened with it are
closed by the gateways that the revocation reaches: see sluice revoke --help.`,
		Example: `  sluice keys revoke key_0123456789abcdef`,
		Args:    usage(cobra.ExactArgs(1)),
	}
	format := addFormat(cmd)
	cmd.RunE = onKey(path, format, func(ctx context.Context, store keystore.Store, text string, p keyPrinter) error {
		record, err := removeKey(ctx, store, text)
		if err != nil {
			return err
		}
		closeStreams(ctx, p.notes, *path, record)
		if p.json {
			return printJSON(p.out, map[string]string{"id": record.ID, "client": record.Client, "state": "revoked"})
		}
		if record.Client == "" {
			_, err = fmt.Fprintf(p.out, "revoked %s\n", record.ID)
			return err
		}
		return p.did("revoked", record)
	})
	return cmd
}

// removeKey deletes the record of an ID or KEY, also one that cannot be read; then only its ID is known.
func removeKey(ctx context.Context, store keystore.Store, text string) (auth.KeyRecord, error) {
	ids := keyIDs(text)
	for _, id := range ids {
		record, err := store.Get(ctx, id)
		if errors.Is(err, keystore.ErrNotFound) {
			continue
		}
		if err != nil {
			record = auth.KeyRecord{ID: id}
		}
		return record, missingKey(store.Delete(ctx, id), id)
	}
	return auth.KeyRecord{}, missingKey(keystore.ErrNotFound, ids[0])
}

// closeStreams revokes a key that has no record any more, for the sake of what is open. Were the key
// imported again, it would be issued later than what is revoked here. If it fails, the key is dead all the same.
func closeStreams(ctx context.Context, notes io.Writer, path string, gone auth.KeyRecord) {
	now := time.Now()
	entry := revocation.Entry{Kind: revocation.Key, ID: gone.ID, Before: now.UTC(), Expires: now.Add(afterRevocation).UTC()}
	if !gone.Created.Before(entry.Before) { // by another machine's clock
		entry.Before = gone.Created.Add(time.Nanosecond)
	}
	_, err := withdraw(ctx, path, entry)
	var refused *refusal
	if err == nil || errors.Is(err, engine.ErrNoStore) || errors.As(err, &refused) && refused.reason == "no_auth" {
		return // nothing can be open
	}
	fmt.Fprintf(notes, "sluice: the key does not work any more, but what it has opened may go on: %v\n", err)
}
