package e2e

import (
	"encoding/base64"
	"strings"
	"testing"
)

// Credentials come in one field each, in one form; whoever shows more than one must be the same by all.
func TestCredentialAttacks(t *testing.T) {
	t.Parallel()
	l := startLock(t)
	good := l.elliptic.token(nil)
	other := l.elliptic.token(claims{"sub": "bob"})
	key := "X-API-Key: " + goodKey
	missing := func(intent, path string, challenges []string, lines ...string) attack {
		return attack{intent, path, lines, 401, "credentials_missing", challenges}
	}
	bad := func(intent, path string, challenges []string, lines ...string) attack {
		return attack{intent, path, lines, 401, "credentials_invalid", challenges}
	}
	fine := func(intent, path string, lines ...string) attack {
		return attack{intent: intent, path: path, lines: lines, status: 200}
	}
	token, keys, both := []string{bearerChallenge}, []string{keyChallenge}, []string{bearerChallenge, keyChallenge}
	badToken, badBoth := []string{bearerInvalid}, []string{bearerInvalid, keyChallenge}
	basic := "Authorization: Basic " + base64.StdEncoding.EncodeToString([]byte("alice:"+goodKey))

	t.Run("missing", func(t *testing.T) {
		l.judge(t, []attack{
			missing("no token", "/token/x", token),
			missing("no key", "/key/x", keys),
			missing("neither", "/both/x", both),
			missing("a key where a token is needed", "/token/x", token, key),
			missing("a token where a key is needed", "/key/x", keys, bearer(good)),
			missing("a token in the query", "/token/x?access_token="+good, token),
			missing("a key in the query", "/key/x?api_key="+goodKey+"&X-API-Key="+goodKey, keys),
			missing("a key in a cookie", "/key/x", keys, "Cookie: X-API-Key="+goodKey),
			missing("a key with underscores", "/key/x", keys, "X_API_Key: "+goodKey),
			missing("a token for a proxy", "/token/x", token, "Proxy-Authorization: Bearer "+good),
		})
	})
	t.Run("fields", func(t *testing.T) {
		l.judge(t, []attack{
			fine("scheme in lower case", "/token/x", "Authorization: bearer "+good),
			fine("scheme in upper case", "/token/x", "AUTHORIZATION: BEARER "+good),
			fine("spaces around", "/token/x", "Authorization:   Bearer  "+good+"  "),
			fine("a tab in front", "/token/x", "Authorization:\tBearer "+good),
			bad("a tab between", "/token/x", badToken, "Authorization: Bearer\t"+good),
			bad("no space", "/token/x", badToken, "Authorization: Bearer"+good),
			bad("no scheme", "/token/x", badToken, "Authorization: "+good),
			bad("a scheme only", "/token/x", badToken, "Authorization: Bearer"),
			bad("nothing", "/token/x", badToken, "Authorization:"),
			bad("another scheme", "/token/x", badToken, "Authorization: Token "+good),
			bad("Basic", "/token/x", badToken, basic),
			bad("a scheme twice", "/token/x", badToken, "Authorization: Bearer Bearer "+good),
			bad("a space within", "/token/x", badToken, "Authorization: Bearer "+good[:20]+" "+good[20:]),
			bad("a comma list", "/token/x", badToken, bearer(good+", Bearer "+good)),
			bad("a parameter", "/token/x", badToken, bearer(good+`, realm="x"`)),
			bad("the same twice", "/token/x", badToken, bearer(good), bearer(good)),
			bad("two that disagree", "/token/x", badToken, bearer(good), bearer(other)),
			bad("Basic and Bearer", "/token/x", badToken, basic, bearer(good)),
			bad("a second one, empty", "/token/x", badToken, bearer(good), "Authorization:"),
			{"a space before the colon", "/token/x", []string{"Authorization : Bearer " + good}, 400, "bad_request", nil},
			{"a folded line", "/token/x", []string{"Authorization: Bearer", " " + good}, 400, "bad_request", nil},
		})
	})
	t.Run("keys", func(t *testing.T) {
		l.judge(t, []attack{
			fine("a good one", "/key/x", key),
			fine("in lower case", "/key/x", "x-api-key:"+goodKey),
			fine("one that has an end", "/key/x", "X-API-Key: key-of-bob"),
			bad("unknown", "/key/x", keys, "X-API-Key: nobody's"),
			bad("nearly known", "/key/x", keys, key+"0"),
			bad("in capitals", "/key/x", keys, "X-API-Key: "+strings.ToUpper(goodKey)),
			bad("its hash", "/key/x", keys, "X-API-Key: "+hashOf(goodKey)),
			bad("its id", "/key/x", keys, "X-API-Key: "+idOf(goodKey)),
			bad("disabled", "/key/x", keys, "X-API-Key: key-disabled"),
			bad("expired", "/key/x", keys, "X-API-Key: key-expired"),
			bad("empty", "/key/x", keys, "X-API-Key:"),
			bad("twice", "/key/x", keys, key, key),
			bad("a good and a bad one", "/key/x", keys, key, "X-API-Key: x"),
			bad("a list", "/key/x", keys, key+", "+goodKey),
			bad("a space within", "/key/x", keys, "X-API-Key: "+goodKey[:4]+" "+goodKey[4:]),
			bad("too long", "/key/x", keys, "X-API-Key: "+strings.Repeat("k", 513)),
			bad("not ASCII", "/key/x", keys, "X-API-Key: schl\u00fcssel"),
		})
	})
	t.Run("two", func(t *testing.T) {
		l.judge(t, []attack{
			fine("a token", "/both/x", bearer(good)),
			fine("a key", "/both/x", key),
			fine("both, of one client", "/both/x", bearer(good), key),
			bad("that disagree", "/both/x", badBoth, bearer(other), key),
			bad("a good key, a bad token", "/both/x", badBoth, bearer("x"), key),
			bad("a good key, no bearer token", "/both/x", badBoth, basic, key),
			bad("a good token, a bad key", "/both/x", nil, bearer(good), "X-API-Key: x"),
			bad("a bad key", "/both/x", both, "X-API-Key: x"),
		})
	})
	t.Run("scopes", func(t *testing.T) { l.judge(t, scopeAttacks(l, good, key)) })
}

// scopeAttacks are from clients who are known, and may not do what they ask for.
func scopeAttacks(l *lock, good, key string) (all []attack) {
	needs := func(scope string) []string {
		return []string{bearerChallenge + `, error="insufficient_scope", scope="` + scope + `"`}
	}
	all = []attack{
		{intent: "a token that has it", path: "/read/x", lines: []string{bearer(good)}, status: 200},
		{intent: "a key that has it", path: "/read/x", lines: []string{key}, status: 200},
		{"a token that has one of two", "/scoped/x", []string{bearer(good)}, 403, "insufficient_scope", needs("admin read")},
		{"a key that has one of two", "/scoped/x", []string{key}, 403, "insufficient_scope",
			[]string{keyChallenge + `, error="insufficient_scope", scope="admin read"`}},
		{"a key without any", "/read/x", []string{"X-API-Key: key-of-bob"}, 403, "insufficient_scope",
			[]string{keyChallenge + `, error="insufficient_scope", scope="read"`}},
		{intent: "scp", path: "/read/x", lines: []string{bearer(l.elliptic.token(claims{"scope": nil, "scp": []string{"read"}}))}, status: 200},
	}
	for intent, scope := range map[string]any{
		"none": nil, "an empty scope": "", "a list for scope": []string{"read"}, "a number": 1, "true": true, "an object": map[string]any{"read": true},
		"a longer one": "reader", "another case": "READ", "commas": "read,admin", "a tab": "read\tadmin", "a star": "*", "quotes": `"read"`,
		"too many": strings.Repeat("x ", 300) + "read",
	} {
		all = append(all, attack{"scope: " + intent, "/read/x", []string{bearer(l.elliptic.token(claims{"scope": scope}))}, 403,
			"insufficient_scope", needs("read")})
	}
	return all
}
