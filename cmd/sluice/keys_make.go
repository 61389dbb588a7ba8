package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/limiter"
)

// keyFlags are what a key may do, as the command line says it.
type keyFlags struct {
	client, tier, rate, expires *string
	scopes                      *[]string
}

func addKeyFlags(cmd *cobra.Command) keyFlags {
	f := cmd.Flags()
	return keyFlags{
		client:  f.String("client", "", "the `name` of whoever has the key: metered, logged, and told to upstreams"),
		tier:    f.String("tier", "", "the client's `tier`, for limits"),
		scopes:  f.StringArray("scopes", nil, "what the key may be used for, such as `read:orders,write:orders`"),
		rate:    f.String("rate", "", "the key's own `rate`, such as 1000/h, instead of those of limits"),
		expires: f.String("expires", "", "when the key stops working: 90d, 12h or 2027-01-31; never if it is not given"),
	}
}

// record makes of the flags a record that still has no key. Its error is a usageError.
func (k keyFlags) record(cmd *cobra.Command, now time.Time) (auth.KeyRecord, error) {
	r := auth.KeyRecord{Client: *k.client, Tier: *k.tier, Created: now.UTC()}
	misuse := func(flag string, err error) (auth.KeyRecord, error) {
		return r, usageError{cmd.CommandPath(), fmt.Errorf("%s%w", flag, err)}
	}
	if r.Client == "" {
		return misuse("", errors.New("--client is missing: whom is the key for?"))
	}
	var err error
	if r.Scopes, err = parseScopes(*k.scopes); err != nil {
		return misuse("--scopes: ", err)
	}
	if r.Rate, err = parseKeyRate(*k.rate); err != nil {
		return misuse("--rate: ", err)
	}
	if *k.expires != "" {
		if r.Expires, err = parseEnd(*k.expires, now); err != nil {
			return misuse("--expires: ", err)
		}
	}
	r.ID = r.Digest.KeyID()
	if err := r.Validate(); err != nil {
		return misuse("", errors.New(strings.TrimPrefix(err.Error(), "auth: key "+r.ID+": ")))
	}
	return r, nil
}

// parseScopes takes lists with commas, or with spaces, as tokens have them.
func parseScopes(lists []string) (auth.Scopes, error) {
	var names []string
	for _, list := range lists {
		names = append(names, strings.FieldsFunc(list, func(r rune) bool { return r == ',' || r == ' ' })...)
	}
	scopes, err := auth.NewScopes(names)
	var wrong *auth.ScopeError
	if errors.As(err, &wrong) {
		return scopes, fmt.Errorf("%.80q is no scope: it has visible ASCII characters, less \" and \\", wrong.Name)
	}
	return scopes, err
}

// parseKeyRate holds a rate to what limits can count.
func parseKeyRate(text string) (auth.Rate, error) {
	if text == "" {
		return auth.Rate{}, nil
	}
	rate, err := config.ParseRate(text)
	if err != nil {
		return auth.Rate{}, err
	}
	spec := limiter.Spec{Algorithm: limiter.LeakyBucket, Rate: limiter.Rate(rate)}
	var wrong *limiter.SpecError
	if errors.As(spec.Check(), &wrong) {
		return auth.Rate{}, fmt.Errorf("%q: %s", text, wrong.Reason)
	}
	return auth.Rate(rate), nil
}

func newKeysCreate(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create --client NAME",
		Short: "Make a key",
		Long: `Create makes a key of 256 random bits and prints it, once, on standard output; what
it stands for goes to standard error. The store has no more than the key's SHA-256.`,
		Example: `  sluice keys create --client MobileApp
  sluice keys create --client MobileApp --tier gold --scopes read:orders,write:orders \
    --rate 1000/h --expires 90d`,
		Args: usage(cobra.NoArgs),
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
		return withKeys(cmd, *path, func(ctx context.Context, store keystore.Store) error {
			key, err := putNewKey(ctx, store, &record)
			if err != nil {
				return err
			}
			p := newKeyPrinter(cmd, *format)
			return p.made(key, p.view(record))
		})
	}
	return cmd
}

// putNewKey makes a key for a record, and stores that.
func putNewKey(ctx context.Context, store keystore.Store, record *auth.KeyRecord) (key string, err error) {
	key, id, err := auth.NewKey(rand.Reader)
	if err != nil {
		return "", err
	}
	record.ID, record.Digest = id, auth.DigestKey([]byte(key))
	return key, store.Put(ctx, *record)
}

func newKeysRotate(path *string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate ID|KEY",
		Short: "Replace a key by a new one that may do the same",
		Long: `Rotate makes a new key with everything that the old one has: client, tier, scopes,
rate and end. It prints the new key as create does. The old one is revoked at once,
or works on for the time of --overlap, until all who have it have changed over.`,
		Example: `  sluice keys rotate key_0123456789abcdef --overlap 7d`,
		Args:    usage(cobra.ExactArgs(1)),
	}
	overlap := cmd.Flags().String("overlap", "0s", "how long the old key works on, such as `7d`")
	expires := cmd.Flags().String("expires", "", "when the new key stops working: 90d, 12h or 2027-01-31; with the old one if it is not given")
	format := addFormat(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkFormat(cmd, *format); err != nil {
			return err
		}
		now := time.Now()
		span, err := parseSpan(*overlap)
		if err != nil {
			return usageError{cmd.CommandPath(), fmt.Errorf("--overlap: %w", err)}
		}
		var end time.Time
		if *expires != "" {
			if end, err = parseEnd(*expires, now); err != nil {
				return usageError{cmd.CommandPath(), fmt.Errorf("--expires: %w", err)}
			}
		}
		text, err := keyArgument(cmd, args[0])
		if err != nil {
			return err
		}
		return withKeys(cmd, *path, func(ctx context.Context, store keystore.Store) error {
			old, err := findKey(ctx, store, text)
			if err != nil {
				return err
			}
			r := rotation{old: old, now: now.UTC(), overlap: span, expires: end}
			key, err := r.carryOut(ctx, store)
			if err != nil {
				return err
			}
			p := newKeyPrinter(cmd, *format)
			view := p.view(r.next)
			view.Replaces, view.Until = old.ID, r.until
			err = p.made(key, view)
			if span == 0 {
				closeStreams(ctx, p.notes, *path, old)
			}
			return err
		})
	}
	return cmd
}

// rotation is a key that takes the place of another.
type rotation struct {
	old     auth.KeyRecord
	now     time.Time
	overlap time.Duration
	expires time.Time // of the next key; zero: of the old one

	next  auth.KeyRecord
	until time.Time // the old key works; zero: it does not
}

// carryOut makes the next key before it ends the old one, and takes it back if it cannot.
func (r *rotation) carryOut(ctx context.Context, store keystore.Store) (key string, err error) {
	r.next = r.old
	r.next.Created = r.now
	if !r.expires.IsZero() {
		r.next.Expires = r.expires
	}
	if !r.next.Expires.IsZero() && !r.next.Expires.After(r.now) {
		return "", fmt.Errorf("%s has expired: say with --expires when the new key does", r.old.ID)
	}
	if key, err = putNewKey(ctx, store, &r.next); err != nil {
		return "", err
	}
	if err = r.endOld(ctx, store); err == nil {
		return key, nil
	}
	err = missingKey(err, r.old.ID)
	if undone := store.Delete(ctx, r.next.ID); undone != nil {
		return "", fmt.Errorf("%w; its new key, which nobody has, could not be removed: revoke %s", err, r.next.ID)
	}
	return "", err
}

func (r *rotation) endOld(ctx context.Context, store keystore.Store) error {
	if r.overlap == 0 {
		return store.Delete(ctx, r.old.ID)
	}
	return store.Update(ctx, r.old.ID, func(old *auth.KeyRecord) error {
		if end := r.now.Add(r.overlap); old.Expires.IsZero() || end.Before(old.Expires) {
			old.Expires = end
		}
		r.until = old.Expires
		return nil
	})
}
