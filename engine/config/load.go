package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/BurntSushi/toml"
)

// Environment is what a configuration may refer to outside its own text.
type Environment struct {
	LookupEnv func(name string) (string, bool)  // for "env:NAME"; nil: no variable is set
	ReadFile  func(path string) ([]byte, error) // for "file:PATH"; nil: there are no files
}

// Load reads the file at path, with the process's environment and disk.
//
// It returns every fault of the file at once. The File is nil only when the file cannot be read or is not TOML;
// with other faults it holds what could be understood, so that a caller can look for more. It is
// fit to run only when there are none.
func Load(path string) (*File, Faults) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, Faults{{File: path, Line: 1, Column: 1, Message: "cannot read: " + cause(err)}}
	}
	return Parse(path, data, Environment{LookupEnv: os.LookupEnv, ReadFile: os.ReadFile})
}

// Parse does what Load does with a file's text. Relative paths in it are taken to start at the folder of name.
func Parse(name string, data []byte, env Environment) (*File, Faults) {
	text := strings.TrimLeft(string(data), byteOrderMark)
	if i := invalidUTF8(text); i >= 0 {
		return nil, Faults{faultIn(name, text, i, "not TOML: this byte is not UTF-8")}
	}
	raw := make(map[string]any)
	if _, err := toml.Decode(text, &raw); err != nil {
		return nil, Faults{syntaxFault(name, text, err)}
	}

	f := Default()
	sum := sha256.Sum256(data)
	f.source = source{name: name, folder: filepath.Dir(name), hash: hex.EncodeToString(sum[:6]), at: locate(text)}

	l := loader{file: f, env: env}
	l.table(reflect.ValueOf(f).Elem(), raw, "")
	l.inherit()
	l.checkServer()
	l.checkAuth()
	l.checkOwnHeaders()
	l.checkTracing()
	l.checkLimits()
	l.checkDestinations()
	l.checkRoutes()
	l.checkSupported(raw)
	resolvePaths(reflect.ValueOf(f).Elem(), f.source.folder, "")
	return f, l.faults.Sorted()
}

// loader fills a File and gathers what is wrong with it.
type loader struct {
	file   *File
	env    Environment
	faults Faults
}

func (l *loader) fault(key, format string, args ...any) {
	l.faults = append(l.faults, l.file.FaultAt(key, format, args...))
}

// suggest is fault with a guess at what was meant; an empty guess is none.
func (l *loader) suggest(key, guess, format string, args ...any) {
	fault := l.file.FaultAt(key, format, args...)
	fault.Suggestion = guess
	l.faults = append(l.faults, fault)
}

// written reports whether the file itself has a key, whatever its value.
func (l *loader) written(key string) bool {
	_, ok := l.file.source.at[key]
	return ok
}

// inherit gives routes what they left to [server] and [defaults].
func (l *loader) inherit() {
	for i, r := range l.file.Route {
		key := elementKey("route", i)
		if !l.written(key + ".auth") {
			r.Auth = l.file.Defaults.Auth
		}
		if !l.written(key + ".limits") {
			r.Limits = l.file.Defaults.Limits
		}
		if !l.written(key + ".max_body_bytes") {
			r.MaxBodyBytes = l.file.Server.MaxBodyBytes
		}
	}
}

// byteOrderMark is what some editors put before a text.
const byteOrderMark = "\ufeff"

// invalidUTF8 gives the offset of the first byte that belongs to no character, or -1.
func invalidUTF8(text string) int {
	for i, r := range text {
		if _, size := utf8.DecodeRuneInString(text[i:]); r == utf8.RuneError && size == 1 {
			return i
		}
	}
	return -1
}

func syntaxFault(name, text string, err error) Fault {
	var parse toml.ParseError
	if !errors.As(err, &parse) {
		return faultIn(name, text, 0, "not TOML: "+err.Error())
	}
	return faultIn(name, text, parse.Position.Start, "not TOML: "+strings.TrimSuffix(parse.Message, "."))
}

// faultIn makes a fault of a text that has no keys yet, at an offset of bytes.
func faultIn(name, text string, offset int, message string) Fault {
	s := scanner{text: text, line: 1}
	s.advance(offset)
	return Fault{File: name, Line: s.here().line, Column: s.here().column, Message: message}
}

// cause gives the reason of a file error without the path, which the reader knows.
func cause(err error) string {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}
