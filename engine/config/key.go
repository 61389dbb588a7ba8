package config

import (
	"strconv"
	"strings"
)

// childKey appends a name to a dotted key, in quotes where TOML needs them.
func childKey(parent, name string) string {
	if !isBareKey(name) {
		name = strconv.Quote(name)
	}
	if parent == "" {
		return name
	}
	return parent + "." + name
}

// elementKey appends an index to a dotted key.
func elementKey(parent string, index int) string {
	return parent + "[" + strconv.Itoa(index) + "]"
}

// parentKey gives the key of the table or list around a key, "" for the outermost.
func parentKey(key string) string {
	if strings.HasSuffix(key, "]") {
		return key[:strings.LastIndexByte(key, '[')]
	}
	quoted, end := false, -1
	for i := 0; i < len(key); i++ {
		switch {
		case quoted && key[i] == '\\':
			i++
		case key[i] == '"':
			quoted = !quoted
		case key[i] == '.' && !quoted:
			end = i
		}
	}
	return key[:max(end, 0)]
}

func isBareKey(name string) bool {
	for i := 0; i < len(name); i++ {
		if c := name[i]; !isAlphanumeric(c) && c != '-' && c != '_' {
			return false
		}
	}
	return name != ""
}

func isAlphanumeric(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
}
