package engine

import "strings"

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

// headerClasses maps lower-case names to classes.
type headerClasses map[string]headerClass

// headerTable finds the classes of names. It is immutable once built.
type headerTable struct {
	classes headerClasses
	shapes  [shapes / 64]uint64 // those of the names in classes: most names that pass have another
}

// shapes is how many shapes of names are told apart.
const shapes = 512

// shape is a number that names share which differ in case only, and few others.
func shape(name []byte) (word int, bit uint64) {
	if len(name) == 0 {
		return 0, 0
	}
	n := uint(len(name))<<4 ^ uint(name[0]|0x20)*5 ^ uint(name[len(name)-1]|0x20)
	return int(n / 64 % (shapes / 64)), 1 << (n % 64) // #nosec G115 -- less than shapes
}

func newHeaderTable(classes headerClasses) headerTable {
	t := headerTable{classes: headerClasses{}}
	for name, class := range classes {
		t.add(name, class)
	}
	return t
}

// add gives a name, in lower case, a class. It is for those who build the table.
func (t *headerTable) add(name string, class headerClass) {
	word, bit := shape([]byte(name))
	t.shapes[word] |= bit
	t.classes[name] = class
}

// longestHeader is the longest name that can be in a table; the loader refuses longer ones.
const longestHeader = 128

// What a byte of a name makes of it, as bits: a letter or digit, or a hyphen, makes nothing.
const (
	nameUnderscored = 1 << iota
	nameSigned      // by one of the other signs
)

// nameSigns is that of the signs that a token may have (RFC 9110 section 5.6.2).
var nameSigns = [256]uint8{
	'_': nameUnderscored, '!': nameSigned, '#': nameSigned, '$': nameSigned, '%': nameSigned, '&': nameSigned, '\'': nameSigned,
	'*': nameSigned, '+': nameSigned, '.': nameSigned, '^': nameSigned, '`': nameSigned, '|': nameSigned, '~': nameSigned,
}

// class finds a name's class without allocating. A name with an underscore is dropped: many servers
// read it as the one with a hyphen, so that it could pose as a field that the gateway controls. Some old
// ones read any sign so; but X.Fine and its like are in honest use, and dropped only if they do pose.
func (t *headerTable) class(name []byte) headerClass {
	signs := uint8(0)
	for _, c := range name {
		signs |= nameSigns[c]
	}
	word, bit := shape(name)
	switch {
	case signs&nameUnderscored != 0:
		return headerDropped
	case len(name) > longestHeader, signs == 0 && t.shapes[word]&bit == 0:
		return headerPlain
	}
	return t.find(name, signs != 0)
}

// lists says whether a name has a class of its own; nil lists none.
func (t *headerTable) lists(name []byte) bool { return t != nil && t.class(name) != headerPlain }

// find is class of a name that may be in the table, or pose as one that is.
func (t *headerTable) find(name []byte, signed bool) headerClass {
	var buffer [longestHeader]byte
	lower := buffer[:len(name)]
	for i, c := range name {
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		lower[i] = c
	}
	class := t.classes[string(lower)]
	if class != headerPlain || !signed {
		return class
	}
	for i, c := range lower {
		if !isAlphanumeric(c) {
			lower[i] = '-'
		}
	}
	if t.classes[string(lower)] != headerPlain {
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
	t := headerClasses{
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
	return newHeaderTable(t)
}

// responseHeaders builds the table of responses. ours is what only the gateway may tell clients.
func responseHeaders(ours ...string) headerTable {
	t := headerClasses{"x-ratelimit-limit": headerQuota, "x-ratelimit-remaining": headerQuota, "x-ratelimit-reset": headerQuota}
	for _, name := range ours {
		if name != "" {
			t[strings.ToLower(name)] = headerOurs
		}
	}
	for _, name := range hopByHop() {
		t[name] = headerDropped
	}
	return newHeaderTable(t)
}

// dropTable lists the names that a route takes away or sets itself; nil when there are none.
func dropTable(remove []string, set map[string]string) *headerTable {
	if len(remove)+len(set) == 0 {
		return nil
	}
	t := headerClasses{}
	for _, name := range remove {
		t[strings.ToLower(name)] = headerDropped
	}
	for name := range set {
		t[strings.ToLower(name)] = headerDropped
	}
	table := newHeaderTable(t)
	return &table
}
