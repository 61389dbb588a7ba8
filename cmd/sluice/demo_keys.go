package main

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/engine"
)

// demoKeys is the API keys of the demo. They live as long as it does.
type demoKeys struct{ mobile, trial string }

// writeDemoKeys makes the keys and the file with their hashes, as `sluice keys create` would.
func writeDemoKeys(path string) (keys demoKeys, err error) {
	store, err := engine.KeyFile(path)
	if err != nil {
		return keys, err
	}
	now := time.Now().UTC().Truncate(time.Second)
	for _, k := range []struct {
		to     *string
		scopes []string
		record auth.KeyRecord
	}{
		{&keys.mobile, []string{"read:orders", "write:orders"}, auth.KeyRecord{Client: "MobileApp", Tier: "gold"}},
		{&keys.trial, []string{"read:orders"}, auth.KeyRecord{Client: "Trial", Rate: auth.Rate{N: 5, Per: time.Minute}}},
	} {
		if *k.to, k.record.ID, err = auth.NewKey(rand.Reader); err != nil {
			return keys, err
		}
		if k.record.Scopes, err = auth.NewScopes(k.scopes); err != nil {
			return keys, err
		}
		k.record.Digest, k.record.Created, k.record.Expires = auth.DigestKey([]byte(*k.to)), now, now.Add(demoCertificateTime)
		if err = store.Put(context.Background(), k.record); err != nil {
			return keys, err
		}
	}
	return keys, nil
}
