package jwks

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwk"
)

const keysMax = 100

var (
	errNotSet  = errors.New("not a JWK Set: no JSON object with an array \"keys\"")
	errTooMany = errors.New("more than 100 keys")
	errNoKeys  = errors.New("no key that verifies signatures")
)

// index is a set's usable keys, ready for look-ups. It never changes.
type index struct {
	keys    map[use][]jwk.Key
	kids    map[string]struct{}
	count   int
	skipped int               // entries that were of no use
	digest  [sha256.Size]byte // of all that can make a difference to a token
}

// use is what a key is looked up for.
type use struct{ kid, alg string }

func (x *index) holds(kid string) bool {
	_, ok := x.kids[kid]
	return ok
}

// decode reads a JWK Set (RFC 7517 section 5). Entries of no use are skipped, for an issuer may publish
// keys for other purposes, and of kinds that nobody knew yet; a set without any usable key is an error,
// for it is likelier a fault than the will to shut everyone out.
func decode(data []byte) (*index, error) {
	entries, err := split(data)
	if err != nil {
		return nil, err
	}
	var keys []*key
	for _, entry := range entries {
		if k, err := newKey(entry); err == nil && !slices.ContainsFunc(keys, k.clashes) {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%w among %d", errNoKeys, len(entries))
	}
	x, err := newIndex(keys)
	if err != nil {
		return nil, err
	}
	x.skipped = len(entries) - len(keys)
	return x, nil
}

// split takes a set apart. The names of members are compared exactly, as JSON has it.
func split(data []byte) ([]json.RawMessage, error) {
	var set map[string]json.RawMessage
	if err := json.Unmarshal(data, &set); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSet, err)
	}
	list := json.NewDecoder(bytes.NewReader(set["keys"]))
	if open, err := list.Token(); err != nil || open != json.Delim('[') {
		return nil, errNotSet
	}
	var entries []json.RawMessage
	for list.More() {
		if len(entries) == keysMax { // before the rest takes memory
			return nil, errTooMany
		}
		var entry json.RawMessage
		if err := list.Decode(&entry); err != nil {
			return nil, fmt.Errorf("%w: %w", errNotSet, err)
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

func newIndex(keys []*key) (*index, error) {
	x := &index{keys: map[use][]jwk.Key{}, kids: map[string]struct{}{}, count: len(keys)}
	traits := make([][]byte, 0, len(keys))
	for _, k := range keys {
		public, err := k.jwk()
		if err != nil {
			return nil, err
		}
		for _, alg := range k.algs {
			x.keys[use{"", alg}] = append(x.keys[use{"", alg}], public)
			if k.kid != "" {
				x.keys[use{k.kid, alg}] = append(x.keys[use{k.kid, alg}], public)
			}
		}
		if k.kid != "" {
			x.kids[k.kid] = struct{}{}
		}
		trait, err := k.trait()
		if err != nil {
			return nil, err
		}
		traits = append(traits, trait)
	}
	slices.SortFunc(traits, bytes.Compare) // the order of keys means nothing
	hash := sha256.New()
	for _, trait := range traits {
		sum := sha256.Sum256(trait)
		hash.Write(sum[:])
	}
	hash.Sum(x.digest[:0])
	return x, nil
}

// trait is a key as bytes: equal if and only if the keys serve the same tokens.
func (k *key) trait() ([]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(k.public)
	if err != nil {
		return nil, fmt.Errorf("cannot encode key %q: %w", k.kid, err)
	}
	return fmt.Appendf(nil, "%q %q %x", k.kid, k.algs, der), nil
}
