package certs

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for what must happen.
const patience = 10 * time.Second

// template is a self-signed certificate to be made. Its common name is what tests tell it by.
type template struct {
	names               []string
	ips                 []string
	key                 func(*testing.T) crypto.Signer // nil: ecdsaKey
	notBefore, notAfter time.Time                      // zero: now is in between
}

func named(name string) template { return template{names: []string{name}} }

func ecdsaKey(t *testing.T) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

func rsaKey(t *testing.T) crypto.Signer {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	must(t, err)
	return key
}

// write makes a certificate in folder: NAME.pem and NAME.key.
func write(t *testing.T, folder, name string, of template) Pair {
	t.Helper()
	if of.key == nil {
		of.key = ecdsaKey
	}
	if of.notBefore.IsZero() {
		of.notBefore = time.Now().Add(-48 * time.Hour)
	}
	if of.notAfter.IsZero() {
		of.notAfter = time.Now().Add(time.Hour)
	}
	shape := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		DNSNames:     of.names,
		NotBefore:    of.notBefore,
		NotAfter:     of.notAfter,
	}
	for _, ip := range of.ips {
		shape.IPAddresses = append(shape.IPAddresses, net.ParseIP(ip))
	}
	key := of.key(t)
	certificate, err := x509.CreateCertificate(rand.Reader, shape, shape, key.Public(), key)
	must(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	must(t, err)
	must(t, os.MkdirAll(folder, 0o700))
	pair := Pair{Cert: filepath.Join(folder, name+".pem"), Key: filepath.Join(folder, name+".key")}
	overwrite(t, pair.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}))
	overwrite(t, pair.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	return pair
}

// replace puts the files of one pair in the place of another's.
func replace(t *testing.T, old, by Pair) {
	t.Helper()
	overwrite(t, old.Cert, read(t, by.Cert))
	overwrite(t, old.Key, read(t, by.Key))
}

func overwrite(t *testing.T, path string, text []byte) {
	t.Helper()
	must(t, os.WriteFile(path, text, 0o600))
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return text
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	must(t, os.Rename(from, to))
}

// link makes path a symbolic link, atomically if there is one already.
func link(t *testing.T, target, path string) {
	t.Helper()
	must(t, os.Symlink(target, path+".new"))
	rename(t, path+".new", path)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newStore(t *testing.T, c Config) *Store {
	t.Helper()
	s, err := New(c)
	must(t, err)
	return s
}

// serve echoes to TLS clients on a loopback address until the test ends.
func serve(t *testing.T, config *tls.Config) (address string) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", config)
	must(t, err)
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			served.Go(func() {
				defer conn.Close()
				_ = conn.SetDeadline(time.Now().Add(patience))
				_, _ = io.Copy(conn, conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		served.Wait()
	})
	return l.Addr().String()
}

// dial returns the common name of the certificate that the client was given.
func dial(address string, client *tls.Config) (commonName string, err error) {
	state, err := handshake(address, client)
	if err != nil {
		return "", err
	}
	return state.PeerCertificates[0].Subject.CommonName, nil
}

// handshake connects and waits for an echo: a client of TLS 1.3 hears only then of a refusal or a ticket.
func handshake(address string, client *tls.Config) (tls.ConnectionState, error) {
	client = client.Clone()
	client.InsecureSkipVerify = true
	raw, err := net.Dial("tcp", address)
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer raw.Close()
	conn := tls.Client(raw, client)
	if err := echo(conn); err != nil {
		return tls.ConnectionState{}, err
	}
	return conn.ConnectionState(), nil
}

func echo(conn *tls.Conn) error {
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Write([]byte{42}); err != nil {
		return err
	}
	got := make([]byte, 1)
	if _, err := io.ReadFull(conn, got); err != nil {
		return err
	}
	if got[0] != 42 {
		return errors.New("the echo is not what was said")
	}
	return nil
}

// oneTicket gives a client the last session for whatever server, as no honest client does.
type oneTicket struct{ session *tls.ClientSessionState }

func (o *oneTicket) Get(string) (*tls.ClientSessionState, bool) { return o.session, o.session != nil }

func (o *oneTicket) Put(_ string, session *tls.ClientSessionState) { o.session = session }
