package config

import "time"

// Auth is [auth]: the ways a client can prove who it is, each used by the routes that name it.
type Auth struct {
	Keys          Keys                      `toml:"keys" doc:"API keys: auth = [\"keys\"]"`
	JWT           map[string]*JWT           `toml:"jwt" kind:"name" doc:"JWTs by issuer: auth = [\"jwt:NAME\"]"`
	Introspection map[string]*Introspection `toml:"introspection" kind:"name" doc:"opaque OAuth 2.0 tokens (RFC 7662): auth = [\"introspection:NAME\"]"`
	Revocation    Revocation                `toml:"revocation" doc:"tokens and keys refused before they expire"`
	Identity      Identity                  `toml:"identity" doc:"headers that tell upstreams who the client is; always removed from what clients send"`
}

// Keys is [auth.keys]: API keys, of which the gateway holds only hashes.
type Keys struct {
	Header       string        `toml:"header" kind:"header" required:"true" doc:"header that carries the key"`
	Store        string        `toml:"store" enum:"file|redis" doc:"where the key records are"`
	File         string        `toml:"file" kind:"path" doc:"the records when store = \"file\", written by sluice keys"`
	CacheTTL     time.Duration `toml:"cache_ttl" doc:"longest a cached key is used without hearing from the store"`
	NegativeTTL  time.Duration `toml:"negative_ttl" doc:"how long an unknown key is remembered as unknown"`
	StaleIfError time.Duration `toml:"stale_if_error" doc:"while the store is unreachable, keys seen this recently still work; others get 503"`
}

// JWT is [auth.jwt.NAME]: the tokens of one issuer.
type JWT struct {
	Issuer       string        `toml:"issuer" required:"true" doc:"what iss must be, exactly"`
	Audiences    []string      `toml:"audiences" required:"true" doc:"aud must hold one of these"`
	JWKS         string        `toml:"jwks" kind:"url-or-path" doc:"URL or file of the issuer's public keys; not used by HS*"`
	Algorithms   []string      `toml:"algorithms" enum:"RS256|RS384|RS512|PS256|PS384|PS512|ES256|ES384|ES512|EdDSA|HS256|HS384|HS512" required:"true" doc:"the only ones accepted; HS* needs secret"`
	Secret       Secret        `toml:"secret" doc:"shared key for HS*"`
	Header       string        `toml:"header" kind:"header" required:"true" doc:"header that carries the token, after the word Bearer"`
	Leeway       time.Duration `toml:"leeway" doc:"clock skew allowed for exp, nbf and iat"`
	Require      []string      `toml:"require" doc:"claims that must be present"`
	Client       string        `toml:"client" required:"true" doc:"claim that names the client"`
	Tier         string        `toml:"tier" doc:"claim that names the client's tier; empty: none"`
	JWKSRefresh  time.Duration `toml:"jwks_refresh" min:"1s" doc:"how often the keys are fetched again"`
	JWKSStaleMax time.Duration `toml:"jwks_stale_max" doc:"how long the last good keys are kept while the issuer is down"`
	Cache        int           `toml:"cache" min:"0" doc:"verified tokens remembered until they expire; 0: verify every time"`
	ForwardToken bool          `toml:"forward_token" doc:"send the token on to the upstream"`
}

// Introspection is [auth.introspection.NAME]: opaque tokens that their issuer is asked about.
type Introspection struct {
	URL          string        `toml:"url" kind:"url" required:"true" doc:"the issuer's introspection endpoint"`
	ClientID     string        `toml:"client_id" required:"true" doc:"what the gateway calls itself there"`
	ClientSecret Secret        `toml:"client_secret" required:"true" doc:"its password there"`
	CacheTTL     time.Duration `toml:"cache_ttl" doc:"how long an answer is reused; 0s: ask for every request"`
}

// Revocation is [auth.revocation]: where the list of revoked tokens and keys is kept.
type Revocation struct {
	Store string `toml:"store" enum:"memory|redis" doc:"memory is spread through [cluster] where there is one"`
	File  string `toml:"file" kind:"path" doc:"where store = \"memory\" survives a restart; empty: it does not"`
}

// Identity is [auth.identity]: the headers that upstreams trust, and that no client can send through.
type Identity struct {
	User   string `toml:"user" kind:"own-header" doc:"header for the client's name; empty: not sent"`
	Scopes string `toml:"scopes" kind:"own-header" doc:"header for its scopes, separated by spaces; empty: not sent"`
	Tier   string `toml:"tier" kind:"own-header" doc:"header for its tier; empty: not sent"`
}
