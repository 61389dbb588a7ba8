package certs

import (
	"crypto/tls"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestChoice(t *testing.T) {
	at := t.TempDir()
	s := newStore(t, Config{Pairs: []Pair{
		write(t, at, "first", template{names: []string{"first.test"}, key: rsaKey}),
		write(t, at, "wild", template{names: []string{"*.example.com"}}),
		write(t, at, "exact", template{names: []string{"API.example.com"}}),
		write(t, at, "both-rsa", template{names: []string{"both.test"}, key: rsaKey}),
		write(t, at, "both-ecdsa", template{names: []string{"both.test"}}),
		write(t, at, "ip", template{ips: []string{"127.0.0.1", "::ffff:10.0.0.1"}}),
		write(t, at, "first-ecdsa", template{names: []string{"first.test"}}),
	}})
	rsaOnly := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	tests := []struct {
		intent     string
		serverName string
		suites     []uint16 // not nil: a client of TLS 1.2 with these
		want       string
	}{
		{"a name as it is held", "first.test", rsaOnly, "first"},
		{"a literal name goes before a wildcard", "api.example.com", nil, "exact"},
		{"names know no case", "Api.Example.Com", nil, "exact"},
		{"a wildcard", "www.example.com", nil, "wild"},
		{"a wildcard is one label: this one is nobody's", "a.b.example.com", nil, "first-ecdsa"},
		{"a wildcard is not its parent: this one is nobody's", "example.com", nil, "first-ecdsa"},
		{"ECDSA goes first, whatever the order of the pairs", "both.test", nil, "both-ecdsa"},
		{"a client that cannot verify ECDSA gets RSA", "both.test", rsaOnly, "both-rsa"},
		{"an unknown name gets the first pair's name", "unknown.test", nil, "first-ecdsa"},
		{"and of the key type that the client knows", "unknown.test", rsaOnly, "first"},
		{"no name: the address that the client has connected to", "", nil, "ip"},
	}
	address := serve(t, s.TLSConfig())
	for _, test := range tests {
		client := &tls.Config{ServerName: test.serverName, CipherSuites: test.suites}
		if test.suites != nil {
			client.MaxVersion = tls.VersionTLS12
		}
		if got, err := dial(address, client); err != nil || got != test.want {
			t.Errorf("%s: %q got %q, %v, want %q", test.intent, test.serverName, got, err, test.want)
		}
	}
}

// TestChoiceOfOddNames has what Go's client does not send.
func TestChoiceOfOddNames(t *testing.T) {
	at := t.TempDir()
	s := newStore(t, Config{Pairs: []Pair{
		write(t, at, "first", template{names: []string{"first.test"}}),
		write(t, at, "dot", template{names: []string{"dot.test"}}),
		write(t, at, "ip", template{ips: []string{"10.0.0.1", "2001:db8::1"}}),
	}})
	tests := []struct {
		intent, serverName, want string
	}{
		{"a trailing dot", "dot.test.", "dot"},
		{"an IP address as the name", "10.0.0.1", "ip"},
		{"an IPv6 address, written at length", "2001:DB8:0::1", "ip"},
		{"a label that is empty", ".dot.test", "first"},
		{"a dot", ".", "first"},
	}
	for _, test := range tests {
		got := s.current.Load().choose(&tls.ClientHelloInfo{ServerName: test.serverName}).Leaf.Subject.CommonName
		if got != test.want {
			t.Errorf("%s: %q got %q, want %q", test.intent, test.serverName, got, test.want)
		}
	}
}

func TestStrictSNI(t *testing.T) {
	at := t.TempDir()
	pair := write(t, at, "only", template{names: []string{"known.test", "*.wild.test"}, ips: []string{"127.0.0.1"}})
	tests := []struct {
		intent     string
		serverName string
		refused    bool
	}{
		{"a name that is held", "known.test", false},
		{"a name that a wildcard covers", "a.wild.test", false},
		{"a name that nobody holds", "unknown.test", true},
		{"no name, though the address is held", "", true},
	}
	address := serve(t, newStore(t, Config{Pairs: []Pair{pair}, StrictSNI: true}).TLSConfig())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		for _, test := range tests {
			_, err := dial(address, &tls.Config{ServerName: test.serverName, MaxVersion: version})
			wantAlert(t, test.intent+" by "+tls.VersionName(version), err, test.refused, "unrecognized name")
		}
	}
}

// TestStrictSNIOnResumption: a ticket that was given for one name is no way in for another.
func TestStrictSNIOnResumption(t *testing.T) {
	pair := write(t, t.TempDir(), "only", template{names: []string{"known.test"}})
	address := serve(t, newStore(t, Config{Pairs: []Pair{pair}, StrictSNI: true}).TLSConfig())
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		tickets := &oneTicket{}
		client := &tls.Config{ServerName: "known.test", ClientSessionCache: tickets, MaxVersion: version}
		for _, wantResumed := range []bool{false, true} {
			state, err := handshake(address, client)
			if err != nil || state.DidResume != wantResumed {
				t.Fatalf("%s: resumed %v, %v, want %v", tls.VersionName(version), state.DidResume, err, wantResumed)
			}
		}
		client.ServerName = "unknown.test"
		_, err := handshake(address, client)
		wantAlert(t, "the ticket of another name by "+tls.VersionName(version), err, true, "unrecognized name")
	}
}

func TestMinVersion(t *testing.T) {
	pair := write(t, t.TempDir(), "only", template{names: []string{"known.test"}})
	tests := []struct {
		intent  string
		least   uint16
		client  uint16
		refused bool
	}{
		{"TLS 1.2 is in by default", 0, tls.VersionTLS12, false},
		{"TLS 1.1 is not", 0, tls.VersionTLS11, true},
		{"TLS 1.2 is not where 1.3 is the least", tls.VersionTLS13, tls.VersionTLS12, true},
		{"TLS 1.3", tls.VersionTLS13, tls.VersionTLS13, false},
	}
	for _, test := range tests {
		for _, strict := range []bool{false, true} {
			s := newStore(t, Config{Pairs: []Pair{pair}, MinVersion: test.least, StrictSNI: strict})
			client := &tls.Config{ServerName: "known.test", MinVersion: tls.VersionTLS10, MaxVersion: test.client}
			_, err := dial(serve(t, s.TLSConfig()), client)
			wantAlert(t, test.intent, err, test.refused, "protocol version not supported")
		}
	}
}

func TestProtocols(t *testing.T) {
	pair := write(t, t.TempDir(), "only", template{names: []string{"known.test"}})
	address := serve(t, newStore(t, Config{Pairs: []Pair{pair}}).TLSConfig())
	state, err := handshake(address, &tls.Config{ServerName: "known.test", NextProtos: []string{"h2", "http/1.1"}})
	if err != nil || state.NegotiatedProtocol != "http/1.1" {
		t.Errorf("negotiated %q, %v, want http/1.1: the server behind speaks nothing else", state.NegotiatedProtocol, err)
	}
}

func TestNewRefuses(t *testing.T) {
	at := t.TempDir()
	good, other := write(t, at, "good", template{}), write(t, at, "other", template{})
	mixed := Pair{Cert: good.Cert, Key: other.Key}
	missing := Pair{Cert: filepath.Join(at, "none"), Key: good.Key}
	garbage := Pair{Cert: filepath.Join(at, "garbage.pem"), Key: good.Key}
	overwrite(t, garbage.Cert, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
	chain := Pair{Cert: filepath.Join(at, "chain.pem"), Key: good.Key}
	overwrite(t, chain.Cert, append(read(t, good.Cert), read(t, garbage.Cert)...))

	tests := []struct {
		intent string
		config Config
		want   []string // in the error
	}{
		{"nothing to serve", Config{}, []string{"there is no certificate"}},
		{"a version that is broken", Config{Pairs: []Pair{good}, MinVersion: tls.VersionTLS11}, []string{"TLS 1.1"}},
		{"a key of another certificate", Config{Pairs: []Pair{mixed}}, []string{good.Cert, other.Key, "does not match"}},
		{"no such file", Config{Pairs: []Pair{missing}}, []string{missing.Cert, "no such file"}},
		{"a leaf that does not parse", Config{Pairs: []Pair{garbage}}, []string{garbage.Cert}},
		{"a chain that does not parse", Config{Pairs: []Pair{chain}}, []string{"certificate 2", chain.Cert}},
		{"all that is wrong is told at once", Config{Pairs: []Pair{garbage, good, mixed}}, []string{garbage.Cert, other.Key}},
	}
	for _, test := range tests {
		_, err := New(test.config)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: New gave %v, want %q in it", test.intent, err, want)
			}
		}
	}
}

func TestNotAfterAndWarnings(t *testing.T) {
	at := t.TempDir()
	now := time.Now().Truncate(time.Second)
	day := 24 * time.Hour
	s := newStore(t, Config{Pairs: []Pair{
		write(t, at, "good", template{names: []string{"a.test"}, ips: []string{"10.0.0.1"}, notAfter: now.Add(9 * day)}),
		write(t, at, "expired", template{names: []string{"b.test"}, notAfter: now.Add(-day)}),
		write(t, at, "future", template{names: []string{"c.test"}, notBefore: now.Add(day), notAfter: now.Add(8 * day)}),
		write(t, at, "second", template{names: []string{"A.test"}, notAfter: now.Add(7 * day)}),
		write(t, at, "rsa", template{names: []string{"a.test"}, notAfter: now.Add(8 * day), key: rsaKey}),
		write(t, at, "nameless", template{notAfter: now.Add(day)}),
	}})
	wantEnds := map[string]time.Time{
		"a.test":   now.Add(7 * day),
		"10.0.0.1": now.Add(9 * day),
		"b.test":   now.Add(-day),
		"c.test":   now.Add(8 * day),
	}
	if got := s.NotAfter(); !maps.EqualFunc(got, wantEnds, time.Time.Equal) {
		t.Errorf("NotAfter gave %v, want %v", got, wantEnds)
	}
	wantWarnings := []string{
		`expired.pem" expired on`,
		`future.pem" is not valid before`,
		`second.pem" is not used for "a.test", which`,
		`nameless.pem" holds no name`,
	}
	got := s.Warnings(now)
	if !slices.EqualFunc(got, wantWarnings, strings.Contains) {
		t.Errorf("Warnings gave %q, want %q", got, wantWarnings)
	}
}

// wantAlert checks that a client was refused with an alert, or not at all.
func wantAlert(t *testing.T, intent string, err error, refused bool, alert string) {
	t.Helper()
	switch {
	case !refused && err != nil:
		t.Errorf("%s: refused with %v", intent, err)
	case refused && (err == nil || !strings.Contains(err.Error(), alert)):
		t.Errorf("%s: got %v, want the alert %q", intent, err, alert)
	}
}
