package config

import (
	"slices"
	"strings"
)

func (l *loader) checkRoutes() {
	l.checkAuthList("defaults.auth", l.file.Defaults.Auth)
	l.checkLimitList("defaults.limits", l.file.Defaults.Limits)
	seen := make(map[string]int)
	for i, r := range l.file.Route {
		key := elementKey("route", i)
		if first, taken := seen[r.Name]; taken && r.Name != "" {
			l.fault(key+".name", "%q is taken by %s", r.Name, elementKey("route", first))
		} else {
			seen[r.Name] = i
		}
		l.checkRoute(key, r)
	}
}

func (l *loader) checkRoute(key string, r *Route) {
	if r.To != "" {
		l.checkDestination(key+".to", r.To)
	}
	l.checkAccess(key, r)
	if l.written(key + ".limits") {
		l.checkLimitList(key+".limits", r.Limits)
	}
	if r.StripPrefix && r.Path != "" && !strings.HasSuffix(r.Path, "*") {
		l.fault(key+".strip_prefix", "forwards what \"*\" stands for, and the path %q has none at its end", r.Path)
	}
	if r.StripPrefix && r.Rewrite != "" {
		l.fault(key+".rewrite", "cannot stand beside strip_prefix: both say what path to forward")
	}
	l.checkHeaderEdit(key+".request_headers", r.RequestHeaders)
	l.checkHeaderEdit(key+".response_headers", r.ResponseHeaders)
	if r.CORS != nil && r.CORS.Credentials && slices.Contains(r.CORS.Origins, "*") {
		l.fault(key+".cors.credentials", "browsers refuse it for origins = [\"*\"]: name the origins")
	}
}

// checkAccess wants every route to say who may pass, or [defaults] to say it.
func (l *loader) checkAccess(key string, r *Route) {
	written := l.written(key + ".auth")
	switch {
	case len(r.Auth) == 0 && (l.faulted(key+".auth") || l.faulted("defaults.auth")):
		return
	case written && len(r.Auth) == 0:
		l.fault(key+".auth", "must not be empty: [\"none\"] makes a route public")
		return
	case len(r.Auth) == 0:
		l.fault(key+".auth", "missing, and [defaults] has none: [\"none\"] makes a route public")
		return
	case written:
		l.checkAuthList(key+".auth", r.Auth)
	}
	if len(r.Scopes) > 0 && slices.Contains(r.Auth, "none") {
		l.fault(key+".scopes", "a public route knows no client that could have scopes")
	}
}

func (l *loader) checkAuthList(key string, methods []string) {
	for i, method := range methods {
		entry := elementKey(key, i)
		if l.faulted(entry) {
			continue
		}
		if slices.Contains(methods[:i], method) {
			l.fault(entry, "%q is there twice", method)
		}
		if method == "none" && len(methods) > 1 {
			l.fault(entry, "\"none\" stands alone: beside it nobody would have to authenticate")
		}
		switch kind, name, _ := strings.Cut(method, ":"); kind {
		case "jwt":
			l.checkMethod(entry, kind, name, sortedKeys(l.file.Auth.JWT))
		case "introspection":
			l.checkMethod(entry, kind, name, sortedKeys(l.file.Auth.Introspection))
		}
	}
}

// checkMethod wants the table to exist that a method such as jwt:NAME speaks of.
func (l *loader) checkMethod(key, kind, name string, known []string) {
	if slices.Contains(known, name) {
		return
	}
	guess := nearest(name, known)
	if guess != "" {
		guess = kind + ":" + guess
	}
	l.suggest(key, guess, "there is no [%s]", childKey("auth."+kind, name))
}

func (l *loader) checkLimitList(key string, names []string) {
	var known []string
	for _, limit := range l.file.Limit {
		known = append(known, limit.Name)
	}
	for i, name := range names {
		entry := elementKey(key, i)
		if slices.Contains(names[:i], name) {
			l.fault(entry, "%q is there twice", name)
		} else if !slices.Contains(known, name) && !l.faulted(entry) {
			l.suggest(entry, nearest(name, known), "there is no limit %q", name)
		}
	}
}

func (l *loader) checkHeaderEdit(key string, edit HeaderEdit) {
	var seen []string
	for _, name := range sortedKeys(edit.Set) {
		entry := childKey(key+".set", name)
		if i := strings.IndexFunc(edit.Set[name], isControl); i >= 0 {
			l.fault(entry, "the value has a control character at byte %d", i+1)
		}
		if first := indexFold(seen, name); first >= 0 {
			l.fault(entry, "the same header as %q", seen[first])
		}
		seen = append(seen, name)
	}
	for i, name := range edit.Remove {
		if indexFold(seen, name) >= 0 {
			l.fault(elementKey(key+".remove", i), "%q is set as well: to set is to replace", name)
		}
	}
}

// isControl reports what may not stand in a header's value (RFC 9110, section 5.5).
func isControl(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
