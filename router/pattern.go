package router

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// MaxCaptures is the largest number of captures in one pattern.
const MaxCaptures = 16

// maxPattern is the length of the longest pattern, in bytes.
const maxPattern = 1<<13 - 1

// pattern is a parsed Route.Path: its segments in order, less a closing "*". The segments of "/a/"
// are "a" and "", those of "/" a single "".
type pattern struct {
	segments []segment
	rest     bool // ends in "*"
}

// segment is a literal, or a capture, whose text is then its name.
type segment struct {
	text    string
	capture bool
}

// parseRoutePath reads the pattern of a route.
func parseRoutePath(path string) (pattern, error) {
	p, err := parsePattern(path)
	if err != nil {
		return pattern{}, err
	}
	return p, p.checkParams(path)
}

// parsePattern reads a pattern and refuses every form that no normalised path could match. It lets
// captures repeat, as they may in a rewrite template.
func parsePattern(path string) (pattern, error) {
	if !strings.HasPrefix(path, "/") {
		return pattern{}, fmt.Errorf("path %q does not start with \"/\"", path)
	}
	if len(path) > maxPattern {
		return pattern{}, fmt.Errorf("path is longer than %d bytes", maxPattern)
	}
	var p pattern
	texts := strings.Split(path[1:], "/")
	for i, text := range texts {
		switch {
		case text == "*" && i == len(texts)-1:
			p.rest = true
		case strings.Contains(text, "*"):
			return pattern{}, fmt.Errorf(`path %q: "*" must be the whole last segment`, path)
		case strings.ContainsAny(text, "{}"):
			name, err := captureName(text)
			if err != nil {
				return pattern{}, fmt.Errorf("path %q: %w", path, err)
			}
			p.segments = append(p.segments, segment{text: name, capture: true})
		default:
			p.segments = append(p.segments, segment{text: text})
		}
	}
	return p, p.checkForm(path)
}

// captureName returns the name in a segment that has a brace.
func captureName(text string) (string, error) {
	name, opened := strings.CutPrefix(text, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !opened || !closed || strings.ContainsAny(name, "{}") {
		return "", fmt.Errorf("in %q, a capture must be a whole segment, as in /{name}/", text)
	}
	for i := range len(name) {
		b := name[i]
		letter := b == '_' || 'a' <= b|0x20 && b|0x20 <= 'z'
		if !letter && (i == 0 || b < '0' || b > '9') {
			return "", fmt.Errorf("capture %q: a name is made of letters, digits and _, and starts with no digit", text)
		}
	}
	if name == "" {
		return "", errors.New("capture {} has no name")
	}
	return name, nil
}

// checkForm refuses a pattern that is not in the normal form of paths.
func (p pattern) checkForm(path string) error {
	literal := p.example()
	normal, err := AppendNormalized(nil, []byte(literal), KeepEncodedSlash)
	switch {
	case err != nil:
		return fmt.Errorf("path %q is unreachable: every such request is refused: %w", path, err)
	case string(normal) != literal:
		return fmt.Errorf("path %q is unreachable: requests are normalised before matching, which makes %q of %q", path, normal, literal)
	}
	return nil
}

// checkParams refuses captures that cannot be told apart or do not fit Captures.
func (p pattern) checkParams(path string) error {
	params := p.params()
	if len(params) > MaxCaptures {
		return fmt.Errorf("path %q has %d captures, more than %d", path, len(params), MaxCaptures)
	}
	for i, name := range params {
		if slices.Contains(params[:i], name) {
			return fmt.Errorf("path %q has two captures named %q", path, name)
		}
	}
	return nil
}

// example is a path that the pattern matches: each capture takes its own name, "*" takes a "*".
func (p pattern) example() string {
	var b strings.Builder
	for _, s := range p.segments {
		b.WriteByte('/')
		b.WriteString(s.text)
	}
	if p.rest {
		b.WriteString("/*")
	}
	return b.String()
}

// params lists the names of the captures in order.
func (p pattern) params() []string {
	var names []string
	for _, s := range p.segments {
		if s.capture {
			names = append(names, s.text)
		}
	}
	return names
}
