// Package auth says who a request is from: it verifies API keys and tokens, and hands out principals.
//
// It is a library of its own: it reads no request and writes no response. A credential comes in as bytes
// with the current time, and a Principal or one of the errors below comes out. The ways of proving oneself
// are separate types (Keys, Issuer), since each has its own state; what they share is the contract of
// their method Authenticate:
//
//   - a *Principal is immutable, shared by all requests that show the same credential, and never
//     contains the credential itself;
//   - ErrInvalid covers every credential that must not pass, whatever the reason. The reason is for logs:
//     the client learns no more than that, or it could probe;
//   - ErrUnavailable means that nobody can tell at present. It is never an answer about the credential;
//   - there is no error for a missing credential: the caller knows that without asking.
//
// Revocations are asked after authentication, on every request, because verified credentials are cached.
package auth

import (
	"errors"
	"time"
)

var (
	// ErrInvalid is what a credential that does not verify fails with, wrapped with the reason.
	ErrInvalid = errors.New("auth: invalid credential")
	// ErrUnavailable is what a credential fails with that could not be judged: the store or the issuer
	// it depends on cannot be reached, and nothing recent enough is known.
	ErrUnavailable = errors.New("auth: cannot verify credentials at present")
)

// Principal is whom a credential stands for. It is immutable and safe for concurrent use.
type Principal struct {
	Method     string // how it was proven: "keys", "jwt:NAME", "introspection:NAME"
	Client     string // who is metered and shown in logs; never empty
	User       string // whom upstreams are told of; an API key's is its client
	Tier       string // of the client; may be empty
	Scopes     Scopes
	Rate       Rate              // the credential's own rate, which wins over limits' rates; zero: none
	Credential string            // names the credential: a key's id, a token's jti; may be empty
	Issuer     string            // a token's iss; empty for keys
	Subject    string            // a token's sub; empty for keys
	IssuedAt   time.Time         // zero: unknown
	Expires    time.Time         // zero: never
	Claims     map[string]string // the claims that were asked for, as text
}

// Expired says whether the principal's credential is past its end.
func (p *Principal) Expired(now time.Time) bool {
	return !p.Expires.IsZero() && !now.Before(p.Expires)
}

// Rate is N requests in every Per.
type Rate struct {
	N   int64
	Per time.Duration
}
