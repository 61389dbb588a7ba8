package main

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	demoAudience  = "demo-api"
	demoKid       = "demo-1"
	demoTokenTime = 10 * time.Minute
	demoCodeTime  = time.Minute
	demoFormBytes = 16 << 10
	demoMost      = 1000 // codes, and opaque tokens, that are kept at once

	demoRobot   = "robot"   // a program with a secret, which gets JWTs
	demoPartner = "partner" // the same, but it gets opaque tokens
	demoWebApp  = "webapp"  // cannot keep a secret, and acts for users
	demoGateway = "gateway" // may ask about opaque tokens
)

// demoIssuer is an authorization server: as much of OAuth 2.0 (RFC 6749, 7636, 7662, 9068) as it takes to get a
// token in each of the usual ways. It is for the loopback only; what it signs with and its clients' secrets are
// as old as the process. It is safe for concurrent use.
type demoIssuer struct {
	url                     string
	key                     *rsa.PrivateKey
	robot, partner, gateway string // their secrets

	mu     sync.Mutex
	codes  map[string]demoGrant
	opaque map[string]demoGrant // tokens
}

// demoGrant is what a token will say, and a code's token.
type demoGrant struct {
	subject, client, tier string
	scopes                []string
	expires               time.Time
	challenge, redirect   string // of a code
}

func newDemoIssuer() (*demoIssuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("cannot make the issuer's key: %w", err)
	}
	return &demoIssuer{
		key: key, robot: randomText(), partner: randomText(), gateway: randomText(),
		codes: map[string]demoGrant{}, opaque: map[string]demoGrant{},
	}, nil
}

// randomText is 256 random bits that fit into a URL.
func randomText() string {
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// handler serves the issuer at an address. A request with another Host comes from a page that has tricked a
// browser into taking its own name for this address.
func (i *demoIssuer) handler(address string) http.Handler {
	i.url = "http://" + address
	mux := http.NewServeMux()
	mux.HandleFunc("GET /.well-known/openid-configuration", i.discover)
	mux.HandleFunc("GET /jwks.json", i.publish)
	mux.HandleFunc("POST /token", i.token)
	mux.HandleFunc("POST /introspect", i.introspect)
	mux.HandleFunc("GET /authorize", i.login)
	mux.HandleFunc("POST /authorize", i.authorize)
	mux.HandleFunc("GET /callback", i.callback)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Host != address {
			http.Error(w, "this is "+address, http.StatusMisdirectedRequest)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, demoFormBytes)
		mux.ServeHTTP(w, r)
	})
}

// discover tells clients where everything is (OpenID Connect Discovery 1.0, RFC 8414).
func (i *demoIssuer) discover(w http.ResponseWriter, _ *http.Request) {
	answerJSON(w, http.StatusOK, map[string]any{
		"issuer": i.url, "jwks_uri": i.url + "/jwks.json", "token_endpoint": i.url + "/token",
		"authorization_endpoint": i.url + "/authorize", "introspection_endpoint": i.url + "/introspect",
		"response_types_supported": []string{"code"}, "grant_types_supported": []string{"authorization_code", "client_credentials"},
		"code_challenge_methods_supported":               []string{"S256"},
		"token_endpoint_auth_methods_supported":          []string{"client_secret_basic", "none"},
		"authorization_response_iss_parameter_supported": true,
		"scopes_supported":                               []string{"read:orders", "write:orders"},
	})
}

// publish is the key set that tokens are verified with (RFC 7517).
func (i *demoIssuer) publish(w http.ResponseWriter, _ *http.Request) {
	exponent := binary.BigEndian.AppendUint32(nil, uint32(i.key.E))
	answerJSON(w, http.StatusOK, map[string]any{"keys": []map[string]string{{
		"kty": "RSA", "use": "sig", "alg": "RS256", "kid": demoKid,
		"n": base64.RawURLEncoding.EncodeToString(i.key.N.Bytes()), "e": base64.RawURLEncoding.EncodeToString(exponent[1:]),
	}}})
}

// token is the token endpoint.
func (i *demoIssuer) token(w http.ResponseWriter, r *http.Request) {
	switch r.PostFormValue("grant_type") {
	case "client_credentials":
		i.grantClient(w, r)
	case "authorization_code":
		i.grantCode(w, r)
	default:
		refuseToken(w, http.StatusBadRequest, "unsupported_grant_type")
	}
}

// grantClient gives a client a token of its own (RFC 6749 section 4.4).
func (i *demoIssuer) grantClient(w http.ResponseWriter, r *http.Request) {
	client := ""
	for name, secret := range map[string]string{demoRobot: i.robot, demoPartner: i.partner} {
		if hasPassword(r, name, secret) {
			client = name
		}
	}
	if client == "" {
		w.Header().Set("WWW-Authenticate", `Basic realm="demo issuer"`)
		refuseToken(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	scopes, ok := chooseScopes(r.PostFormValue("scope"), []string{"read:orders"})
	if !ok {
		refuseToken(w, http.StatusBadRequest, "invalid_scope")
		return
	}
	g := demoGrant{subject: client, client: client, scopes: scopes, expires: time.Now().Add(demoTokenTime)}
	if client == demoRobot {
		i.giveToken(w, g, i.sign(g))
		return
	}
	token, ok := i.keep(i.opaque, g)
	if !ok {
		refuseToken(w, http.StatusServiceUnavailable, "temporarily_unavailable")
		return
	}
	i.giveToken(w, g, token)
}

func hasPassword(r *http.Request, name, password string) bool {
	user, word, ok := r.BasicAuth()
	return ok && user == name && subtle.ConstantTimeCompare([]byte(word), []byte(password)) == 1
}

// chooseScopes takes those that are asked for, if all are allowed; all that are if none is.
func chooseScopes(asked string, allowed []string) ([]string, bool) {
	scopes := strings.Fields(asked)
	if len(scopes) == 0 {
		return allowed, true
	}
	for _, s := range scopes {
		if !slices.Contains(allowed, s) {
			return nil, false
		}
	}
	return scopes, true
}

func (i *demoIssuer) giveToken(w http.ResponseWriter, g demoGrant, token string) {
	answerJSON(w, http.StatusOK, map[string]any{
		"access_token": token, "token_type": "Bearer", "expires_in": int(demoTokenTime.Seconds()), "scope": strings.Join(g.scopes, " "),
	})
}

// sign makes an access token (RFC 9068) and signs it with RS256 (RFC 7518 section 3.3).
func (i *demoIssuer) sign(g demoGrant) string {
	part := func(v any) string {
		text, err := json.Marshal(v)
		if err != nil {
			panic("BUG: strings and numbers that are no JSON: " + err.Error())
		}
		return base64.RawURLEncoding.EncodeToString(text)
	}
	claims := i.claims(g)
	claims["aud"], claims["jti"] = demoAudience, randomText()
	signed := part(map[string]string{"alg": "RS256", "typ": "at+jwt", "kid": demoKid}) + "." + part(claims)
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		panic("BUG: a sound key does not sign: " + err.Error())
	}
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// claims is what JWTs and answers about opaque tokens have in common.
func (i *demoIssuer) claims(g demoGrant) map[string]any {
	claims := map[string]any{
		"iss": i.url, "sub": g.subject, "client_id": g.client, "scope": strings.Join(g.scopes, " "),
		"iat": g.expires.Add(-demoTokenTime).Unix(), "exp": g.expires.Unix(),
	}
	if g.tier != "" {
		claims["tier"] = g.tier
	}
	return claims
}

// introspect tells the gateway about an opaque token (RFC 7662).
func (i *demoIssuer) introspect(w http.ResponseWriter, r *http.Request) {
	if !hasPassword(r, demoGateway, i.gateway) {
		w.Header().Set("WWW-Authenticate", `Basic realm="demo issuer"`)
		refuseToken(w, http.StatusUnauthorized, "invalid_client")
		return
	}
	i.mu.Lock()
	g, found := i.opaque[r.PostFormValue("token")]
	i.mu.Unlock()
	if !found || !time.Now().Before(g.expires) {
		answerJSON(w, http.StatusOK, map[string]any{"active": false})
		return
	}
	claims := i.claims(g)
	claims["active"] = true
	answerJSON(w, http.StatusOK, claims)
}

// keep stores a grant under a new name, if there is room.
func (i *demoIssuer) keep(grants map[string]demoGrant, g demoGrant) (name string, ok bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	now := time.Now()
	for name, old := range grants {
		if !now.Before(old.expires) {
			delete(grants, name)
		}
	}
	if len(grants) >= demoMost {
		return "", false
	}
	name = randomText()
	grants[name] = g
	return name, true
}

// refuseToken answers as RFC 6749 section 5.2 has it.
func refuseToken(w http.ResponseWriter, status int, reason string) {
	answerJSON(w, status, map[string]any{"error": reason})
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
