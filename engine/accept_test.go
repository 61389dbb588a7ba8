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
	"syscall"
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

// TestAcceptWithoutDescriptors: a client for which there is no descriptor at first is served once there is one.
func TestAcceptWithoutDescriptors(t *testing.T) {
	g := startGateway(t, publicRoute(rawServer(t, smallAnswer)))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	a := &acceptor{Listener: needyListener{Listener: l}, engine: g.Engine}
	accepted, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		defer accepted.Close()
		_, _ = accepted.Write([]byte("hello"))
	}()
	if got, err := io.ReadAll(client); string(got) != "hello" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
}

// needyListener gives connections whose descriptors cannot be copied at first.
type needyListener struct{ net.Listener }

func (l needyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &needyConn{TCPConn: c.(*net.TCPConn), left: 2}, nil
}

type needyConn struct {
	*net.TCPConn
	left int
}

func (c *needyConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	if c.left--; c.left >= 0 {
		return needyRaw{raw}, err
	}
	return raw, err
}

type needyRaw struct{ syscall.RawConn }

func (needyRaw) Control(func(fd uintptr)) error { return syscall.EMFILE }

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
