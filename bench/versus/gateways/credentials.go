package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

const (
	tokenIssuer   = "https://issuer.example/"
	tokenAudience = "gateways"
)

// credentials are files that gateways are given, made anew for each run.
type credentials struct {
	certificate, key, both string // P-256, PEM; both: as HAProxy wants them
	jwks, public           string // the issuer's key, RSA of 2048 bits, as a key set and as PEM
	token                  string // RS256, of that key
}

func newCredentials(folder string, now time.Time) (*credentials, error) {
	c := &credentials{}
	write := func(into *string, name string, text []byte) error {
		*into = filepath.Join(folder, name)
		return os.WriteFile(*into, text, 0o600)
	}
	certificate, key, err := newCertificate(now)
	if err != nil {
		return nil, err
	}
	issuer, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	set, err := keySet(&issuer.PublicKey)
	if err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&issuer.PublicKey)
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		into *string
		name string
		text []byte
	}{
		{&c.certificate, "certificate.pem", certificate}, {&c.key, "key.pem", key}, {&c.both, "both.pem", slices.Concat(certificate, key)},
		{&c.jwks, "jwks.json", set}, {&c.public, "issuer.pem", pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})},
	} {
		if err := write(f.into, f.name, f.text); err != nil {
			return nil, err
		}
	}
	token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": tokenIssuer, "aud": tokenAudience, "sub": client, "iat": now.Unix(), "exp": now.Add(24 * time.Hour).Unix(),
	})
	token.Header["kid"] = "1"
	c.token, err = token.SignedString(issuer)
	return c, err
}

// newCertificate is one for 127.0.0.1, signed by itself.
func newCertificate(now time.Time) (certificate, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "127.0.0.1"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(48 * time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	signed, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		return nil, nil, err
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: signed}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}), nil
}

// keySet is RFC 7517's form of a key.
func keySet(public *rsa.PublicKey) ([]byte, error) {
	text := base64.RawURLEncoding.EncodeToString
	return json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "1",
		"n": text(public.N.Bytes()), "e": text(big.NewInt(int64(public.E)).Bytes()),
	}}})
}
