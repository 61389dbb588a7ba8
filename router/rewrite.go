package router

import "fmt"

// Rewrite makes the path to forward out of a matched path. It never changes: any number of goroutines
// may use it.
type Rewrite struct{ parts []rewritePart }

// rewritePart is literal text, then a capture's value or the rest of the path.
type rewritePart struct {
	text string
	then int // index of a capture, or a constant below
}

const (
	thenNothing = -1 - iota
	thenRest
)

// CompileRewrite compiles a template for routes with this pattern. A template is written like a
// pattern: {name} stands for what the capture of that name took, any number of times; a closing "*"
// for what the pattern's "*" took, so that "/x/*" makes /x/42 of /users/42, /x/ of /users/ and /x of
// /users for the pattern "/users/*". A name the pattern does not have, a "*" it does not have, and a
// template not in the normal form of paths are errors.
func CompileRewrite(template, pattern string) (*Rewrite, error) {
	from, err := parseRoutePath(pattern)
	if err != nil {
		return nil, fmt.Errorf("rewrite of %w", err)
	}
	to, err := parsePattern(template)
	if err != nil {
		return nil, fmt.Errorf("rewrite to %w", err)
	}
	captures := map[string]int{}
	for i, name := range from.params() {
		captures[name] = i
	}
	r := &Rewrite{}
	text := ""
	for _, s := range to.segments {
		text += "/"
		if !s.capture {
			text += s.text
			continue
		}
		capture, ok := captures[s.text]
		if !ok {
			return nil, fmt.Errorf("rewrite to path %q: pattern %q has no capture {%s}", template, pattern, s.text)
		}
		r.parts = append(r.parts, rewritePart{text, capture})
		text = ""
	}
	switch {
	case to.rest && !from.rest:
		return nil, fmt.Errorf(`rewrite to path %q: pattern %q has no "*"`, template, pattern)
	case to.rest:
		r.parts = append(r.parts, rewritePart{text, thenRest})
	default:
		r.parts = append(r.parts, rewritePart{text, thenNothing})
	}
	return r, nil
}

// Append appends the rewritten path to dst. path and c must be those of a match of a route with the
// pattern the rewrite was compiled for. The result is then as normal as path is: it starts with one
// slash, never two, and has no dot segment. Nothing is allocated while dst has room.
func (r *Rewrite) Append(dst, path []byte, c *Captures) []byte {
	start := len(dst)
	for _, part := range r.parts {
		dst = append(dst, part.text...)
		switch part.then {
		case thenNothing:
		case thenRest:
			dst = append(dst, path[c.rest-1:]...)
		default:
			dst = append(dst, c.Value(path, part.then)...)
		}
	}
	if len(dst) == start {
		return append(dst, '/')
	}
	return dst
}
