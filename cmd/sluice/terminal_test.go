package main

import (
	"bytes"
	"io"
	"os"
	"testing"
)

func TestNoColorsOffTheTerminal(t *testing.T) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	tests := []struct {
		intent string
		out    io.Writer
	}{
		{"a buffer", new(bytes.Buffer)},
		{"a file that is no terminal", null},
	}
	for _, test := range tests {
		if s := stylesFor(test.out, func(string) string { return "" }); s != (styles{}) {
			t.Errorf("%s gets colors", test.intent)
		}
	}
	if got := style("").text("x"); got != "x" {
		t.Errorf("no style makes %q of x", got)
	}
	if got := style("\x1b[1m").text("x"); got != "\x1b[1mx\x1b[0m" {
		t.Errorf("a style makes %q of x, and must end", got)
	}
}
