package engine

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/introspection"
	"github.com/sluice-gateway/sluice/auth/jwks"
	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/watch"
)

// methodSource is what a method was built from, beside its own table: a reload keeps it while that is the
// same.
type methodSource struct {
	table  any
	redis  *config.Redis
	claims []string // that limits count by
}

// methods builds the ways of authentication that routes use.
func (c *compiler) methods() {
	c.snap.methods = map[string]*method{}
	for _, r := range c.file.Route {
		for _, name := range r.Auth {
			if _, known := c.snap.methods[name]; name == "none" || known {
				continue
			}
			if m := c.method(name); m != nil {
				c.snap.methods[name] = m
			}
		}
	}
}

// withholdCredentials keeps credentials from targets of all routes, not only of those that ask for them.
// Authorization is left alone where no method reads it: it may be meant for the target.
func (c *compiler) withholdCredentials() {
	for _, m := range c.snap.methods {
		if m.header != "authorization" && !m.forward {
			c.snap.headers.add(m.header, headerOurs)
		}
	}
}

// method builds the method of a name, or takes over the last one's.
func (c *compiler) method(name string) *method {
	kind, table, _ := strings.Cut(name, ":")
	key := "auth." + strings.TrimSuffix(kind+"."+table, ".")
	if !c.sound(key) {
		return nil
	}
	var source methodSource
	var build func() (*method, error)
	switch kind {
	case "keys":
		source.table, source.redis = c.file.Auth.Keys, c.file.Redis
		build = c.keys
	case "jwt":
		t := c.file.Auth.JWT[table]
		if t == nil {
			return nil // faulted by the loader
		}
		source.table, source.claims = *t, c.claims()
		build = func() (*method, error) { return c.issuer(table, t, source.claims) }
	case "introspection":
		t := c.file.Auth.Introspection[table]
		if t == nil {
			return nil
		}
		source.table, source.claims = *t, c.claims()
		build = func() (*method, error) { return c.authority(table, t, source.claims) }
	default:
		return nil
	}
	if c.last != nil && c.last.methods[name] != nil && reflect.DeepEqual(c.last.methods[name].source, source) {
		return c.last.methods[name]
	}
	m, err := build()
	if err != nil {
		c.fault(key, "%v", err)
		return nil
	}
	m.name, m.source = name, source
	return m
}

// claims is what limits count by, of all claims.
func (c *compiler) claims() (names []string) {
	for _, l := range c.file.Limit {
		for _, part := range l.Key {
			if name, ok := strings.CutPrefix(part, "claim:"); ok {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// keys builds the method of API keys.
func (c *compiler) keys() (*method, error) {
	k := c.file.Auth.Keys
	m := &method{header: strings.ToLower(k.Header), challenge: `ApiKey realm="sluice", header=` + strconv.Quote(k.Header)}
	if k.Store == "redis" {
		return m, c.redisKeys(m)
	}
	file, err := KeyFile(k.File)
	if err != nil {
		return nil, err
	}
	log := c.log
	m.verifier = auth.NewKeys(file)
	reload := func() {
		if err := file.Reload(); err != nil {
			log.Error().Err(err).Msg("API keys kept: the new ones cannot be used")
			return
		}
		log.Info().Int("keys", file.Len()).Msg("API keys read")
	}
	m.refresh = reload
	m.work = func(ctx context.Context) {
		watcher, err := watch.New([]string{k.File})
		if err == nil {
			reload() // it may have changed since it was read
			err = watcher.Run(ctx, settleTime, reload)
		}
		if err != nil {
			log.Error().Err(err).Msg("API keys are not watched any more: reload to pick up new ones")
		}
	}
	m.state = func(time.Time) MethodState { return MethodState{Usable: true, Keys: file.Len()} }
	return m, nil
}

// firstContact is how long a start or reload waits for a store to be reached, or not, for the first time.
const firstContact = time.Second

// redisKeys makes a method of API keys read them in Redis. It connects when it is started.
func (c *compiler) redisKeys(m *method) error {
	k, r := c.file.Auth.Keys, c.file.Redis
	if r == nil {
		return nil // faulted by the loader
	}
	log := c.log
	tried := make(chan struct{}) // closed when the first attempt to connect has ended
	hear := sync.OnceFunc(func() { close(tried) })
	var usable atomic.Bool
	var begun atomic.Pointer[keystore.Redis]
	m.state = func(time.Time) MethodState {
		s := MethodState{Usable: usable.Load()}
		if store := begun.Load(); store != nil {
			s.Keys = store.Len()
		}
		return s
	}
	settings := keystore.RedisConfig{
		URL: r.URL.Reveal(), Prefix: r.Prefix, Timeout: r.Timeout,
		CacheTTL: k.CacheTTL, NegativeTTL: k.NegativeTTL, StaleIfError: k.StaleIfError,
		Report: func(up bool, err error) {
			defer hear()
			usable.Store(up)
			switch {
			case up && err != nil:
				log.Error().Err(err).Msg("an API key's record in Redis cannot be read")
			case up:
				log.Info().Msg("API keys are read in Redis")
			default:
				log.Error().Err(err).Msg("Redis cannot be reached: only API keys seen lately pass")
			}
		},
	}
	if _, err := keystore.Options(settings.URL); err != nil {
		return fmt.Errorf("cannot use redis.url: %w", err)
	}
	m.begin = func(ctx context.Context) {
		store, err := keystore.NewRedis(settings)
		if err != nil {
			log.Error().Err(err).Msg("API keys cannot be read in Redis")
			return
		}
		begun.Store(store)
		m.verifier = auth.NewKeys(store)
		m.end = store.Close
		select {
		case <-tried:
		case <-time.After(firstContact):
		case <-ctx.Done():
		}
	}
	m.verifier = unavailable{}
	return nil
}

// unavailable is a verifier before it can be used.
type unavailable struct{}

// Authenticate fails with auth.ErrUnavailable.
func (unavailable) Authenticate(context.Context, []byte, time.Time) (*auth.Principal, error) {
	return nil, auth.ErrUnavailable
}

// bearer begins a method that reads bearer tokens.
func bearer(header string) *method {
	return &method{header: strings.ToLower(header), bearer: true, challenge: `Bearer realm="sluice"`}
}

// issuer builds the method of an issuer's JWTs.
func (c *compiler) issuer(name string, j *config.JWT, claims []string) (*method, error) {
	settings := auth.IssuerConfig{
		Name: name, Issuer: j.Issuer, Audiences: j.Audiences, Algorithms: j.Algorithms, Leeway: j.Leeway,
		Require: j.Require, Client: j.Client, Tier: j.Tier, Claims: claims, Cache: j.Cache,
	}
	m := bearer(j.Header)
	m.forward = j.ForwardToken
	var set *jwks.Set
	if j.Secret.IsSet() {
		settings.Secret = []byte(j.Secret.Reveal())
	} else {
		var err error
		if set, err = c.keySet(name, j); err != nil {
			return nil, err
		}
		settings.Keys, m.keys = set, set
		if last := c.lastKeys(name, j); last == nil || !set.Adopt(last) {
			m.begin = func(ctx context.Context) { _ = set.Fetch(ctx) } // it is reported, and tried again
		}
		m.work = set.Run
	}
	issuer, err := auth.NewIssuer(settings)
	if err != nil {
		return nil, err
	}
	m.verifier = issuer
	m.state = func(now time.Time) MethodState {
		stats := issuer.Stats()
		s := MethodState{Usable: true, Remembered: stats.Hits, Verified: stats.Verified, Refused: stats.Refused}
		if set != nil {
			keys := set.Status()
			s.Usable, s.Keys, s.LastSuccess = keys.Keys > 0, keys.Keys, keys.LastSuccess
			if keys.LastError != nil {
				s.LastError = keys.LastError.Error()
			}
		}
		return s
	}
	return m, nil
}

// lastKeys is the key set that the last configuration had from the same source.
func (c *compiler) lastKeys(name string, j *config.JWT) *jwks.Set {
	if c.last == nil || c.last.file.Auth.JWT[name] == nil || c.last.file.Auth.JWT[name].JWKS != j.JWKS {
		return nil
	}
	if m := c.last.methods["jwt:"+name]; m != nil {
		return m.keys
	}
	return nil
}

func (c *compiler) keySet(name string, j *config.JWT) (*jwks.Set, error) {
	log := c.log.With().Str("issuer", name).Logger()
	return jwks.New(jwks.Config{
		Source: j.JWKS, Refresh: j.JWKSRefresh, StaleMax: j.JWKSStaleMax,
		Report: func(e jwks.Event) {
			switch {
			case e.Err != nil && e.Keys == 0:
				log.Error().Err(e.Err).Msg("no keys of the issuer: its tokens cannot be verified")
			case e.Err != nil:
				log.Warn().Err(e.Err).Int("keys", e.Keys).Msg("the issuer's keys cannot be fetched: the last ones serve on")
			case e.Changed:
				log.Info().Int("keys", e.Keys).Int("skipped", e.Skipped).Msg("new keys of the issuer")
			}
		},
	})
}

// authority builds the method of opaque tokens that an authority is asked about.
func (c *compiler) authority(name string, i *config.Introspection, claims []string) (*method, error) {
	log := c.log.With().Str("authority", name).Logger()
	asked, err := introspection.New(introspection.Config{
		Name: name, URL: i.URL, ClientID: i.ClientID, ClientSecret: i.ClientSecret.Reveal(),
		CacheTTL: i.CacheTTL, ClaimNames: claims,
		Report: func(e introspection.Event) {
			if e.Err != nil {
				log.Warn().Err(e.Err).Bool("down", e.Down).Msg("the authority did not answer about a token")
			}
		},
	})
	if err != nil {
		return nil, err
	}
	m := bearer("Authorization")
	m.verifier, m.end = asked, asked.Close
	m.state = func(now time.Time) MethodState { return MethodState{Usable: !asked.Down(now)} }
	return m, nil
}

// carriers groups a route's methods by the header that they read.
func (c *compiler) carriers(names []string) (all []carrier) {
	for _, name := range names {
		m := c.snap.methods[name]
		if m == nil {
			continue
		}
		i := slices.IndexFunc(all, func(k carrier) bool { return k.header == m.header })
		if i < 0 {
			i = len(all)
			all = append(all, carrier{header: m.header})
		}
		all[i].methods = append(all[i].methods, m)
		all[i].forward = all[i].forward || m.forward
	}
	return all
}

// KeyFile opens the file store of API keys. A missing file is an empty store.
func KeyFile(path string) (*keystore.File, error) {
	return keystore.NewFile(keystore.FileConfig{
		Path: path,
		Decode: func(data []byte) ([]auth.KeyRecord, error) {
			entries, err := config.ParseKeys(path, data)
			if err != nil {
				return nil, err
			}
			return keyRecords(entries)
		},
		Encode: func(records []auth.KeyRecord) ([]byte, error) { return config.FormatKeys(keyEntries(records)), nil },
	})
}

func keyRecords(entries []config.KeyEntry) ([]auth.KeyRecord, error) {
	records := make([]auth.KeyRecord, len(entries))
	for i, e := range entries {
		scopes, err := auth.NewScopes(e.Scopes)
		if err != nil {
			return nil, fmt.Errorf("cannot read key %q: %w", e.ID, err)
		}
		records[i] = auth.KeyRecord{
			ID: e.ID, Digest: e.Hash, Client: e.Client, Tier: e.Tier, Scopes: scopes, Rate: auth.Rate(e.Rate),
			Created: e.Created, Expires: e.Expires, Disabled: e.Disabled,
		}
		if records[i].ID == "" {
			records[i].ID = records[i].Digest.KeyID()
		}
	}
	return records, nil
}

func keyEntries(records []auth.KeyRecord) []config.KeyEntry {
	entries := make([]config.KeyEntry, len(records))
	for i, r := range records {
		entries[i] = config.KeyEntry{
			ID: r.ID, Hash: r.Digest, Client: r.Client, Tier: r.Tier, Scopes: r.Scopes.List(), Rate: config.Rate(r.Rate),
			Created: r.Created, Expires: r.Expires, Disabled: r.Disabled,
		}
	}
	return entries
}
