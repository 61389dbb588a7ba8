// Package revocation holds the credentials that are refused before they expire, and keeps them.
//
// A List answers, on every request, whether a principal's credential is revoked. A Store keeps what a
// List holds: Memory forgets it at the end of the process, File writes it to a log that survives, Redis
// shares it with other gateways. An entry is a fact that nobody takes back: it is added, and forgotten at
// its end. So lists that were told the same entries, in any order and any number of times, answer alike.
package revocation

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
	"unicode/utf8"
)

const (
	// MaxLife is how far from now an entry's end may be.
	MaxLife = 3660 * 24 * time.Hour
	// MaxID and MaxIssuer are the longest names in bytes. A credential with a longer one cannot be revoked by it.
	MaxID     = 512
	MaxIssuer = 256
)

var (
	// ErrInvalid is what a malformed entry is refused with, wrapped with the reason.
	ErrInvalid = errors.New("revocation: invalid entry")
	// ErrFull is what an entry is refused with that there is no room for. It is not in force.
	ErrFull = errors.New("revocation: the list is full")
	// ErrClosed is what a Store refuses everything with once it is closed.
	ErrClosed = errors.New("revocation: the store is closed")
)

// Kind is what a revocation names.
type Kind uint8

const (
	Token   Kind = 1 + iota // a token's jti (Principal.Credential, unless the method is "keys")
	Subject                 // a token's sub (Principal.Subject)
	Client                  // a client (Principal.Client)
	Key                     // an API key's id (Principal.Credential, if the method is "keys")

	kinds = 4
)

// String is the word that ParseKind reads: "token", "subject", "client" or "key".
func (k Kind) String() string {
	switch k {
	case Token:
		return "token"
	case Subject:
		return "subject"
	case Client:
		return "client"
	case Key:
		return "key"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// ParseKind reads what String writes. It fails with ErrInvalid.
func ParseKind(text string) (Kind, error) {
	for k := Token; k <= kinds; k++ {
		if k.String() == text {
			return k, nil
		}
	}
	return 0, fmt.Errorf("%w: unknown kind %.20q", ErrInvalid, text)
}

// Entry revokes the credentials that it names, from when it is added until it expires. Times are kept to
// the nanosecond.
type Entry struct {
	Kind Kind
	ID   string // up to MaxID bytes of UTF-8

	// Issuer restricts a Token or Subject to principals with this Method ("jwt:main") or this Issuer (the
	// token's iss), since only within one is a jti or sub sure to be unique. Empty: any.
	Issuer string

	// Before spares credentials issued at this time or later. Zero: all are revoked. A credential of which
	// it is not known when it was issued is never spared.
	Before time.Time

	Expires time.Time // when the entry may be forgotten, since what it revokes has expired by itself
	Created time.Time // for people; zero: unknown
}

// Check tells whether an entry may be added: ErrInvalid if it is malformed, or ended before now, or ends
// later than MaxLife from now.
func (e Entry) Check(now time.Time) error {
	f, err := e.fact()
	switch {
	case err != nil:
		return err
	case f.expires <= now.UnixNano():
		return fmt.Errorf("%w: it ended on %s already", ErrInvalid, e.Expires.UTC().Format(time.RFC3339))
	case f.expires > now.Add(MaxLife).UnixNano():
		return fmt.Errorf("%w: it ends in more than %d days", ErrInvalid, int(MaxLife.Hours()/24))
	}
	return nil
}

// Store keeps the entries of a List. It is safe for concurrent use.
type Store interface {
	// Add keeps an entry and puts it in force, on the List, before it returns nil. Adding what the List
	// has already costs little. It fails with ErrInvalid, ErrFull, ErrClosed, or because the entry cannot be
	// kept: then it is not in force, unless another way brings it.
	Add(ctx context.Context, e Entry, now time.Time) error
	// Run does what has to be done in the background, until ctx ends: it puts in force what others added and
	// forgets what has ended. It is called once.
	Run(ctx context.Context)
	// Close gives up what the store holds. Run must have returned.
	Close() error
}

const (
	everything = math.MaxInt64 // the limit of a fact that spares nothing
	endOfTime  = 7258118400    // 2200-01-01 in Unix seconds; nanoseconds overflow 62 years later
)

// fact is an Entry in numbers. Times are Unix nanoseconds.
type fact struct {
	kind       Kind
	id, issuer string
	before     int64 // everything: of any age
	expires    int64
	created    int64 // 0: unknown
}

func (e Entry) fact() (fact, error) {
	f := fact{kind: e.Kind, id: e.ID, issuer: e.Issuer, before: everything}
	switch {
	case e.Kind < Token || e.Kind > kinds:
		return f, fmt.Errorf("%w: there is no %v", ErrInvalid, e.Kind)
	case e.ID == "" || len(e.ID) > MaxID || !utf8.ValidString(e.ID):
		return f, fmt.Errorf("%w: the id must be 1 to %d bytes of UTF-8", ErrInvalid, MaxID)
	case len(e.Issuer) > MaxIssuer || !utf8.ValidString(e.Issuer):
		return f, fmt.Errorf("%w: the issuer must be at most %d bytes of UTF-8", ErrInvalid, MaxIssuer)
	case e.Issuer != "" && e.Kind != Token && e.Kind != Subject:
		return f, fmt.Errorf("%w: a %v has no issuer", ErrInvalid, e.Kind)
	case !countable(e.Expires):
		return f, fmt.Errorf("%w: it needs an end, between 1970 and 2200", ErrInvalid)
	case !e.Before.IsZero() && !countable(e.Before):
		return f, fmt.Errorf("%w: the time that it reaches back from must be between 1970 and 2200", ErrInvalid)
	}
	f.expires = e.Expires.UnixNano()
	if !e.Before.IsZero() {
		f.before = e.Before.UnixNano()
	}
	if countable(e.Created) {
		f.created = e.Created.UnixNano()
	}
	return f, nil
}

// countable tells whether a time is positive in Unix nanoseconds.
func countable(t time.Time) bool {
	return t.Unix() >= 0 && t.Unix() < endOfTime && t.UnixNano() > 0
}

func (f fact) entry() Entry {
	e := Entry{Kind: f.kind, ID: f.id, Issuer: f.issuer, Expires: time.Unix(0, f.expires).UTC()}
	if f.before != everything {
		e.Before = time.Unix(0, f.before).UTC()
	}
	if f.created != 0 {
		e.Created = time.Unix(0, f.created).UTC()
	}
	return e
}
