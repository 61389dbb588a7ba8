package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestReloadTurnsTLSOn: an address that moves between plain and TLS serves the new one only, as soon as
// the reload has returned, both ways.
func TestReloadTurnsTLSOn(t *testing.T) {
	origin := rawServer(t, smallAnswer)
	g := startGateway(t, publicRoute(origin))
	cert, key := certificateFiles(t)
	plain := fmt.Sprintf("[server]\nlisten = [%q]\n[admin]\nlisten = \"\"\n%s", g.address, publicRoute(origin))
	secure := fmt.Sprintf("[server]\nlisten = []\n[server.tls]\nlisten = [%q]\ncertificates = [{ cert = %q, key = %q }]\n[admin]\nlisten = \"\"\n%s",
		g.address, cert, key, publicRoute(origin))
	for _, c := range []struct {
		text   string
		secure bool
	}{{secure, true}, {plain, false}, {secure, true}} {
		if err := os.WriteFile(g.path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
		for range 8 {
			if got := speaksTLS(t, g.address); got != c.secure {
				t.Fatalf("TLS is %v, want %v", got, c.secure)
			}
		}
	}
}

func speaksTLS(t *testing.T, address string) bool {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true}) // #nosec G402 -- any certificate will do
	return secure.Handshake() == nil
}

func certificateFiles(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	shape := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, shape, shape, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	write := func(name, kind string, b []byte) string {
		path := filepath.Join(folder, name)
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := pem.Encode(io.Writer(f), &pem.Block{Type: kind, Bytes: b}); err != nil {
			t.Fatal(err)
		}
		return path
	}
	return write("cert.pem", "CERTIFICATE", der), write("key.pem", "PRIVATE KEY", pkcs8)
}
