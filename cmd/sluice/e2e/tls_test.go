package e2e

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// authority signs certificates for tests.
type authority struct {
	t      testing.TB
	folder string
	leaf   *x509.Certificate
	key    *ecdsa.PrivateKey
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	a := &authority{t: t, folder: t.TempDir()}
	a.leaf, a.key = a.sign(name, &x509.Certificate{IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign})
	return a
}

// sign makes NAME.pem and NAME.key in the authority's folder, self-signed if it has no certificate yet.
func (a *authority) sign(name string, shape *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	a.must(err)
	shape.SerialNumber = big.NewInt(time.Now().UnixNano())
	shape.Subject = pkix.Name{CommonName: name}
	shape.NotBefore, shape.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := shape, key
	if a.leaf != nil {
		parent, signer = a.leaf, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, shape, parent, key.Public(), signer)
	a.must(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	a.must(err)
	a.must(os.WriteFile(a.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	a.must(os.WriteFile(a.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	leaf, err := x509.ParseCertificate(der)
	a.must(err)
	return leaf, key
}

// issue makes a certificate NAME.pem for these host names, for servers and clients.
func (a *authority) issue(name string, hosts ...string) {
	a.t.Helper()
	a.sign(name, &x509.Certificate{DNSNames: hosts, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}})
}

func (a *authority) path(name string) string { return filepath.Join(a.folder, name) }

func (a *authority) pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AddCert(a.leaf)
	return p
}

// pair is a [server.tls] certificate.
func (a *authority) pair(name string) string {
	return fmt.Sprintf("{ cert = %q, key = %q }", a.path(name+".pem"), a.path(name+".key"))
}

func (a *authority) must(err error) {
	a.t.Helper()
	if err != nil {
		a.t.Fatal(err)
	}
}

// startSecure runs a gateway that listens for plain clients and, at the address returned, for TLS ones.
func startSecure(t testing.TB, server, settings, rest string) (*gateway, string) {
	t.Helper()
	address := freeAddress(t)
	return startGateway(t, fmt.Sprintf("[server]\nlisten = [\"$LISTEN\"]\n%s\n[server.tls]\nlisten = [%q]\n%s\n%s", server, address, settings, rest)), address
}

// secured asks for /x by TLS and returns the answer and the name of the certificate.
func secured(address string, config *tls.Config) (r *response, name string, err error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, config)
	if err != nil {
		return nil, "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
		return nil, "", err
	}
	r, err = readResponse(bufio.NewReader(c), "GET")
	return r, c.ConnectionState().PeerCertificates[0].Subject.CommonName, err
}

// HTTPS beside plain HTTP: the certificate goes by the name asked for, and upstreams are told which it was.
func TestTLS(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	ca.issue("first", "a.example.com")
	ca.issue("second", "b.example.com", "*.b.example.com")
	certificates := "certificates = [" + ca.pair("first") + ", " + ca.pair("second") + "]\n"
	up := startAnswering(t, ok)
	g, address := startSecure(t, "", certificates, public(up.url()))
	_, strict := startSecure(t, "", certificates+"strict_sni = true\n", public(up.url()))
	_, modern := startSecure(t, "", certificates+"min_version = \"1.3\"\n", public(up.url()))
	for _, c := range []struct {
		intent, to, name string
		most             uint16 // highest version the client speaks; 0: any
		want             string // certificate; "": refused
	}{
		{"the first name", address, "a.example.com", 0, "first"},
		{"the second name", address, "b.example.com", 0, "second"},
		{"a wildcard", address, "x.b.example.com", 0, "second"},
		{"in upper case", address, "B.EXAMPLE.COM", 0, "second"},
		{"an unknown name gets the first", address, "other.example.com", 0, "first"},
		{"no name", address, "", 0, "first"},
		{"TLS 1.2 by default", address, "b.example.com", tls.VersionTLS12, "second"},
		{"TLS 1.1 never", address, "b.example.com", tls.VersionTLS11, ""},
		{"strict: a known name", strict, "b.example.com", 0, "second"},
		{"strict: an unknown name", strict, "other.example.com", 0, ""},
		{"strict: no name", strict, "", 0, ""},
		{"1.3 where nothing less will do", modern, "a.example.com", 0, "first"},
		{"1.2 where nothing less than 1.3 will do", modern, "a.example.com", tls.VersionTLS12, ""},
	} {
		t.Run(c.intent, func(t *testing.T) {
			up.take()
			// Whose certificate it is, is what the table says: the client believes any.
			r, name, err := secured(c.to, &tls.Config{ServerName: c.name, MaxVersion: c.most, MinVersion: tls.VersionTLS10, InsecureSkipVerify: true}) // #nosec G402
			if c.want == "" {
				if err == nil {
					t.Errorf("served with %q", name)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if r.status != 200 || name != c.want || up.one(t).fields.get("X-Forwarded-Proto") != "https" {
				t.Errorf("status %d with %q", r.status, name)
			}
		})
	}
	t.Run("plain", func(t *testing.T) {
		up.take()
		if _, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 200 || up.one(t).fields.get("X-Forwarded-Proto") != "http" {
			t.Errorf("status %d", r.status)
		}
	})
	t.Run("a chain that verifies", func(t *testing.T) {
		if _, _, err := secured(address, &tls.Config{ServerName: "a.example.com", RootCAs: ca.pool()}); err != nil {
			t.Error(err)
		}
	})
}

// A client on a TLS port that says nothing, or nothing that makes sense, goes as soon as one on a plain port.
func TestSilentTLSClients(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	ca.issue("first", "a.example.com")
	up := startAnswering(t, ok)
	_, address := startSecure(t, `header_timeout = "500ms"`, "certificates = ["+ca.pair("first")+"]", public(up.url()))
	t.Run("a client that says nothing is not waited for", func(t *testing.T) { dial(t, address).expectGone() })
	t.Run("a client that stops in its handshake", func(t *testing.T) {
		c := dial(t, address)
		c.send("\x16\x03\x01\x02\x00\x01")
		c.expectGone()
	})
	t.Run("a client that speaks plain HTTP", func(t *testing.T) {
		c := dial(t, address)
		c.send("GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
		c.expectGone()
	})
	t.Run("a client that says nothing after its handshake", func(t *testing.T) {
		c := tls.Client(dial(t, address), &tls.Config{ServerName: "a.example.com", RootCAs: ca.pool()})
		r, err := readResponse(bufio.NewReader(c), "GET")
		if err != nil {
			t.Fatal(err)
		}
		r.expectProblem(t, 408, "request_timeout")
	})
}

// New certificate files are served once they are there, without a word to the gateway; unusable ones change
// nothing.
func TestCertificatesAreReplaced(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t, "ca")
	for _, name := range []string{"live", "next", "last"} {
		ca.issue(name, "a.example.com")
	}
	up := startAnswering(t, ok)
	g, address := startSecure(t, "", "certificates = ["+ca.pair("live")+"]", public(up.url()))
	serves := func() string {
		_, name, err := secured(address, &tls.Config{ServerName: "a.example.com", RootCAs: ca.pool()})
		ca.must(err)
		return name
	}
	replace := func(by, suffix string) { ca.must(os.Rename(ca.path(by+suffix), ca.path("live"+suffix))) }
	if got := serves(); got != "live" {
		t.Fatalf("%q is served", got)
	}
	replace("next", ".pem")
	replace("next", ".key")
	eventually(t, "the next certificate is served", func() bool { return serves() == "next" })

	ca.must(os.WriteFile(ca.path("live.pem"), []byte("garbage"), 0o600))
	eventually(t, "the bad file is found", func() bool { return strings.Contains(g.log.String(), "certificates kept") })
	if got := serves(); got != "next" {
		t.Errorf("%q is served after a bad file", got)
	}
	replace("last", ".pem")
	replace("last", ".key")
	eventually(t, "the last certificate is served", func() bool { return serves() == "last" })
}

// Large bodies pass through TLS on both sides unchanged, to an upstream that knows the gateway.
func TestSecureUpstream(t *testing.T) {
	t.Parallel()
	ca, stranger := newAuthority(t, "ca"), newAuthority(t, "stranger")
	ca.issue("front", "a.example.com")
	ca.issue("target", "target.internal")
	ca.issue("gateway", "gateway.internal")
	stranger.issue("gateway", "gateway.internal")
	url := startSecureService(t, ca)
	settings := func(trusts, shows *authority, serverName string) string {
		text := fmt.Sprintf("[upstream.up.tls]\nserver_name = %q\n", serverName)
		if trusts != nil {
			text += fmt.Sprintf("ca = %q\n", trusts.path(trusts.leaf.Subject.CommonName+".pem"))
		}
		if shows != nil {
			text += fmt.Sprintf("cert = %q\nkey = %q\n", shows.path("gateway.pem"), shows.path("gateway.key"))
		}
		return text
	}
	for _, c := range []struct {
		intent, upstream string
		trusted          bool
	}{
		{"each knows the other", settings(ca, ca, "target.internal"), true},
		{"the gateway knows another authority", settings(stranger, ca, "target.internal"), false},
		{"the system's authorities", settings(nil, ca, "target.internal"), false},
		{"another name", settings(ca, ca, "other.internal"), false},
		{"the target's address is no name of it", settings(ca, ca, ""), false},
	} {
		t.Run(c.intent, func(t *testing.T) {
			t.Parallel()
			g, address := startSecure(t, "", "certificates = ["+ca.pair("front")+"]", toService(url, c.upstream, ""))
			if !c.trusted {
				_, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
				r.expectProblem(t, 502, "upstream_connect")
				return
			}
			expectEcho(t, address, &tls.Config{ServerName: "a.example.com", RootCAs: ca.pool()})
		})
	}
	for _, pair := range []*authority{nil, stranger} {
		g, _ := startSecure(t, "", "certificates = ["+ca.pair("front")+"]", toService(url, settings(ca, pair, "target.internal"), ""))
		if _, r := g.exchange(t, "GET /x HTTP/1.1\r\nHost: h\r\n\r\n"); r.status != 502 {
			t.Errorf("status %d without a certificate that the target knows", r.status)
		}
	}
}

// startSecureService is an upstream that echoes, for clients with a certificate of the authority.
func startSecureService(t testing.TB, ca *authority) (url string) {
	t.Helper()
	pair, err := tls.LoadX509KeyPair(ca.path("target.pem"), ca.path("target.key"))
	ca.must(err)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Peer", r.TLS.PeerCertificates[0].Subject.CommonName)
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	}))
	s.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.pool()}
	s.Config.ErrorLog = log.New(io.Discard, "", 0) // refusing is what it is here for
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.URL
}

// expectEcho sends 5 MiB and gets them back.
func expectEcho(t testing.TB, address string, config *tls.Config) {
	t.Helper()
	const size = 5 << 20
	transport := &http.Transport{TLSClientConfig: config}
	defer transport.CloseIdleConnections()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+address+"/x", io.NopCloser(newPattern(size)))
	if err != nil {
		t.Fatal(err)
	}
	r.ContentLength = size
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := digest(response.Body); got != patternDigest(size) || err != nil {
		t.Errorf("%s and %v, want %s", got, err, patternDigest(size))
	}
	if peer := response.Header.Get("X-Peer"); peer != "gateway" {
		t.Errorf("the target was called by %q", peer)
	}
}
