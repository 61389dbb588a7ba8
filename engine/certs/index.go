package certs

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// index is all certificates, to be found by name; immutable.
type index struct {
	entries  []*entry // one per pair, in order
	exact    map[string][]*tls.Certificate
	wildcard map[string][]*tls.Certificate // by what follows "*."
	fallback []*tls.Certificate
}

func newIndex(entries []*entry) *index {
	ix := &index{
		entries:  entries,
		exact:    map[string][]*tls.Certificate{},
		wildcard: map[string][]*tls.Certificate{},
	}
	for _, e := range byPreference(entries) {
		for _, name := range e.names() {
			if parent, ok := strings.CutPrefix(name, "*."); ok {
				ix.wildcard[parent] = append(ix.wildcard[parent], e.certificate)
			} else {
				ix.exact[name] = append(ix.exact[name], e.certificate)
			}
		}
	}
	ix.fallback = ix.likeFirst()
	return ix
}

// likeFirst is the first certificate and those of other key types for its name.
func (ix *index) likeFirst() []*tls.Certificate {
	first := ix.entries[0]
	names := first.names()
	if len(names) == 0 {
		return []*tls.Certificate{first.certificate}
	}
	if parent, ok := strings.CutPrefix(names[0], "*."); ok {
		return ix.wildcard[parent]
	}
	return ix.exact[names[0]]
}

// byPreference orders by key type and otherwise as configured.
func byPreference(entries []*entry) []*entry {
	rank := func(e *entry) int {
		return slices.Index([]x509.PublicKeyAlgorithm{x509.ECDSA, x509.Ed25519, x509.RSA}, e.leaf().PublicKeyAlgorithm)
	}
	ordered := slices.Clone(entries)
	slices.SortStableFunc(ordered, func(a, b *entry) int { return cmp.Compare(rank(a), rank(b)) })
	return ordered
}

// choose returns the certificate for a client; its first choice, for the handshake to fail on, if the
// client can verify none.
func (ix *index) choose(hello *tls.ClientHelloInfo) *tls.Certificate {
	name := canonical(hello.ServerName)
	if name == "" {
		name = localIP(hello)
	}
	exact, wildcard := ix.lookup(name)
	candidates := slices.Concat(exact, wildcard)
	if len(candidates) == 0 {
		candidates = ix.fallback
	}
	anyName := *hello
	anyName.ServerName = "" // the names are ours to compare: what is left is the type of key
	for _, certificate := range candidates {
		if anyName.SupportsCertificate(certificate) == nil {
			return certificate
		}
	}
	return candidates[0]
}

func (ix *index) holds(serverName string) bool {
	exact, wildcard := ix.lookup(canonical(serverName))
	return len(exact)+len(wildcard) > 0
}

func (ix *index) lookup(name string) (exact, wildcard []*tls.Certificate) {
	if _, parent, ok := strings.Cut(name, "."); ok {
		wildcard = ix.wildcard[parent]
	}
	return ix.exact[name], wildcard
}

// canonical is the form in which names are compared: lower case, no trailing dot, IP addresses in their
// one short form.
func canonical(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().String()
	}
	return name
}

// localIP is the address that the client has connected to, empty if that is none.
func localIP(hello *tls.ClientHelloInfo) string {
	if hello.Conn == nil {
		return ""
	}
	local, ok := hello.Conn.LocalAddr().(*net.TCPAddr)
	if !ok {
		return ""
	}
	return local.AddrPort().Addr().Unmap().WithZone("").String()
}
