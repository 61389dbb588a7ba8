package config

import (
	"strings"

	"github.com/BurntSushi/toml"
)

// locate finds the place of every key and list element in a TOML text, by dotted key. The decoder we
// use does not tell them.
//
// The text must have been parsed without error: locate checks nothing. Given any other text it still
// ends, and finds some of the places.
func locate(text string) map[string]position {
	s := scanner{text: text, line: 1, at: make(map[string]position), lengths: make(map[string]int)}
	table := ""
	for s.skipBlank(); !s.done(); s.skipBlank() {
		if s.peek() == '[' {
			table = s.header()
		} else {
			s.keyValue(table)
		}
	}
	return s.at
}

// scanner walks over a TOML text. Every method that reads something moves on by at least one byte.
type scanner struct {
	text      string
	offset    int
	line      int
	lineStart int

	at      map[string]position
	lengths map[string]int // of the lists written as [[tables]], so far
}

func (s *scanner) done() bool { return s.offset >= len(s.text) }

// peek gives the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.done() {
		return 0
	}
	return s.text[s.offset]
}

func (s *scanner) ahead(prefix string) bool {
	return strings.HasPrefix(s.text[min(s.offset, len(s.text)):], prefix)
}

func (s *scanner) advance(n int) {
	for ; n > 0 && !s.done(); n-- {
		if s.text[s.offset] == '\n' {
			s.line++
			s.lineStart = s.offset + 1
		}
		s.offset++
	}
}

func (s *scanner) here() position { return position{s.line, s.offset - s.lineStart + 1} }

// note keeps the first place of a key: a table may be named by several headers.
func (s *scanner) note(key string, p position) {
	if _, ok := s.at[key]; !ok {
		s.at[key] = p
	}
}

// skipBlank passes over spaces, line ends and comments.
func (s *scanner) skipBlank() {
	for !s.done() {
		switch s.peek() {
		case ' ', '\t', '\r', '\n':
			s.advance(1)
		case '#':
			s.skipUntil("\n")
		default:
			return
		}
	}
}

func (s *scanner) skipSpaces() {
	for s.peek() == ' ' || s.peek() == '\t' {
		s.advance(1)
	}
}

// skipUntil stops at the first of some bytes, or at the end.
func (s *scanner) skipUntil(stops string) {
	n := strings.IndexAny(s.text[s.offset:], stops)
	if n < 0 {
		n = len(s.text) - s.offset
	}
	s.advance(n)
}

// header reads [a.b] or [[a.b]] and gives the key that the lines below belong to.
func (s *scanner) header() string {
	isList := s.ahead("[[")
	s.advance(1)
	if isList {
		s.advance(1)
	}
	names := s.names()
	s.skipUntil("\n")

	key := ""
	for i, n := range names {
		key = childKey(key, n.text)
		last := i == len(names)-1
		if last && !isList {
			s.at[key] = n.at // its own header is a better place than one that only passed through
			break
		}
		s.note(key, n.at)
		if last {
			s.lengths[key]++
		}
		if length := s.lengths[key]; length > 0 {
			key = elementKey(key, length-1)
			s.note(key, n.at)
		}
	}
	return key
}

// keyValue reads a.b = value, where the names stand in a table.
func (s *scanner) keyValue(table string) {
	start, key := s.offset, table
	for _, n := range s.names() {
		key = childKey(key, n.text)
		s.note(key, n.at)
	}
	if s.peek() == '=' {
		s.advance(1)
	}
	s.skipSpaces()
	s.value(key)
	if s.offset == start {
		s.advance(1)
	}
}

func (s *scanner) value(key string) {
	switch s.peek() {
	case '{':
		s.advance(1)
		for s.skipBlank(); !s.done() && s.peek() != '}'; s.skipBlank() {
			s.keyValue(key)
			s.comma()
		}
		s.advance(1)
	case '[':
		s.advance(1)
		s.skipBlank()
		for i := 0; !s.done() && s.peek() != ']'; i++ {
			element := elementKey(key, i)
			s.note(element, s.here())
			s.value(element)
			s.comma()
		}
		s.advance(1)
	case '"', '\'':
		s.quoted()
	case ',':
		s.advance(1)
	default:
		s.skipUntil(",]}#\n")
	}
}

// comma passes over the comma after an element, with the blanks around it.
func (s *scanner) comma() {
	s.skipBlank()
	if s.peek() == ',' {
		s.advance(1)
	}
	s.skipBlank()
}

// quoted reads a string of any of the four kinds and gives it as written.
func (s *scanner) quoted() string {
	start, quote := s.offset, s.text[s.offset:s.offset+1]
	if triple := strings.Repeat(quote, 3); s.ahead(triple) {
		quote = triple
	}
	s.advance(len(quote))
	for !s.done() && !s.ahead(quote) {
		if s.peek() == '\\' && quote[0] == '"' {
			s.advance(1)
		}
		s.advance(1)
	}
	s.advance(len(quote))
	for n := 0; len(quote) == 3 && n < 2 && s.peek() == quote[0]; n++ {
		s.advance(1) // a multi-line string may end in one or two quotes of its own
	}
	return s.text[start:s.offset]
}

type name struct {
	text string
	at   position
}

// names reads a dotted key.
func (s *scanner) names() []name {
	var names []name
	for {
		s.skipSpaces()
		n := name{at: s.here()}
		if c := s.peek(); c == '"' || c == '\'' {
			n.text = unquote(s.quoted())
		} else {
			start := s.offset
			s.skipUntil(" \t.=]\r\n,}#[{")
			n.text = s.text[start:s.offset]
		}
		names = append(names, n)
		s.skipSpaces()
		if s.peek() != '.' {
			return names
		}
		s.advance(1)
	}
}

// unquote leaves the meaning of escapes to the decoder that will read them.
func unquote(quoted string) string {
	var doc struct{ Key string }
	if _, err := toml.Decode("Key = "+quoted, &doc); err != nil {
		return quoted
	}
	return doc.Key
}
