package config

import (
	"reflect"
	"strings"
)

// later is a key of the contract that nothing acts on yet. To ignore it would be to promise what is
// not done, so a file that sets it is refused. Who builds the feature deletes its row.
type later struct {
	key    string             // "*" stands for any name or index
	when   func(raw any) bool // the values refused, as the TOML decoder gave them
	absent func(f *File)      // puts what is built in place of a default that is not; nil: the default can stay
}

func notYet() []later {
	return []later{
		{key: "server.tls.http2", when: is(true), absent: withoutHTTP2},
		{key: "server.tls.client_auth", when: not("none")},
		{key: "server.tls.client_ca", when: not("")},
		{key: "server.tls.acme", when: always},
		{key: "upstream.*.protocol", when: not("http1")},
		{key: "route.*.cors", when: always},
		{key: "route.*.compress", when: is(true)},
	}
}

// checkSupported refuses what is not built, and turns off what is on by default.
func (l *loader) checkSupported(raw map[string]any) {
	for _, row := range notYet() {
		l.refuse(raw, "", strings.Split(row.key, "."), row.when)
		if row.absent != nil {
			row.absent(l.file)
		}
	}
}

// refuse follows a row's key down the file as far as it goes.
func (l *loader) refuse(raw any, key string, steps []string, when func(any) bool) {
	if l.faultedItself(key) {
		return
	}
	if len(steps) == 0 {
		if when(raw) {
			l.fault(key, "not supported yet")
		}
		return
	}
	if elements, ok := rawList(raw); ok && steps[0] == "*" {
		for i, element := range elements {
			l.refuse(element, elementKey(key, i), steps[1:], when)
		}
		return
	}
	table, _ := raw.(map[string]any)
	for _, name := range sortedKeys(table) {
		if steps[0] == "*" || steps[0] == name {
			l.refuse(table[name], childKey(key, name), steps[1:], when)
		}
	}
}

func always(any) bool { return true }

func is(value any) func(any) bool { return func(raw any) bool { return raw == value } }

// not refuses all other values of the right type; the wrong type is a fault already.
func not(value any) func(any) bool {
	return func(raw any) bool { return reflect.TypeOf(raw) == reflect.TypeOf(value) && raw != value }
}

func withoutHTTP2(f *File) {
	if f.Server.TLS != nil {
		f.Server.TLS.HTTP2 = false
	}
}
