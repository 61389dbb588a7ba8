package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

var errTarget = errors.New(`want "http://HOST:PORT" or "https://HOST:PORT" and nothing behind it, or "unix:/PATH"`)

// checkKind holds a string, which is not empty, against the syntax its kind tag names. It gives what is wrong, or "",
// and a guess at what was meant. It does not repeat the string where that may be a secret.
func checkKind(kind, text string) (message, guess string) {
	switch kind {
	case "name":
		return unless(isName(text), "want a name of letters, digits, \".\", \"_\" and \"-\", not %q", text), ""
	case "listen":
		return checkListen(text)
	case "address":
		return unless(isAddress(text), "want HOST:PORT or :PORT, not %q", text), ""
	case "peer":
		host, _, _ := net.SplitHostPort(text)
		return unless(isAddress(text) && host != "", "want HOST:PORT, not %q", text), ""
	case "header":
		return unless(isToken(text), "%q cannot be the name of a header", text), ""
	case "own-header":
		return checkOwnHeader(text), ""
	case "method":
		upper := strings.ToUpper(text)
		return unless(isToken(text) && text == upper, "want a method such as \"GET\", not %q", text), differing(upper, text)
	case "host":
		return unless(isHost(text), "want a host name, not %q", text), ""
	case "hostport":
		return unless(isHost(text) || isAddress(text), "want a host name, with or without a port, not %q", text), ""
	case "url":
		return unless(isHTTPURL(text), "want a URL such as \"https://HOST/PATH\", not %q", withoutPassword(text)), ""
	case "url-or-path":
		return unless(!strings.Contains(text, "://") || isHTTPURL(text), "want an https:// URL or a file, not %q", withoutPassword(text)), ""
	case "redis":
		return unless(isRedisURL(text), "want a URL such as \"redis://HOST:PORT/0\", with redis, rediss, redis-sentinel or redis-cluster"), ""
	case "route-path":
		return unless(text[0] == '/', "want a path that starts with \"/\", not %q", text), differing("/"+text, text)
	case "origin":
		return unless(text == "*" || isOrigin(text), "want an origin such as \"https://app.example.com\", or \"*\", not %q", text), ""
	}
	return "", ""
}

func unless(ok bool, format string, args ...any) string {
	if ok {
		return ""
	}
	return fmt.Sprintf(format, args...)
}

// differing drops a guess that is what was written.
func differing(guess, text string) string {
	if guess == text {
		return ""
	}
	return guess
}

func checkListen(text string) (message, guess string) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		return unless(path != "", "want a path behind \"unix:\""), ""
	}
	if name, ok := strings.CutPrefix(text, "systemd:"); ok {
		return unless(isName(name), "want the name of a socket unit behind \"systemd:\""), ""
	}
	if isAddress(text) {
		return "", ""
	}
	if isAddress(":" + text) {
		guess = ":" + text
	}
	return fmt.Sprintf("want HOST:PORT, :PORT, unix:PATH or systemd:NAME, not %q", text), guess
}

// checkOwnHeader refuses the headers that belong to a connection or frame a message: the gateway writes
// those itself, and another value could let two parsers disagree about where a message ends.
func checkOwnHeader(text string) string {
	if !isToken(text) {
		return fmt.Sprintf("%q cannot be the name of a header", text)
	}
	switch strings.ToLower(text) {
	case "connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "content-length", "host":
		return fmt.Sprintf("%q cannot be changed: the gateway writes this header itself", text)
	}
	return ""
}

func isName(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && !strings.ContainsRune("._-", rune(c)) {
			return false
		}
	}
	return s != ""
}

// isToken follows RFC 9110, section 5.6.2.
func isToken(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isAlphanumeric(c) && !strings.ContainsRune("!#$%&'*+-.^_`|~", rune(c)) {
			return false
		}
	}
	return s != ""
}

func isHost(s string) bool {
	if _, err := netip.ParseAddr(strings.Trim(s, "[]")); err == nil {
		return true
	}
	return isName(s)
}

func isAddress(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == port && (host == "" || isHost(host))
}

func isHTTPURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Hostname() != "" && u.User == nil
}

// withoutPassword makes a URL fit for a message.
func withoutPassword(text string) string {
	scheme, rest, isURL := strings.Cut(text, "://")
	at := strings.LastIndexByte(rest, '@')
	if !isURL || at < 0 {
		return text
	}
	return scheme + "://…" + rest[at:]
}

func isRedisURL(s string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Host != "" && slices.Contains([]string{"redis", "rediss", "redis-sentinel", "redis-cluster"}, u.Scheme)
}

func isOrigin(s string) bool {
	u, err := parseTarget(s)
	return err == nil && u.Path == ""
}

// parseTarget reads SCHEME://HOST:PORT or unix:/PATH, and refuses what a balancer has no use for.
func parseTarget(text string) (*url.URL, error) {
	if path, ok := strings.CutPrefix(text, "unix:"); ok {
		if !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") || strings.IndexFunc(path, isControl) >= 0 {
			return nil, errTarget
		}
		return &url.URL{Scheme: "unix", Opaque: path}, nil
	}
	u, err := url.Parse(text)
	if err != nil || !isHTTPURL(text) || !isHost(u.Hostname()) {
		return nil, errTarget
	}
	if port := u.Port(); port != "" && !isAddress(":"+port) || strings.HasSuffix(u.Host, ":") || u.Port() == "0" {
		return nil, errTarget
	}
	if u.Path != "" && u.Path != "/" || strings.ContainsAny(text, "?#") {
		return nil, errTarget
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}
