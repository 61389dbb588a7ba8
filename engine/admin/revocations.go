package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine"
)

const (
	maxRevocation   = 8 << 10 // bytes of a body
	shownRevocation = 1000    // entries of an answer
)

// Revocation is a revocation.Entry as JSON: one of the first four names what is revoked. Times are RFC 3339.
type Revocation struct {
	JTI    string `json:"jti,omitempty"`
	Sub    string `json:"sub,omitempty"`
	Client string `json:"client,omitempty"`
	Key    string `json:"key,omitempty"` // a key's id, never the key

	Issuer  string    `json:"issuer,omitempty"` // of a jti or sub: the NAME of its table, jwt:NAME, or the iss
	Before  time.Time `json:"before,omitzero"`
	Expires time.Time `json:"expires,omitzero"`
	Created time.Time `json:"created,omitzero"` // nobody sends it
}

// NewRevocation writes an entry as JSON has it.
func NewRevocation(e revocation.Entry) Revocation {
	r := Revocation{Issuer: e.Issuer, Before: e.Before, Expires: e.Expires, Created: e.Created}
	if name := r.name(e.Kind); name != nil {
		*name = e.ID
	}
	return r
}

// name is where the id of a kind is; nil: there is no such kind.
func (r *Revocation) name(kind revocation.Kind) *string {
	switch kind {
	case revocation.Token:
		return &r.JTI
	case revocation.Subject:
		return &r.Sub
	case revocation.Client:
		return &r.Client
	case revocation.Key:
		return &r.Key
	}
	return nil
}

// Entry is the entry that a Revocation stands for. It fails unless it says one thing to revoke.
func (r Revocation) Entry() (revocation.Entry, error) {
	e := revocation.Entry{Issuer: r.Issuer, Before: r.Before, Expires: r.Expires}
	n := 0
	for kind := revocation.Token; kind <= revocation.Key; kind++ {
		if id := *r.name(kind); id != "" {
			e.Kind, e.ID = kind, id
			n++
		}
	}
	if n != 1 {
		return e, errors.New("want one of jti, sub, client and key")
	}
	return e, nil
}

// decodeRevocation reads what NewRevocation writes, less created. What is not understood is refused: a
// revocation must not do less than was meant.
func decodeRevocation(body io.Reader) (revocation.Entry, error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return revocation.Entry{}, fmt.Errorf("cannot read the body: %w", err)
	}
	if !utf8.Valid(data) {
		return revocation.Entry{}, errObject // the decoder would make another name of it
	}
	d := json.NewDecoder(bytes.NewReader(data))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return revocation.Entry{}, errObject
	}
	var r Revocation
	seen := map[string]bool{}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return revocation.Entry{}, errObject
		}
		if seen[name] {
			return revocation.Entry{}, fmt.Errorf("%.40q is there twice", name)
		}
		seen[name] = true
		if t, err = d.Token(); err != nil {
			return revocation.Entry{}, errObject
		}
		value, ok := t.(string)
		if !ok || value == "" || strings.ContainsRune(value, utf8.RuneError) {
			return revocation.Entry{}, fmt.Errorf("%.40q: want a string that is neither empty nor broken", name)
		}
		if err := r.set(name, value); err != nil {
			return revocation.Entry{}, err
		}
	}
	if _, err := d.Token(); err != nil {
		return revocation.Entry{}, errObject
	}
	if _, err := d.Token(); err != io.EOF {
		return revocation.Entry{}, errObject
	}
	return r.Entry()
}

var errObject = errors.New(`want one JSON object of strings, such as {"client":"MobileApp"}`)

func (r *Revocation) set(name, value string) (err error) {
	switch name {
	case "jti":
		r.JTI = value
	case "sub":
		r.Sub = value
	case "client":
		r.Client = value
	case "key":
		r.Key = value
	case "issuer":
		r.Issuer = value
	case "before":
		r.Before, err = instant(value)
	case "expires":
		r.Expires, err = instant(value)
	default:
		return fmt.Errorf("there is no %.40q: want jti, sub, client or key; issuer, before, expires", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w, not %.40q", name, err, value)
	}
	return nil
}

var errInstant = errors.New(`want a time such as "2027-01-31T00:00:00Z"`)

// instant is never the zero time, which would stand for none.
func instant(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() {
		return time.Time{}, errInstant
	}
	return t.UTC(), nil
}

func (s *Server) revoke(w http.ResponseWriter, r *http.Request) {
	entry, err := decodeRevocation(http.MaxBytesReader(w, r.Body, maxRevocation))
	if err != nil {
		revocationProblem(err, false).write(w)
		return
	}
	if entry, err = s.gateway.Revoke(r.Context(), entry); err != nil {
		revocationProblem(err, true).write(w)
		return
	}
	writeJSON(w, http.StatusCreated, NewRevocation(entry))
}

func (s *Server) revocations(w http.ResponseWriter, _ *http.Request) {
	count, entries := s.gateway.Revocations(shownRevocation, time.Now())
	shown := make([]Revocation, len(entries))
	for i, e := range entries {
		shown[i] = NewRevocation(e)
	}
	writeJSON(w, http.StatusOK, struct {
		Count       int          `json:"count"`
		Revocations []Revocation `json:"revocations"` // 1000 at most, in no order
	}{count, shown})
}

// revocationProblem tells why nothing was revoked; understood: the body was.
func revocationProblem(err error, understood bool) *problem {
	var long *http.MaxBytesError
	switch {
	case errors.As(err, &long):
		return newProblem(http.StatusRequestEntityTooLarge, "body_too_large", fmt.Sprintf("The body has more than %d bytes.", maxRevocation))
	case !understood, errors.Is(err, revocation.ErrInvalid):
		return newProblem(http.StatusBadRequest, "bad_revocation", strings.TrimPrefix(err.Error(), revocation.ErrInvalid.Error()+": "))
	case errors.Is(err, engine.ErrNoAuth):
		return newProblem(http.StatusConflict, "no_auth", "No route needs credentials: there is nothing to revoke.")
	}
	return newProblem(http.StatusServiceUnavailable, "not_revoked", err.Error())
}
