package engine

import (
	"bytes"
	"net/netip"
	"unsafe"

	"github.com/sluice-gateway/sluice/engine/wire"
)

// locate finds out who the client is: the peer, or, behind trusted proxies, the first hop that is
// not one of them, walking X-Forwarded-For (or Forwarded) from right to left. A hop that is no
// address ends the walk: what lies beyond it cannot be trusted.
func (x *exchange) locate() {
	x.client = x.conn.peer
	x.trusted = x.snap.server.trusts(x.client)
	if !x.trusted {
		return
	}
	name, hop := "x-forwarded-for", parseHop
	if !x.has(name) {
		name, hop = "forwarded", parseForwardedElement
	}
	for i := len(x.fields) - 1; i >= 0; i-- {
		if !wire.EqualFold(x.fields[i].Name, name) {
			continue
		}
		for list := x.fields[i].Value; len(list) > 0; {
			var last []byte
			list, last = cutLast(list)
			address, ok := hop(last)
			if !ok {
				return
			}
			x.client = address
			if !x.snap.server.trusts(address) {
				return
			}
		}
	}
}

func (x *exchange) has(name string) bool {
	for _, f := range x.fields {
		if wire.EqualFold(f.Name, name) {
			return true
		}
	}
	return false
}

func cutLast(list []byte) (rest, last []byte) {
	if i := bytes.LastIndexByte(list, ','); i >= 0 {
		return list[:i], bytes.TrimSpace(list[i+1:])
	}
	return nil, bytes.TrimSpace(list)
}

// parseHop reads an address as proxies write it: bare, with a port, or in brackets.
func parseHop(b []byte) (netip.Addr, bool) {
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		b = b[1:end]
	} else if i := bytes.IndexByte(b, ':'); i >= 0 && bytes.IndexByte(b[i+1:], ':') < 0 {
		b = b[:i]
	}
	if len(b) == 0 || len(b) > 64 {
		return netip.Addr{}, false
	}
	// The string does not outlive the call, and nobody writes b meanwhile.
	a, err := netip.ParseAddr(unsafe.String(&b[0], len(b)))
	return a.Unmap().WithZone(""), err == nil
}

// parseForwardedElement reads the for parameter of one element of Forwarded (RFC 7239 section 4).
func parseForwardedElement(element []byte) (netip.Addr, bool) {
	for len(element) > 0 {
		var pair []byte
		pair, element, _ = bytes.Cut(element, []byte{';'})
		name, value, ok := bytes.Cut(bytes.TrimSpace(pair), []byte{'='})
		if ok && wire.EqualFold(name, "for") {
			return parseHop(bytes.Trim(value, `"`))
		}
	}
	return netip.Addr{}, false
}

// appendForwarded writes what targets are told of the way a request came. From a peer that is not
// trusted, only what the gateway itself saw is said.
func (x *exchange) appendForwarded(dst []byte) []byte {
	dst = x.appendForwardedFor(dst)
	scheme := "http"
	if x.conn.secure != nil {
		scheme = "https"
	}
	if said := x.trustedValue("x-forwarded-proto"); wire.EqualFold(said, "https") || wire.EqualFold(said, "http") {
		dst = appendField(dst, []byte("X-Forwarded-Proto"), said)
	} else {
		dst = append(dst, "X-Forwarded-Proto: "...)
		dst = append(append(dst, scheme...), "\r\n"...)
	}
	if said := x.trustedValue("x-forwarded-host"); len(said) > 0 {
		dst = appendField(dst, []byte("X-Forwarded-Host"), said)
	} else if len(x.host) > 0 {
		dst = appendField(dst, []byte("X-Forwarded-Host"), x.host)
	}
	dst = x.appendForwardedPrefix(dst)
	if x.trusted && x.has("forwarded") {
		dst = x.appendForwardedElement(dst, scheme)
	}
	return dst
}

func (x *exchange) appendForwardedFor(dst []byte) []byte {
	mark := len(dst)
	dst = append(dst, "X-Forwarded-For: "...)
	empty := len(dst)
	if x.trusted {
		dst = x.appendValues(dst, "x-forwarded-for")
	}
	if x.conn.peer.IsValid() {
		if len(dst) > empty {
			dst = append(dst, ", "...)
		}
		dst = x.conn.peer.AppendTo(dst)
	}
	if len(dst) == empty {
		return dst[:mark]
	}
	return append(dst, "\r\n"...)
}

func (x *exchange) appendForwardedPrefix(dst []byte) []byte {
	said := x.trustedValue("x-forwarded-prefix")
	if !x.route.strip {
		if len(said) > 0 {
			dst = appendField(dst, []byte("X-Forwarded-Prefix"), said)
		}
		return dst
	}
	prefix := bytes.TrimSuffix(x.path, x.captures.Rest(x.path))
	said = bytes.TrimSuffix(said, []byte{'/'})
	if len(said)+len(prefix) == 0 {
		return dst
	}
	dst = append(dst, "X-Forwarded-Prefix: "...)
	dst = append(dst, said...)
	dst = append(dst, prefix...)
	return append(dst, "\r\n"...)
}

func (x *exchange) appendForwardedElement(dst []byte, scheme string) []byte {
	dst = append(dst, "Forwarded: "...)
	dst = x.appendValues(dst, "forwarded")
	if peer := x.conn.peer; peer.Is4() {
		dst = append(dst, ", for="...)
		dst = peer.AppendTo(dst)
	} else if peer.IsValid() {
		dst = append(dst, `, for="[`...)
		dst = peer.AppendTo(dst)
		dst = append(dst, `]"`...)
	} else {
		dst = append(dst, ", for=unknown"...)
	}
	if len(x.host) > 0 {
		dst = append(dst, `;host="`...)
		dst = append(dst, x.host...)
		dst = append(dst, '"')
	}
	dst = append(dst, ";proto="...)
	dst = append(dst, scheme...)
	return append(dst, "\r\n"...)
}

// trustedValue is the value of a field that came once, from a trusted proxy.
func (x *exchange) trustedValue(name string) []byte {
	if !x.trusted {
		return nil
	}
	var value []byte
	for _, f := range x.fields {
		if wire.EqualFold(f.Name, name) {
			if value != nil {
				return nil
			}
			value = f.Value
		}
	}
	return value
}

// appendValues joins the lines of a list field.
func (x *exchange) appendValues(dst []byte, name string) []byte {
	empty := len(dst)
	for _, f := range x.fields {
		if wire.EqualFold(f.Name, name) && len(f.Value) > 0 {
			if len(dst) > empty {
				dst = append(dst, ", "...)
			}
			dst = append(dst, f.Value...)
		}
	}
	return dst
}
