package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/engine"
)

// keysTime is the longest that a verb works on a store, and waits for another one that writes to it.
const keysTime = 2 * time.Minute

func newKeys(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keys",
		Short: "Make, show and withdraw API keys",
		Long: `Keys works on the store of API keys that the configuration names, [auth.keys]: a
file, or Redis. No gateway need be running; those that use the store obey within
a second.

A key is shown once, when it is made. The store has its SHA-256, and what it may
do. From then on a key goes by its id, key_ and 16 hexadecimal digits. Where an
ID is asked for, the KEY itself will do, and - reads it from standard input,
which keeps it out of the shell's history.`,
		Args: usage(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(
		newKeysCreate(path), newKeysImport(path), newKeysList(path), newKeysShow(path),
		newKeysSwitch(path, "disable", "Make a key stop working for now", true),
		newKeysSwitch(path, "enable", "Make a disabled key work again", false),
		newKeysRotate(path), newKeysRevoke(path),
	)
	return cmd
}

// withKeys opens the store for a verb.
func withKeys(cmd *cobra.Command, path string, work func(context.Context, keystore.Store) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), keysTime)
	defer cancel()
	store, closer, err := engine.OpenKeys(ctx, path)
	if err != nil {
		return err
	}
	defer closer.Close()
	return work(ctx, store)
}

func newKeysList(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show all keys",
		Args:  usage(cobra.NoArgs),
	}
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		return withKeys(cmd, *path, func(ctx context.Context, store keystore.Store) error {
			records, err := store.List(ctx)
			if records == nil && err != nil {
				return err
			}
			p := newKeyPrinter(cmd, *format)
			if printed := p.list(records); printed != nil {
				return printed
			}
			return err // some can be read, and some cannot
		})
	}
	return cmd
}

func newKeysShow(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show ID|KEY",
		Short: "Show whom a key stands for, and what it may do",
		Args:  usage(cobra.ExactArgs(1)),
	}
	format := addFormat(cmd)
	cmd.RunE = onKey(path, format, func(ctx context.Context, store keystore.Store, text string, p keyPrinter) error {
		record, err := findKey(ctx, store, text)
		if err != nil {
			return err
		}
		return p.one(p.out, p.view(record))
	})
	return cmd
}

func newKeysSwitch(path *string, use, short string, disabled bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   use + " ID|KEY",
		Short: short,
		Args:  usage(cobra.ExactArgs(1)),
	}
	if disabled {
		cmd.Long = `Disable makes a key stop working until it is enabled again. WebSockets and streams
that it has opened stay open: sluice keys revoke closes them, too.`
	}
	format := addFormat(cmd)
	cmd.RunE = onKey(path, format, func(ctx context.Context, store keystore.Store, text string, p keyPrinter) error {
		record, err := findKey(ctx, store, text)
		if err != nil {
			return err
		}
		err = store.Update(ctx, record.ID, func(r *auth.KeyRecord) error {
			r.Disabled = disabled
			record = *r
			return nil
		})
		if err != nil {
			return missingKey(err, record.ID)
		}
		return p.did(use+"d", record)
	})
	return cmd
}

// onKey runs a verb on the ID or KEY of its command line.
func onKey(path, format *string, do func(ctx context.Context, store keystore.Store, text string, p keyPrinter) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		text, err := keyArgument(cmd, args[0])
		if err != nil {
			return err
		}
		return withKeys(cmd, *path, func(ctx context.Context, store keystore.Store) error {
			return do(ctx, store, text, newKeyPrinter(cmd, *format))
		})
	}
}

// keyArgument is the ID or KEY of a command line, or of standard input if it is "-".
func keyArgument(cmd *cobra.Command, text string) (string, error) {
	if text == "-" {
		line, err := bufio.NewReader(io.LimitReader(cmd.InOrStdin(), maxLine)).ReadString('\n')
		if err != nil && (err != io.EOF || line == "") {
			return "", fmt.Errorf("cannot read a key from standard input: %w", err)
		}
		text = strings.TrimRight(line, "\r\n")
	}
	if err := auth.CheckKey([]byte(text)); err != nil {
		return "", usageError{cmd.CommandPath(), fmt.Errorf("neither an id nor a key: %w", err)}
	}
	return text, nil
}

// keyIDs are the ids that an ID or KEY may stand for, the likelier one first: whoever brings a key of his
// own may have one that looks like an id.
func keyIDs(text string) []string {
	id := auth.DigestKey([]byte(text)).KeyID()
	if engine.IsKeyID(text) {
		return []string{text, id}
	}
	return []string{id}
}

// findKey gives the record of an ID or KEY. Its error does not show the key.
func findKey(ctx context.Context, store keystore.Store, text string) (auth.KeyRecord, error) {
	ids := keyIDs(text)
	for _, id := range ids {
		record, err := store.Get(ctx, id)
		if !errors.Is(err, keystore.ErrNotFound) {
			return record, err
		}
	}
	return auth.KeyRecord{}, missingKey(keystore.ErrNotFound, ids[0])
}

// missingKey says which key it is that has no record.
func missingKey(err error, id string) error {
	if errors.Is(err, keystore.ErrNotFound) {
		return fmt.Errorf("there is no key %s", id)
	}
	return err
}

// keyPrinter shows keys.
type keyPrinter struct {
	limitsPrinter
	notes io.Writer // for people, beside what is printed for programs
	now   time.Time
}

func newKeyPrinter(cmd *cobra.Command, format string) keyPrinter {
	out := cmd.OutOrStdout()
	return keyPrinter{
		limitsPrinter: limitsPrinter{out: out, styles: stylesFor(out, os.Getenv), json: format == formatJSON},
		notes:         cmd.ErrOrStderr(),
		now:           time.Now(),
	}
}
