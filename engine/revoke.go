package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/config"
)

// tokenRevoked is how long a jti or sub is refused unless somebody says otherwise: tokens do not live longer,
// or should not. Clients and keys have no end of their own: they are refused as long as an entry may last.
const tokenRevoked = 90 * 24 * time.Hour

// ErrNoStore refuses to revoke offline what only the memory of a running gateway could keep.
var ErrNoStore = errors.New("revocations are kept in the gateway's memory only: auth.revocation.file is empty")

// RevokeOffline adds an entry to the store that the configuration at path names, and tells where that is.
// Gateways that have the store open put it in force within a second, others when they start. It does with
// the entry what Engine.Revoke does, and fails with ErrNoStore where that would be of no use to anybody. The
// error is a config.Faults if what the configuration says of the store is at fault.
func RevokeOffline(ctx context.Context, path string, entry revocation.Entry) (kept revocation.Entry, where string, err error) {
	file, err := loadStores(path, "auth.revocation")
	if err != nil {
		return entry, "", err
	}
	where = file.Auth.Revocation.File
	if file.Auth.Revocation.Store == "redis" {
		where = "Redis"
	}
	if where == "" {
		return entry, "", ErrNoStore
	}
	now := time.Now()
	if entry, err = completeEntry(file, entry, now); err != nil {
		return entry, where, err
	}
	store, err := revocationStore(file, revocation.New(revocation.Config{}), nil)
	if err != nil {
		return entry, where, err
	}
	err = store.Add(ctx, entry, now)
	if closed := store.Close(); err == nil {
		err = closed
	}
	return entry, where, err
}

// completeEntry gives an entry its end, and its issuer the name that principals have it by.
func completeEntry(f *config.File, entry revocation.Entry, now time.Time) (revocation.Entry, error) {
	if entry.Created.IsZero() {
		entry.Created = now.UTC()
	}
	if entry.Expires.IsZero() {
		life := revocation.MaxLife
		if entry.Kind == revocation.Token || entry.Kind == revocation.Subject {
			life = tokenRevoked
		}
		entry.Expires = now.Add(life).UTC()
	}
	if entry.Kind == revocation.Key && !IsKeyID(entry.ID) { // it may be the key itself: not to be told
		return entry, fmt.Errorf("%w: a key is named by its id, such as key_0123456789abcdef", revocation.ErrInvalid)
	}
	var err error
	if entry.Issuer, err = issuerName(f, entry.Issuer); err != nil {
		return entry, err
	}
	return entry, entry.Check(now)
}

// IsKeyID says whether a text has the form of an API key's id, as auth.Digest.KeyID makes it.
func IsKeyID(text string) bool {
	digits, ok := strings.CutPrefix(text, "key_")
	return ok && len(digits) == 16 && strings.Trim(digits, "0123456789abcdef") == ""
}

// issuerName finds the method of an issuer that is called by the name of its table. Others are taken for the
// iss of tokens, unless it is plain that nothing has it: such an entry would revoke nothing, unnoticed.
func issuerName(f *config.File, name string) (string, error) {
	jwt, introspection := f.Auth.JWT[name] != nil, f.Auth.Introspection[name] != nil
	switch {
	case name == "":
		return "", nil
	case jwt && introspection:
		return "", fmt.Errorf("%w: the issuer %q may be jwt:%s or introspection:%s", revocation.ErrInvalid, name, name, name)
	case jwt:
		return "jwt:" + name, nil
	case introspection:
		return "introspection:" + name, nil
	}
	kind, table, _ := strings.Cut(name, ":")
	known := kind == "jwt" && f.Auth.JWT[table] != nil || kind == "introspection" && f.Auth.Introspection[table] != nil
	for _, j := range f.Auth.JWT {
		known = known || j.Issuer == name
	}
	if !known && (kind == "jwt" || kind == "introspection" || !strings.ContainsAny(name, ":/.")) {
		return "", fmt.Errorf("%w: there is no issuer %q", revocation.ErrInvalid, name)
	}
	return name, nil
}
