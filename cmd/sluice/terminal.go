package main

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// wantsColor reports whether colors would be seen, and are not unwelcome (https://no-color.org).
func wantsColor(w io.Writer, getenv func(string) string) bool {
	return isTerminal(w) && getenv("NO_COLOR") == "" && getenv("TERM") != "dumb"
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS)
	return err == nil
}

// style is how a word is set off on a terminal. Its zero value changes nothing.
type style string

// styles are those of one output.
type styles struct{ strong, good, warn, bad, faint style }

func stylesFor(w io.Writer, getenv func(string) string) styles {
	if !wantsColor(w, getenv) {
		return styles{}
	}
	return styles{strong: "\x1b[1m", good: "\x1b[32m", warn: "\x1b[33m", bad: "\x1b[31m", faint: "\x1b[2m"}
}

func (s style) text(text string) string {
	if s == "" {
		return text
	}
	return string(s) + text + "\x1b[0m"
}
