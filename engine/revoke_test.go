package engine

import (
	"errors"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/config"
)

// An entry that would revoke nothing is refused, or made one that does what was meant.
func TestCompleteEntry(t *testing.T) {
	file, _ := config.Parse("gateway.toml", []byte(`
[auth.jwt.main]
issuer = "https://auth.example.com/"
[auth.jwt.plain]
issuer = "corp"
[auth.jwt.both]
issuer = "https://both.example.com/"
[auth.introspection.both]
[auth.introspection.partner]
`), config.Environment{})
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	const key = "key_0123456789abcdef"
	for _, row := range []struct {
		intent     string
		kind       revocation.Kind
		id, issuer string
		expires    time.Time
		want       string // issuer; "!": refused
		life       time.Duration
	}{
		{"a token", revocation.Token, "a", "", time.Time{}, "", 90 * 24 * time.Hour},
		{"a subject", revocation.Subject, "a", "", time.Time{}, "", 90 * 24 * time.Hour},
		{"a client", revocation.Client, "a", "", time.Time{}, "", revocation.MaxLife},
		{"a key", revocation.Key, key, "", time.Time{}, "", revocation.MaxLife},
		{"an end of its own", revocation.Token, "a", "", now.Add(time.Hour), "", time.Hour},
		{"an end in the past", revocation.Token, "a", "", now, "!", 0},
		{"an end too far", revocation.Client, "a", "", now.Add(revocation.MaxLife + 1), "!", 0},
		{"the name of a table", revocation.Token, "a", "main", time.Time{}, "jwt:main", 90 * 24 * time.Hour},
		{"one of the other kind", revocation.Token, "a", "partner", time.Time{}, "introspection:partner", 90 * 24 * time.Hour},
		{"one of both kinds", revocation.Token, "a", "both", time.Time{}, "!", 0},
		{"the same, told apart", revocation.Token, "a", "introspection:both", time.Time{}, "introspection:both", 90 * 24 * time.Hour},
		{"a method", revocation.Token, "a", "jwt:main", time.Time{}, "jwt:main", 90 * 24 * time.Hour},
		{"an iss", revocation.Token, "a", "https://auth.example.com/", time.Time{}, "https://auth.example.com/", 90 * 24 * time.Hour},
		{"an iss without dots", revocation.Token, "a", "corp", time.Time{}, "corp", 90 * 24 * time.Hour},
		{"an iss that authorities tell", revocation.Token, "a", "https://elsewhere.example/", time.Time{}, "https://elsewhere.example/", 90 * 24 * time.Hour},
		{"a misspelt table", revocation.Token, "a", "mian", time.Time{}, "!", 0},
		{"a misspelt method", revocation.Token, "a", "jwt:mian", time.Time{}, "!", 0},
		{"an issuer of a client", revocation.Client, "a", "main", time.Time{}, "!", 0},
		{"a key instead of its id", revocation.Key, "slk_secret", "", time.Time{}, "!", 0},
		{"an id too short", revocation.Key, key[:19], "", time.Time{}, "!", 0},
		{"an id in upper case", revocation.Key, "key_0123456789ABCDEF", "", time.Time{}, "!", 0},
	} {
		e, err := completeEntry(file, revocation.Entry{Kind: row.kind, ID: row.id, Issuer: row.issuer, Expires: row.expires}, now)
		switch {
		case row.want == "!":
			if !errors.Is(err, revocation.ErrInvalid) {
				t.Errorf("%s: %+v, %v", row.intent, e, err)
			}
		case err != nil || e.Issuer != row.want || !e.Expires.Equal(now.Add(row.life)) || !e.Created.Equal(now):
			t.Errorf("%s: %+v, %v", row.intent, e, err)
		}
	}
}
