// Package certs chooses the server certificate by SNI and reloads it when its files change.
package certs

import (
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Pair names the PEM files of a certificate and its key. Cert holds the chain, leaf first.
type Pair struct{ Cert, Key string }

// Config says what a Store serves.
type Config struct {
	Pairs []Pair // at least one; the first is served to clients that ask for no name that is held

	// StrictSNI refuses a handshake that names no server, or one that no certificate holds, with the
	// alert unrecognized_name.
	StrictSNI bool

	MinVersion uint16 // a tls.VersionTLS constant from TLS 1.2 on; 0: TLS 1.2
}

// Store is the certificates of a server. It is safe for concurrent use; handshakes never wait for a
// reload.
//
// A name that a certificate holds literally goes before one that a wildcard covers, which stands for one
// label. Among certificates for the same name the client is given the first that it can verify, ECDSA
// before Ed25519 before RSA. A client that gives no name is matched by the IP address that it has
// connected to.
type Store struct {
	pairs   []Pair
	strict  bool
	version uint16

	reloading sync.Mutex
	current   atomic.Pointer[index]
}

// New loads all pairs. It fails if a file cannot be read, a chain does not parse or a key is not the
// certificate's. An expired certificate is no failure: see Warnings.
func New(c Config) (*Store, error) {
	if len(c.Pairs) == 0 {
		return nil, errors.New("cannot serve TLS: there is no certificate")
	}
	if c.MinVersion == 0 {
		c.MinVersion = tls.VersionTLS12
	}
	if c.MinVersion < tls.VersionTLS12 {
		return nil, fmt.Errorf("cannot serve %s: it is broken, TLS 1.2 is the least", tls.VersionName(c.MinVersion))
	}
	s := &Store{pairs: c.Pairs, strict: c.StrictSNI, version: c.MinVersion}
	entries := make([]*entry, len(c.Pairs))
	errs := make([]error, len(c.Pairs))
	for i, pair := range c.Pairs {
		entries[i], errs[i] = load(pair, nil)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.current.Store(newIndex(entries))
	return s, nil
}

// TLSConfig returns a new server configuration that serves what the Store holds at the time of each
// handshake, offers HTTP/1.1 alone and resumes sessions. The caller may change it before its first use,
// for client certificates or more protocols. With StrictSNI, GetConfigForClient is taken.
func (s *Store) TLSConfig() *tls.Config {
	config := &tls.Config{
		MinVersion: s.version,
		NextProtos: []string{"http/1.1"},
		GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
			return s.current.Load().choose(hello), nil
		},
	}
	if s.strict {
		config.GetConfigForClient = s.refuseUnknown()
	}
	return config
}

// refuseUnknown returns the handshake's gate under StrictSNI. It swaps the configuration, rather than
// leaving it to GetCertificate, because that one is not asked when a session is resumed, which may be
// another name's. Without a certificate crypto/tls sends unrecognized_name.
func (s *Store) refuseUnknown() func(*tls.ClientHelloInfo) (*tls.Config, error) {
	nobody := &tls.Config{
		MinVersion:             s.version,
		SessionTicketsDisabled: true,
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil },
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if s.current.Load().holds(hello.ServerName) {
			return nil, nil
		}
		return nobody, nil
	}
}

// NotAfter tells when the certificates end, by the names and IP addresses that they hold; of several for
// one name, the soonest.
func (s *Store) NotAfter() map[string]time.Time {
	ends := map[string]time.Time{}
	for _, e := range s.current.Load().entries {
		for _, name := range e.names() {
			if end, ok := ends[name]; !ok || e.leaf().NotAfter.Before(end) {
				ends[name] = e.leaf().NotAfter
			}
		}
	}
	return ends
}

// Warnings lists what clients may stumble over although it could be loaded: certificates that are not
// valid at the given time or hold no name, and those that are never chosen for one of their names because
// an earlier pair of the same key type holds it.
func (s *Store) Warnings(now time.Time) []string {
	held := map[string]string{} // the first file, by key type and name
	var warnings []string
	warn := func(e *entry, format string, args ...any) {
		warnings = append(warnings, fmt.Sprintf("certificate %q ", e.pair.Cert)+fmt.Sprintf(format, args...))
	}
	for _, e := range s.current.Load().entries {
		switch leaf := e.leaf(); {
		case now.After(leaf.NotAfter):
			warn(e, "expired on %s", leaf.NotAfter.Format(time.RFC3339))
		case now.Before(leaf.NotBefore):
			warn(e, "is not valid before %s", leaf.NotBefore.Format(time.RFC3339))
		}
		if len(e.names()) == 0 {
			warn(e, "holds no name")
		}
		for _, name := range e.names() {
			key := e.leaf().PublicKeyAlgorithm.String() + " " + name
			if first, ok := held[key]; ok {
				warn(e, "is not used for %q, which %q holds too", name, first)
				continue
			}
			held[key] = e.pair.Cert
		}
	}
	return warnings
}
