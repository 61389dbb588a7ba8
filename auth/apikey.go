package auth

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/big"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A key that we make is keyPrefix, keyDigits base-62 digits of 256 random bits, and checkDigits of a
// CRC-32 over all that is before them: slk_ and 49 letters or digits. A leak scanner finds keys with the
// pattern slk_[0-9A-Za-z]{49} and tells by the checksum, without asking anyone, that one is no accident.
// Keys from elsewhere are used as they are.
const (
	keyPrefix   = "slk_"
	keyDigits   = 43 // 62^43 > 2^256
	checkDigits = 6  // 62^6 > 2^32
	base62      = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

	maxKey = 512 // bytes of a key from elsewhere
)

// NewKey makes an API key of 256 bits from random, which is crypto/rand.Reader outside of tests, with the id
// of its record. Nobody can find the key again from what is stored.
func NewKey(random io.Reader) (key, id string, err error) {
	var bits [32]byte
	if _, err := io.ReadFull(random, bits[:]); err != nil {
		return "", "", fmt.Errorf("cannot make a key: %w", err)
	}
	key = keyPrefix + inBase62(new(big.Int).SetBytes(bits[:]), keyDigits)
	key += keyChecksum(key)
	return key, DigestKey([]byte(key)).KeyID(), nil
}

func keyChecksum(text string) string {
	return inBase62(new(big.Int).SetUint64(uint64(crc32.ChecksumIEEE([]byte(text)))), checkDigits)
}

// inBase62 writes n with leading zeros. It is not big.Int.Text, whose digits are in another order.
func inBase62(n *big.Int, digits int) string {
	text, base, digit := make([]byte, digits), big.NewInt(int64(len(base62))), new(big.Int)
	for i := digits - 1; i >= 0; i-- {
		n.DivMod(n, base, digit)
		text[i] = base62[digit.Int64()]
	}
	return string(text)
}

// LooksLikeKey says whether a text has the form and the checksum of the keys that NewKey makes. It says nothing
// about whether the key is known, and keys that were imported need not look so.
func LooksLikeKey(text string) bool {
	if len(text) != len(keyPrefix)+keyDigits+checkDigits || !strings.HasPrefix(text, keyPrefix) {
		return false
	}
	body, sum := text[:len(text)-checkDigits], text[len(text)-checkDigits:]
	for _, c := range []byte(body[len(keyPrefix):]) {
		if strings.IndexByte(base62, c) < 0 {
			return false
		}
	}
	return sum == keyChecksum(body)
}

// CheckKey says whether a key can be used at all: 1 to 512 bytes of visible ASCII, as a header carries them
// without change. It fails with ErrInvalid, and never tells the key.
func CheckKey(key []byte) error {
	if len(key) == 0 || len(key) > maxKey {
		return refusal("a key has 1 to 512 bytes")
	}
	for _, c := range key {
		if c < 0x21 || c > 0x7e {
			return refusal("a key has visible ASCII characters only")
		}
	}
	return nil
}

// Digest is the SHA-256 of a key: all that is stored of it. A plain hash is enough, for a key with 256 random
// bits cannot be guessed. The digest itself opens nothing: shown as a key, it has another digest.
type Digest [sha256.Size]byte

// DigestKey gives the digest of a key.
func DigestKey(key []byte) Digest { return sha256.Sum256(key) }

// ParseDigest reads what String writes.
func ParseDigest(text string) (d Digest, err error) {
	if len(text) != hex.EncodedLen(len(d)) || strings.ToLower(text) != text {
		return Digest{}, errDigest
	}
	if _, err := hex.Decode(d[:], []byte(text)); err != nil {
		return Digest{}, errDigest
	}
	return d, nil
}

var errDigest = errors.New("auth: the hash of a key is 64 lower-case hexadecimal digits")

// String is the digest in 64 lower-case hexadecimal digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Equal compares two digests in constant time.
func (d Digest) Equal(other Digest) bool { return subtle.ConstantTimeCompare(d[:], other[:]) == 1 }

// KeyID is the public name of the key with this digest: "key_" and the first 16 hexadecimal digits of the
// digest's own SHA-256. It is for logs and for people, and leads back neither to the digest nor to the key.
func (d Digest) KeyID() string {
	sum := sha256.Sum256(d[:])
	return fmt.Sprintf("key_%016x", binary.BigEndian.Uint64(sum[:]))
}

// KeyRecord is what a store keeps of a key.
type KeyRecord struct {
	ID       string // Digest.KeyID()
	Digest   Digest
	Client   string // 1 to 256 bytes
	Tier     string // at most 64 bytes; may be empty
	Scopes   Scopes // at most 4096 bytes as text
	Rate     Rate   // the key's own, which wins over limits' rates; zero: none
	Created  time.Time
	Expires  time.Time // zero: never
	Disabled bool
}

// The longest texts of a record, in bytes.
const (
	maxClient = 256
	maxTier   = 64
	maxScopes = 4096
)

// Validate says what is wrong with a record.
func (r *KeyRecord) Validate() error {
	switch {
	case r.ID != r.Digest.KeyID():
		return fmt.Errorf("auth: the id %.40q does not belong to the key's hash, which makes it %q", r.ID, r.Digest.KeyID())
	case r.Client == "" || len(r.Client) > maxClient || !printable(r.Client):
		return fmt.Errorf("auth: key %s: a client has 1 to %d bytes without control characters", r.ID, maxClient)
	case len(r.Tier) > maxTier || !printable(r.Tier):
		return fmt.Errorf("auth: key %s: a tier has at most %d bytes without control characters", r.ID, maxTier)
	case len(r.Scopes.String()) > maxScopes:
		return fmt.Errorf("auth: key %s: scopes are longer than %d bytes", r.ID, maxScopes)
	case r.Rate != Rate{} && (r.Rate.N < 1 || r.Rate.Per <= 0):
		return fmt.Errorf("auth: key %s: a rate is at least 1 in a time above zero", r.ID)
	case !writable(r.Created) || !writable(r.Expires):
		return fmt.Errorf("auth: key %s: a time is outside of the years 0 to 9999", r.ID)
	case !r.Expires.IsZero() && !r.Expires.After(r.Created):
		return fmt.Errorf("auth: key %s: it expires before it was created", r.ID)
	}
	return nil
}

// printable holds a text to what a header and a log line can carry.
func printable(text string) bool {
	return utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl)
}

// writable says whether RFC 3339 can write a time.
func writable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 0 && year <= 9999
}

// Principal makes the principal that a key with this record stands for.
func (r *KeyRecord) Principal() *Principal {
	return &Principal{
		Method:     "keys",
		Client:     r.Client,
		User:       r.Client,
		Tier:       r.Tier,
		Scopes:     r.Scopes,
		Rate:       r.Rate,
		Credential: r.ID,
		IssuedAt:   r.Created,
		Expires:    r.Expires,
	}
}

// KeyLookup finds the principal of a key by the key's digest. It is safe for concurrent use.
type KeyLookup interface {
	// Lookup fails with ErrInvalid when the key is unknown, disabled or expired at now, and with ErrUnavailable
	// when the store cannot tell. It compares digests in constant time, and does not allocate for a key that
	// it has at hand.
	Lookup(ctx context.Context, d Digest, now time.Time) (*Principal, error)
}

// Keys authenticates API keys. It is safe for concurrent use.
type Keys struct {
	store KeyLookup
}

// NewKeys makes the method for the keys of one store.
func NewKeys(store KeyLookup) *Keys { return &Keys{store: store} }

// Authenticate gives the principal of a key, and fails with ErrInvalid or ErrUnavailable. It neither keeps nor
// changes the key's bytes.
func (k *Keys) Authenticate(ctx context.Context, key []byte, now time.Time) (*Principal, error) {
	if err := CheckKey(key); err != nil {
		return nil, err
	}
	p, err := k.store.Lookup(ctx, DigestKey(key), now)
	if err != nil {
		return nil, err
	}
	if p.Expired(now) {
		return nil, refusal("the key has expired")
	}
	return p, nil
}
