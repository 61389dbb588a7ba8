package engine

import (
	"bytes"
	"net/netip"
	"strconv"

	"github.com/sluice-gateway/sluice/engine/telemetry"
	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/router"
)

// parse turns the request line and Host into what is matched and forwarded.
func (x *exchange) parse() *Fault {
	f := x.conn.engine.faults
	if !validAuthority(x.host, x.line.Minor == 0) {
		return f.badRequest
	}
	if string(x.method) == "CONNECT" {
		return f.method
	}
	target := x.line.Target
	if bytes.IndexByte(target, '#') >= 0 {
		return f.badRequest
	}
	absolute := target[0] != '/'
	if absolute {
		var ok bool
		if target, ok = x.takeAuthority(target); !ok {
			return f.badRequest
		}
	}
	raw := target
	if i := bytes.IndexByte(target, '?'); i >= 0 {
		raw, x.query = target[:i], target[i:]
	}
	if absolute && len(raw) == 0 {
		raw = []byte("/")
	}
	var err error
	if x.path, err = router.AppendNormalized(x.path[:0], raw, x.snap.server.slashes); err != nil {
		return f.badPath
	}
	if string(x.method) == "TRACE" {
		return f.method
	}
	return nil
}

// takeAuthority takes the absolute form apart: its authority replaces Host (RFC 9112 section 3.2.2).
// What is left is path and query, either of which may be empty.
func (x *exchange) takeAuthority(target []byte) (rest []byte, ok bool) {
	i := bytes.Index(target, []byte("://"))
	if i < 0 || !wire.EqualFold(target[:i], "http") && !wire.EqualFold(target[:i], "https") {
		return nil, false
	}
	rest = target[i+3:]
	end := bytes.IndexAny(rest, "/?")
	if end < 0 {
		end = len(rest)
	}
	x.host = rest[:end]
	return rest[end:], validAuthority(x.host, false)
}

// validAuthority accepts host [":" port] without userinfo, of the bytes that names and addresses are
// made of. That is narrower than RFC 3986 (no percent-encoding, no sub-delims), as no host needs more.
func validAuthority(b []byte, emptyAllowed bool) bool {
	if len(b) == 0 {
		return emptyAllowed
	}
	host, port := b, []byte(nil)
	if b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 2 {
			return false
		}
		for _, c := range b[1:end] {
			if !isHex(c) && c != ':' && c != '.' {
				return false
			}
		}
		host, port = nil, b[end+1:]
	} else if i := bytes.IndexByte(b, ':'); i >= 0 {
		host, port = b[:i], b[i:]
		if i == 0 {
			return false
		}
	}
	for _, c := range host {
		if !isAlphanumeric(c) && c != '-' && c != '.' && c != '_' {
			return false
		}
	}
	return validPort(port)
}

func validPort(b []byte) bool {
	if len(b) == 0 {
		return true
	}
	if b[0] != ':' || len(b) < 2 || len(b) > 6 {
		return false
	}
	n := 0
	for _, c := range b[1:] {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'f'
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c|0x20 && c|0x20 <= 'z'
}

// identify gives the exchange its request id, the client's, if it is one, or a new one; and its place in a trace.
func (x *exchange) identify() {
	x.requestID = x.requestID[:0]
	x.traced.Reset()
	for _, f := range x.fields {
		if len(x.requestID) == 0 && wire.EqualFold(f.Name, x.snap.server.requestIDLower) && validRequestID(f.Value) {
			x.requestID = append(x.requestID, f.Value...)
		}
		x.traced.Read(f.Name, f.Value)
	}
	if len(x.requestID) == 0 {
		x.requestID = x.conn.engine.appendRequestID(x.requestID)
	}
	x.trace.Begin(&x.traced, x.conn.engine.random, x.snap.tracing.share)
	x.recording.on = x.snap.tracing.tracer != nil && x.trace.Sampled()
}

// appendRequestID appends a new request id.
func (e *Engine) appendRequestID(dst []byte) []byte {
	return telemetry.AppendHex(telemetry.AppendHex(dst, e.random()), e.random())
}

// validRequestID accepts what is safe in a header, in JSON and in a log line, of a bounded length.
func validRequestID(b []byte) bool {
	if len(b) == 0 || len(b) > 64 {
		return false
	}
	for _, c := range b {
		if !isAlphanumeric(c) && c != '-' && c != '_' && c != '.' {
			return false
		}
	}
	return true
}

// appendHead appends the request as the target gets it, to dst: a fresh one, made from what was
// parsed and may pass. The fields that are ours come last, so that nothing a client sends can take
// one of them away.
func (x *exchange) appendHead(dst []byte) []byte {
	dst = append(dst, x.method...)
	dst = append(dst, ' ')
	dst = x.appendTarget(dst)
	dst = append(dst, " HTTP/1.1\r\nHost: "...)
	dst = x.appendHost(dst)
	dst = append(dst, "\r\n"...)
	for _, f := range x.fields {
		if x.passes(f.Name) {
			dst = appendField(dst, f.Name, f.Value)
		}
	}
	dst = x.appendForwarded(dst)
	dst = x.appendIDs(dst)
	if !x.route.untraced {
		dst = x.trace.AppendFields(dst, x.attemptSpan())
	}
	dst = x.appendIdentity(dst)
	dst = append(dst, x.route.requestSet...)
	dst = x.appendFraming(dst)
	return append(dst, "\r\n"...)
}

func (x *exchange) appendTarget(dst []byte) []byte {
	switch r := x.route; {
	case r.rewrite != nil:
		dst = r.rewrite.Append(dst, x.path, &x.captures)
	case r.strip:
		dst = append(dst, x.captures.Rest(x.path)...)
	default:
		dst = append(dst, x.path...)
	}
	return append(dst, x.query...)
}

func (x *exchange) appendHost(dst []byte) []byte {
	switch {
	case x.pool.host != "":
		return append(dst, x.pool.host...)
	case len(x.host) > 0:
		return append(dst, x.host...)
	default:
		return append(dst, x.target.Host()...)
	}
}

// passes says whether a client's field may reach the target.
func (x *exchange) passes(name []byte) bool {
	switch class := x.snap.headers.class(name); {
	case class == headerDropped, class == headerOurs:
		return false
	case class == headerForwarded && !x.trusted:
		return false
	case class == headerRewritten:
		return false
	case class == headerTraceState && (x.route.untraced || !x.trace.KeepsState()):
		return false
	}
	if x.route.requestDrop.lists(name) {
		return false
	}
	return !x.route.carriesCredential(name, x.principal) && !namedInConnection(x.fields, name)
}

// namedInConnection says whether a Connection field makes name a matter of one hop (RFC 9110
// section 7.6.1).
func namedInConnection(fields []wire.Field, name []byte) bool {
	for _, f := range fields {
		if wire.EqualFold(f.Name, "connection") && wire.HasToken(f.Value, name) {
			return true
		}
	}
	return false
}

func (x *exchange) appendFraming(dst []byte) []byte {
	switch {
	case x.framing.Kind == wire.Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
		return x.appendTrailerNames(dst)
	case x.framing.Kind == wire.Length:
		dst = append(dst, "Content-Length: "...)
		dst = strconv.AppendInt(dst, x.framing.Length, 10)
		return append(dst, "\r\n"...)
	case len(x.upgrade) > 0:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: "...)
		dst = append(dst, x.upgrade...)
		return append(dst, "\r\n"...)
	}
	switch string(x.method) {
	case "POST", "PUT", "PATCH":
		dst = append(dst, "Content-Length: 0\r\n"...)
	}
	return dst
}

// appendTrailerNames announces the trailers that the client announced and that may pass.
func (x *exchange) appendTrailerNames(dst []byte) []byte {
	for _, f := range x.fields {
		if !wire.EqualFold(f.Name, "trailer") {
			continue
		}
		for name := range wire.Tokens(f.Value) {
			if x.trailerPasses(name) {
				dst = appendField(dst, []byte("Trailer"), name)
			}
		}
	}
	return dst
}

// trailerPasses says whether a field may follow the request's body: what may not be sent in the head
// may not come behind it either, whoever is trusted.
func (x *exchange) trailerPasses(name []byte) bool {
	return x.snap.headers.class(name) == headerPlain && x.passes(name)
}

func appendField(dst, name, value []byte) []byte {
	dst = append(dst, name...)
	dst = append(dst, ": "...)
	dst = append(dst, value...)
	return append(dst, "\r\n"...)
}

// clientKey is the address that identifies the client.
func (x *exchange) clientKey() netip.Addr { return x.snap.server.clientKey(x.client) }
