package engine

import (
	"testing"

	"github.com/sluice-gateway/sluice/auth"
)

// Two issuers may share a header of which only one wants its tokens forwarded: what the other accepted stays here.
func TestCarrierForwardsForTheMethodThatAccepted(t *testing.T) {
	t.Parallel()
	r := &route{carriers: []carrier{
		{header: "authorization", forward: true, methods: []*method{{name: "jwt:a", forward: true}, {name: "introspection:b"}}},
		{header: "x-api-key", methods: []*method{{name: "keys"}}},
	}}
	for _, c := range []struct {
		intent, method, header string
		stays                  bool
	}{
		{"who wants it", "jwt:a", "Authorization", false},
		{"who does not", "introspection:b", "Authorization", true},
		{"accepted by another field", "keys", "Authorization", false},
		{"nobody wants it", "keys", "X-API-Key", true},
		{"nobody wants it, whoever is there", "jwt:a", "x-api-key", true},
		{"another field", "jwt:a", "Cookie", false},
	} {
		if got := r.carriesCredential([]byte(c.header), &auth.Principal{Method: c.method}); got != c.stays {
			t.Errorf("%s: %s stays: %v", c.intent, c.header, got)
		}
	}
	if r.carriesCredential([]byte("Authorization"), nil) || !r.carriesCredential([]byte("X-API-Key"), nil) {
		t.Error("without a principal, it is not the route that decides")
	}
}
