package engine

import (
	"bytes"
	"strings"
)

// headerClass says what becomes of a field that a client or a target sends.
type headerClass uint8

const (
	headerPlain      headerClass = iota // passes
	headerDropped                       // a matter of one hop, or ambiguous: never passes
	headerOurs                          // only the gateway may say it: identity, request id
	headerForwarded                     // passes from trusted proxies
	headerQuota                         // a target's own X-RateLimit field: passes unless ours is stricter
	headerRewritten                     // written anew from what is known, and from what trusted proxies say
	headerTraceState                    // passes as long as it belongs to the trace that the request is part of
)

// headerTable maps lower-case names to classes. It is immutable once built.
type headerTable map[string]headerClass

// longestHeader is the longest name that can be in a table; the loader refuses longer ones.
const longestHeader = 128

// class finds a name's class without allocating. A name with an underscore is dropped: many servers
// read it as the one with a hyphen, so that it could pose as a field that the gateway controls. Some old
// ones read any sign so; but X.Fine and its like are in honest use, and dropped only if they do pose.
func (t headerTable) class(name []byte) headerClass {
	var lower [longestHeader]byte
	if len(name) > len(lower) {
		if bytes.IndexByte(name, '_') >= 0 {
			return headerDropped
		}
		return headerPlain
	}
	signs := false
	for i, c := range name {
		switch {
		case 'a' <= c && c <= 'z', c == '-', '0' <= c && c <= '9':
		case 'A' <= c && c <= 'Z':
			c |= 0x20
		case c == '_':
			return headerDropped
		default:
			signs = true
		}
		lower[i] = c
	}
	if signs {
		return t.posing(lower[:len(name)])
	}
	return t[string(lower[:len(name)])]
}

// posing is the class of a name that has other signs than hyphens, with those and without. It changes lower.
func (t headerTable) posing(lower []byte) headerClass {
	if class := t[string(lower)]; class != headerPlain {
		return class
	}
	for i, c := range lower {
		if !isAlphanumeric(c) {
			lower[i] = '-'
		}
	}
	if t[string(lower)] != headerPlain {
		return headerDropped
	}
	return headerPlain
}

// hopByHop lists what concerns one connection only (RFC 9110 section 7.6.1), in both directions.
func hopByHop() []string {
	return []string{
		"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
		"proxy-authenticate", "proxy-authorization", "http2-settings", "content-length",
	}
}

// requestHeaders builds the table of requests. ours is what only the gateway may tell upstreams.
func requestHeaders(ours ...string) headerTable {
	t := headerTable{
		"host":   headerDropped, // written from what was matched
		"expect": headerDropped, // answered here
		"proxy":  headerDropped, // httpoxy, CVE-2016-5385

		"x-forwarded-for":    headerRewritten,
		"x-forwarded-proto":  headerRewritten,
		"x-forwarded-host":   headerRewritten,
		"x-forwarded-prefix": headerRewritten,
		"forwarded":          headerRewritten,

		"x-forwarded-port":        headerForwarded,
		"x-forwarded-server":      headerForwarded,
		"x-forwarded-ssl":         headerForwarded,
		"x-forwarded-scheme":      headerForwarded,
		"x-forwarded-uri":         headerForwarded,
		"x-forwarded-method":      headerForwarded,
		"x-forwarded-client-cert": headerForwarded,
		"x-original-url":          headerForwarded,
		"x-rewrite-url":           headerForwarded,
		"x-real-ip":               headerForwarded,

		"traceparent":       headerOurs,
		"tracestate":        headerTraceState,
		"b3":                headerOurs,
		"x-b3-traceid":      headerOurs,
		"x-b3-spanid":       headerOurs,
		"x-b3-parentspanid": headerOurs,
		"x-b3-sampled":      headerOurs,
		"x-b3-flags":        headerOurs,
	}
	for _, name := range hopByHop() {
		t[name] = headerDropped
	}
	for _, name := range ours {
		if name != "" {
			t[strings.ToLower(name)] = headerOurs
		}
	}
	return t
}

// responseHeaders builds the table of responses. ours is what only the gateway may tell clients.
func responseHeaders(ours ...string) headerTable {
	t := headerTable{"x-ratelimit-limit": headerQuota, "x-ratelimit-remaining": headerQuota, "x-ratelimit-reset": headerQuota}
	for _, name := range ours {
		if name != "" {
			t[strings.ToLower(name)] = headerOurs
		}
	}
	for _, name := range hopByHop() {
		t[name] = headerDropped
	}
	return t
}

// dropTable lists the names that a route takes away or sets itself; nil when there are none.
func dropTable(remove []string, set map[string]string) headerTable {
	if len(remove)+len(set) == 0 {
		return nil
	}
	t := headerTable{}
	for _, name := range remove {
		t[strings.ToLower(name)] = headerDropped
	}
	for name := range set {
		t[strings.ToLower(name)] = headerDropped
	}
	return t
}
