package router

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Limits of RFC 1035, 2.3.4, in bytes.
const (
	maxHost  = 253
	maxLabel = 63
)

// hostIndex finds the trees of a host. A tree is known by the node that its search starts with, none
// if it has no route.
type hostIndex struct {
	exact    map[string]uint32
	wildcard map[string]uint32 // by suffix with its first dot: ".example.com" for "*.example.com"
	longest  int               // of the suffixes in wildcard
	any      uint32
}

// empty reports whether there are only routes of any host.
func (h *hostIndex) empty() bool { return len(h.exact)+len(h.wildcard) == 0 }

// nextWildcard finds the longest wildcard suffix of name that starts after from; at is where it
// starts, len(name) if there is none.
func (h *hostIndex) nextWildcard(name []byte, from int) (tree uint32, at int) {
	at = max(from+1, len(name)-h.longest)
	for at < len(name) {
		if name[at] == '.' {
			if tree, ok := h.wildcard[string(name[at:])]; ok {
				return tree, at
			}
		}
		at++
	}
	return none, len(name)
}

// hostName reduces a Host header to the lower-case name that routes are kept under: no port, no
// trailing dot. It uses buf only when there is something to lower. A name too long to be one is "".
func hostName(host []byte, buf *[maxHost]byte) []byte {
	if len(host) > 0 && host[0] == '[' {
		host = host[:bytes.IndexByte(host, ']')+1]
	} else if colon := bytes.IndexByte(host, ':'); colon >= 0 {
		host = host[:colon]
	}
	if n := len(host); n > 0 && host[n-1] == '.' {
		host = host[:n-1]
	}
	if len(host) > maxHost {
		return nil
	}
	for i, b := range host {
		if 'A' <= b && b <= 'Z' {
			return appendLower(append(buf[:0], host[:i]...), host[i:])
		}
	}
	return host
}

func appendLower(dst, s []byte) []byte {
	for _, b := range s {
		if 'A' <= b && b <= 'Z' {
			b += 'a' - 'A'
		}
		dst = append(dst, b)
	}
	return dst
}

// parseHosts checks a route's hosts and returns them in lower case; no hosts are the one host "",
// which stands for any.
func parseHosts(hosts []string) ([]string, error) {
	if len(hosts) == 0 {
		return []string{""}, nil
	}
	names := make([]string, 0, len(hosts))
	for _, host := range hosts {
		name := string(appendLower(nil, []byte(host)))
		if err := checkHost(name); err != nil {
			return nil, fmt.Errorf("host %q: %w", host, err)
		}
		for _, before := range names {
			if before == name {
				return nil, fmt.Errorf("host %q is given twice", host)
			}
		}
		names = append(names, name)
	}
	return names, nil
}

// checkHost judges a lower-case host of a route: a name, "*." and a name, an IPv4 address, or an
// IPv6 address in brackets.
func checkHost(name string) error {
	if inner, ok := strings.CutPrefix(name, "["); ok {
		addr, err := netip.ParseAddr(strings.TrimSuffix(inner, "]"))
		if err != nil || !addr.Is6() || "["+addr.WithZone("").String()+"]" != name {
			return errors.New("not an IPv6 address in its shortest form, as in [::1]")
		}
		return nil
	}
	if len(name) > maxHost {
		return fmt.Errorf("longer than %d bytes", maxHost)
	}
	for label := range strings.SplitSeq(strings.TrimPrefix(name, "*."), ".") {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	return nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return errors.New("a name between dots is empty")
	case len(label) > maxLabel:
		return fmt.Errorf("%q is longer than %d bytes", label, maxLabel)
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("%q starts or ends with a hyphen", label)
	case strings.ContainsRune(label, ':'):
		return errors.New("a route's host has no port")
	case strings.ContainsRune(label, '*'):
		return errors.New(`"*" must be the whole first label, as in "*.example.com"; leave hosts empty for any host`)
	}
	for i := range len(label) {
		b := label[i]
		if b != '-' && b != '_' && (b < '0' || b > '9') && (b < 'a' || b > 'z') {
			return fmt.Errorf("%q may not hold %q; write international names in punycode", label, b)
		}
	}
	return nil
}
