package admin

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// admit says whether a request may see or change anything: nil, or the problem to answer with.
//
// A token settles it. Without one, the configuration vouches for a listener that only this machine can
// reach. That leaves two ways in, both through a browser on the machine: a name of the attacker's that
// resolves to it (DNS rebinding), which shows in Host, and a page of another site, which shows in Origin or
// Sec-Fetch-Site: a form of it that posts, or a script that cannot read an answer but takes all places of watchers.
// A link may lead here.
func (s *Server) admit(r *http.Request) *problem {
	if token := s.gateway.Admin().Token; token.IsSet() {
		if !bears(r, token.Reveal()) {
			return unauthorized()
		}
		return nil
	}
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	switch {
	case isUnix(local):
		return nil
	case !isLoopback(local):
		// A reload took the token away together with the address, but the old address stays until
		// the next start.
		return forbidden("this address needs [admin].token")
	case !harmlessHost(r.Host):
		return forbidden("the Host is neither localhost nor an address")
	case http.NewCrossOriginProtection().Check(r) != nil, fetchedElsewhere(r):
		return forbidden("the request comes from another site")
	}
	return nil
}

// fetchedElsewhere reports whether a page of another site asks, not the person who looks at it.
func fetchedElsewhere(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
}

// bears reports whether a request has the token, in a time that tells nothing about it.
func bears(r *http.Request, token string) bool {
	scheme, given, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(given))
	return strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}

func isUnix(a net.Addr) bool {
	_, ok := a.(*net.UnixAddr)
	return ok
}

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// harmlessHost reports whether nobody can make a Host lead here by DNS: an address is no name, and
// localhost never leaves the machine (RFC 6761, section 6.3).
func harmlessHost(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]")
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return name == "localhost" || strings.HasSuffix(name, ".localhost")
}
