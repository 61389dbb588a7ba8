package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/keystore"
)

const (
	maxLine  = 1024 // bytes that are read of a line; no key is as long
	shortKey = 20   // a key with fewer bytes may be guessed from its hash
)

func newKeysImport(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import --client NAME",
		Short: "Take over keys that exist elsewhere",
		Long: `Import reads keys from standard input, one a line: any 1 to 512 visible ASCII
characters. All of them get what the flags say. Keys that the store has already
stay as they are, are told, and make import exit 1; a line that is no key stops
it before anything is stored.`,
		Example: `  sluice keys import --client MobileApp --scopes read:orders < keys.txt`,
		Args:    usage(cobra.NoArgs),
	}
	flags := addKeyFlags(cmd)
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		record, err := flags.record(cmd, time.Now())
		if err != nil {
			return err
		}
		b, err := readKeys(cmd.InOrStdin(), record)
		if err != nil {
			return err
		}
		return withKeys(cmd, *path, func(ctx context.Context, store keystore.Store) error {
			taken, err := b.store(ctx, store)
			if err != nil {
				return err
			}
			p := newKeyPrinter(cmd, *format)
			return p.imported(b, taken)
		})
	}
	return cmd
}

// batch is keys to be stored together.
type batch struct {
	records []auth.KeyRecord
	lines   []int // where each was read
	short   int   // how many are so short that they can be guessed
}

// readKeys makes a record like the one given for each line. Its errors name lines and never show keys.
func readKeys(in io.Reader, like auth.KeyRecord) (batch, error) {
	var b batch
	seen := map[string]int{}
	scanner := bufio.NewScanner(in)
	scanner.Buffer(make([]byte, 0, maxLine), maxLine)
	n := 0
	for scanner.Scan() {
		n++
		key := scanner.Bytes() // without the end of the line, \r\n too
		if len(key) == 0 {
			continue
		}
		if err := auth.CheckKey(key); err != nil {
			return b, fmt.Errorf("line %d is no key: %w", n, err)
		}
		r := like
		r.Digest = auth.DigestKey(key)
		r.ID = r.Digest.KeyID()
		if first := seen[r.ID]; first > 0 {
			return b, fmt.Errorf("line %d has the key of line %d again", n, first)
		}
		seen[r.ID] = n
		if len(key) < shortKey {
			b.short++
		}
		b.records, b.lines = append(b.records, r), append(b.lines, n)
	}
	switch err := scanner.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return b, fmt.Errorf("line %d is no key: it is longer than 512 bytes", n+1)
	case err != nil:
		return b, fmt.Errorf("cannot read keys from standard input: %w", err)
	case len(b.records) == 0:
		return b, errors.New("there are no keys on standard input")
	}
	return b, nil
}

// store puts the keys into a store, a file all at once. It gives those that were there before.
func (b batch) store(ctx context.Context, store keystore.Store) (taken map[string]bool, err error) {
	if file, ok := store.(*keystore.File); ok {
		err = file.Edit(ctx, func(records []auth.KeyRecord) ([]auth.KeyRecord, error) {
			var next []auth.KeyRecord
			next, taken = b.merge(records)
			return next, nil
		})
		return taken, err
	}
	taken = map[string]bool{}
	for i, r := range b.records {
		switch err := store.Put(ctx, r); {
		case errors.Is(err, keystore.ErrExists):
			taken[r.ID] = true
		case err != nil:
			return nil, fmt.Errorf("line %d and those below it are not stored: %w", b.lines[i], err)
		}
	}
	return taken, nil
}

// merge adds the keys to those that are there.
func (b batch) merge(records []auth.KeyRecord) (next []auth.KeyRecord, taken map[string]bool) {
	old := make(map[string]bool, len(records))
	for _, r := range records {
		old[r.ID] = true
	}
	taken = map[string]bool{}
	for _, r := range b.records {
		if old[r.ID] {
			taken[r.ID] = true
			continue
		}
		records = append(records, r)
	}
	return records, taken
}

// imported prints what became of a batch. It fails if some keys were not stored.
func (p keyPrinter) imported(b batch, taken map[string]bool) error {
	views := []keyJSON{}
	var left []string
	for i, r := range b.records {
		if taken[r.ID] {
			left = append(left, fmt.Sprintf("line %d (%s)", b.lines[i], r.ID))
			continue
		}
		views = append(views, p.view(r))
	}
	if b.short > 0 {
		fmt.Fprintf(p.notes, "%s of fewer than %d characters can be guessed, above all by whoever sees the store\n", count(b.short, "key"), shortKey)
	}
	if p.json {
		if err := printJSON(p.out, views); err != nil {
			return err
		}
	} else {
		for _, k := range views {
			fmt.Fprintln(p.out, k.ID)
		}
		fmt.Fprintf(p.notes, "imported %s\n", count(len(views), "key"))
	}
	if len(left) == 0 {
		return nil
	}
	more := ""
	if len(left) > 10 {
		left, more = left[:10], fmt.Sprintf(" and %d more", len(left)-10)
	}
	return fmt.Errorf("left as they are, since the store has them already: %s%s", strings.Join(left, ", "), more)
}
