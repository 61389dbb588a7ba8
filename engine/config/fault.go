package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing that is wrong with a configuration, and where.
type Fault struct {
	File       string // as it was given to Load or Parse
	Line       int    // from 1
	Column     int    // from 1, in bytes
	Key        string // dotted, such as route[2].path; empty for a fault of syntax
	Message    string // what is wrong and what would be right
	Suggestion string // what was probably meant, or empty
}

// String writes a fault on one line, in the form that editors and terminals make a link of.
func (f Fault) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s:%d:%d: ", f.File, f.Line, f.Column)
	if f.Key != "" {
		b.WriteString(f.Key + ": ")
	}
	b.WriteString(f.Message)
	if f.Suggestion != "" {
		fmt.Fprintf(&b, " (did you mean %q?)", f.Suggestion)
	}
	return b.String()
}

// Faults is all that is wrong with a configuration; none is a good one.
type Faults []Fault

// Error lists the faults, one a line, in the order of the file.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i, fault := range f.Sorted() {
		lines[i] = fault.String()
	}
	return strings.Join(lines, "\n")
}

// Err gives the faults as an error, and nil when there are none.
func (f Faults) Err() error {
	if len(f) == 0 {
		return nil
	}
	return f
}

// Sorted gives the faults in the order of the file.
func (f Faults) Sorted() Faults {
	return slices.SortedStableFunc(slices.Values(f), func(a, b Fault) int {
		return cmp.Or(
			cmp.Compare(a.File, b.File),
			cmp.Compare(a.Line, b.Line),
			cmp.Compare(a.Column, b.Column),
			cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.Message, b.Message))
	})
}

// source is what a File remembers of the text it was read from.
type source struct {
	name   string
	hash   string
	folder string // where relative paths start
	at     map[string]position
}

// position is a place in a file, from 1; the zero value is nowhere.
type position struct{ line, column int }

// At gives the place of a key such as route[2].path or upstream.users.targets[0]: of its name, and for
// the element of a list of its value. A key that the file does not have is placed at the nearest
// table around it, and at 1:1 when there is none.
func (f *File) At(key string) (line, column int) {
	for key != "" {
		if p, ok := f.source.at[key]; ok {
			return p.line, p.column
		}
		key = parentKey(key)
	}
	return 1, 1
}

// FaultAt makes a fault of this file, for what is found out after loading, such as two routes that take the same path.
func (f *File) FaultAt(key, format string, args ...any) Fault {
	line, column := f.At(key)
	return Fault{File: f.source.name, Line: line, Column: column, Key: key, Message: fmt.Sprintf(format, args...)}
}

// Hash gives twelve hex digits that tell two files apart; a comment changed is a file changed. It is empty when the File was not read from text.
func (f *File) Hash() string { return f.source.hash }
