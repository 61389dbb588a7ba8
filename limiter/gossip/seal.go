package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
)

// MinSecret is the shortest secret in bytes.
const MinSecret = 32

// ErrSecret is what a secret is refused with.
var ErrSecret = errors.New("gossip: there must be one secret, or two, of at least 32 bytes")

const (
	lifeSize  = 16
	nonceSize = 12
)

// life names one run of a node. It is random: whoever starts again has other keys, so that a nonce, which is
// a count, never meets the same key twice.
type life [lifeSize]byte

// short is what packets carry of it.
func (l life) short() uint64 { return binary.BigEndian.Uint64(l[:]) }

// secret is what one of the configured secrets gives.
type secret struct {
	id    byte // tells two secrets apart, nearly always
	root  []byte
	hello cipher.AEAD
}

func newSecret(text []byte) (*secret, error) {
	if len(text) < MinSecret {
		return nil, ErrSecret
	}
	root, err := hkdf.Extract(sha256.New, text, []byte("sluice gossip 1"))
	if err != nil {
		return nil, fmt.Errorf("cannot derive a key: %w", err)
	}
	s := &secret{root: root}
	s.id = s.derive("id", 1)[0]
	// Hellos are not counted, for nobody knows yet whose count it would be: their nonces are random, and
	// this cipher's are long enough for that.
	if s.hello, err = chacha20poly1305.NewX(s.derive("hello", chacha20poly1305.KeySize)); err != nil {
		return nil, fmt.Errorf("cannot derive a key: %w", err)
	}
	return s, nil
}

func newSecrets(texts [][]byte) (all []*secret, err error) {
	if len(texts) < 1 || len(texts) > 2 {
		return nil, ErrSecret
	}
	for _, text := range texts {
		s, err := newSecret(text)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// derive makes a key for one purpose (HKDF, RFC 5869).
func (s *secret) derive(purpose string, size int) []byte {
	key, err := hkdf.Expand(sha256.New, s.root, purpose, size)
	if err != nil {
		panic("BUG: a key of this size cannot be derived: " + err.Error())
	}
	return key
}

// frames is the key of what one life tells everybody.
func (s *secret) frames(from life) cipher.AEAD { return s.gcm("frames " + string(from[:])) }

// direct is the key of what one life tells another.
func (s *secret) direct(from, to life) cipher.AEAD {
	return s.gcm("direct " + string(from[:]) + string(to[:]))
}

func (s *secret) gcm(purpose string) cipher.AEAD {
	block, err := aes.NewCipher(s.derive(purpose, 32))
	if err != nil {
		panic("BUG: a derived key is no AES key: " + err.Error())
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		panic("BUG: AES does not make GCM: " + err.Error())
	}
	return gcm
}

// sealer seals and opens packets in place, with no allocation. It is not safe for concurrent use.
type sealer struct {
	nonce [nonceSize]byte
	plain [MaxPacket]byte
}

// seal seals what follows the header in b, which has room for the tag.
func (s *sealer) seal(key cipher.AEAD, number uint64, b []byte) []byte {
	binary.BigEndian.PutUint64(s.nonce[nonceSize-8:], number)
	return key.Seal(b[:headerSize], s.nonce[:], b[headerSize:], b[:headerSize])
}

// open returns the body of a packet, valid until the next; false: it is not what this key sealed.
func (s *sealer) open(key cipher.AEAD, number uint64, packet []byte) ([]byte, bool) {
	binary.BigEndian.PutUint64(s.nonce[nonceSize-8:], number)
	body, err := key.Open(s.plain[:0], s.nonce[:], packet[headerSize:], packet[:headerSize])
	return body, err == nil
}
