package config

import (
	"cmp"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

func (l *loader) wrongType(t reflect.Type, raw any, key string) {
	want := wanted(t)
	if _, isList := raw.([]map[string]any); isList && want == "want a table" {
		l.fault(key, "want [%s], in single brackets", key)
		return
	}
	if _, isTable := raw.(map[string]any); isTable && t.Kind() == reflect.Slice && isNamed(t.Elem()) {
		l.fault(key, "want [[%s]], in double brackets", key)
		return
	}
	l.fault(key, "%s, not %s", want, describe(raw))
}

// wanted says what a field takes, with an example where its syntax is ours.
func wanted(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration]():
		return errDuration.Error()
	case reflect.TypeFor[Size]():
		return errSize.Error()
	case reflect.TypeFor[Rate]():
		return errRate.Error()
	case reflect.TypeFor[StatusRange]():
		return errStatus.Error()
	case reflect.TypeFor[*url.URL]():
		return errTarget.Error()
	case reflect.TypeFor[Target]():
		return errTarget.Error() + " or { url = \"http://10.0.0.1:8080\", weight = 2 }"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "want true or false"
	case reflect.Int, reflect.Int64:
		return "want a whole number"
	case reflect.Float64:
		return "want a number"
	case reflect.Slice:
		return "want a list in brackets"
	case reflect.Map, reflect.Struct, reflect.Pointer:
		return "want a table"
	}
	return "want a string"
}

// describe names the type of a value in the words of a TOML file's author.
func describe(raw any) string {
	switch raw.(type) {
	case string:
		return "a string"
	case int64:
		return "a whole number"
	case float64:
		return "a number with a fraction"
	case bool:
		return "true or false"
	case []any, []map[string]any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

// listEnum writes an enum for people: "a", "b" or "header:NAME".
func listEnum(enum string) string {
	words := strings.Split(enum, "|")
	for i, word := range words {
		if strings.HasSuffix(word, ":") {
			word += "NAME"
		}
		words[i] = strconv.Quote(word)
	}
	last := len(words) - 1
	if last == 0 {
		return words[0]
	}
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// guessUnit mends the units that people write from habit.
func guessUnit(dst reflect.Value, text string) string {
	var guess string
	var err error
	switch dst.Interface().(type) {
	case time.Duration:
		guess = strings.NewReplacer(" ", "", "seconds", "s", "sec", "s", "minutes", "m", "min", "m").Replace(text)
		if days, isDays := strings.CutSuffix(guess, "d"); isDays {
			n, _ := strconv.ParseUint(days, 10, 16)
			guess = strconv.FormatUint(n*24, 10) + "h"
		}
		_, err = parseDuration(guess)
		if _, bare := parseCount(text); bare == nil {
			guess, err = text+"s", nil
		}
	case Size:
		guess = strings.NewReplacer(" ", "", "KB", "KiB", "kB", "KiB", "K", "KiB", "MB", "MiB", "M", "MiB", "GB", "GiB", "G", "GiB").Replace(text)
		if strings.Contains(text, "iB") {
			guess = strings.ReplaceAll(text, " ", "")
		}
		_, err = parseSize(guess)
	case Rate:
		guess = strings.NewReplacer(" ", "", "/second", "/s", "/sec", "/s", "/minute", "/min", "/m", "/min", "/hour", "/h", "/day", "/d").Replace(text)
		_, err = parseRate(guess)
	}
	if err != nil {
		return ""
	}
	return guess
}

// nearest gives the known word that a misspelt one was most likely meant to be, or "" if none is close.
func nearest(word string, known []string) string {
	if len(known) == 0 || len(word) > 64 {
		return ""
	}
	best := slices.MinFunc(known, func(a, b string) int {
		return cmp.Compare(distance(word, a), distance(word, b))
	})
	if d := distance(word, best); d == 0 || d > max(1, len(word)/3) {
		return ""
	}
	return best
}

// distance counts the edits between two words: a letter added, dropped, changed, or swapped with its neighbour.
func distance(a, b string) int {
	older, old, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		older, old, row = old, row, older
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := old[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(old[j]+1, row[j-1]+1, change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], older[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
