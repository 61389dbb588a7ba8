package certs

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
)

// entry is a pair that has been loaded; immutable.
type entry struct {
	pair        Pair
	sum         [sha256.Size]byte // of both files
	certificate *tls.Certificate
}

func (e *entry) leaf() *x509.Certificate { return e.certificate.Leaf }

// names lists the DNS names and IP addresses that the certificate holds, in canonical form.
func (e *entry) names() []string {
	var names []string
	for _, name := range e.leaf().DNSNames {
		names = append(names, canonical(name))
	}
	for _, ip := range e.leaf().IPAddresses {
		names = append(names, canonical(ip.String()))
	}
	return names
}

// load reads a pair. It returns old, which may be nil, if that was made of the same bytes.
func load(pair Pair, old *entry) (*entry, error) {
	cert, err := os.ReadFile(pair.Cert)
	if err != nil {
		return nil, fmt.Errorf("cannot read certificate: %w", err)
	}
	key, err := os.ReadFile(pair.Key)
	if err != nil {
		return nil, fmt.Errorf("cannot read key: %w", err)
	}
	sum := digest(cert, key)
	if old != nil && old.sum == sum {
		return old, nil
	}
	certificate, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cannot use certificate %q with key %q: %w", pair.Cert, pair.Key, err)
	}
	for i, der := range certificate.Certificate {
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("cannot parse certificate %d in %q: %w", i+1, pair.Cert, err)
		}
		if i == 0 {
			certificate.Leaf = parsed
		}
	}
	return &entry{pair: pair, sum: sum, certificate: &certificate}, nil
}

// digest is of two texts, of which neither can pass bytes on to the other unnoticed.
func digest(cert, key []byte) [sha256.Size]byte {
	c, k := sha256.Sum256(cert), sha256.Sum256(key)
	return sha256.Sum256(append(c[:], k[:]...))
}
