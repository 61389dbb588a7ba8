package config

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestParseSize(t *testing.T) {
	for _, row := range []struct {
		intent, text string
		want         Size
		ok           bool
	}{
		{"bytes", "512", 512, true},
		{"none, or no limit", "0", 0, true},
		{"a binary unit", "16KiB", 16 << 10, true},
		{"the largest unit", "2TiB", 2 << 40, true},
		{"a decimal unit is ambiguous in practice", "10MB", 0, false},
		{"no number", "KiB", 0, false},
		{"empty", "", 0, false},
		{"negative", "-1", 0, false},
		{"a fraction", "1.5MiB", 0, false},
		{"more than 63 bits", "9999999TiB", 0, false},
	} {
		got, err := parseSize(row.text)
		if got != row.want || (err == nil) != row.ok {
			t.Errorf("%s: %q gave %d, %v", row.intent, row.text, got, err)
		}
	}
}

func TestParseDuration(t *testing.T) {
	for _, row := range []struct {
		intent, text string
		want         time.Duration
		ok           bool
	}{
		{"a usual one", "250ms", 250 * time.Millisecond, true},
		{"of two units", "1h30m", 90 * time.Minute, true},
		{"none", "0s", 0, true},
		{"a century", "876000h", maxDuration, true},
		{"so long that a time from now on would be in the past", "2562047h", 0, false},
		{"more than 63 bits", "9999999h", 0, false},
		{"negative", "-1s", 0, false},
		{"no unit", "10", 0, false},
		{"empty", "", 0, false},
	} {
		got, err := parseDuration(row.text)
		if got != row.want || (err == nil) != row.ok {
			t.Errorf("%s: %q gave %v, %v", row.intent, row.text, got, err)
		}
	}
}

func TestParseRate(t *testing.T) {
	for _, row := range []struct {
		intent, text string
		want         Rate
		ok           bool
	}{
		{"per second", "100/s", Rate{100, time.Second}, true},
		{"per minute", "20/min", Rate{20, time.Minute}, true},
		{"per hour", "5/h", Rate{5, time.Hour}, true},
		{"per day", "5000/d", Rate{5000, 24 * time.Hour}, true},
		{"per any duration", "5/90s", Rate{5, 90 * time.Second}, true},
		{"m is not said to be minutes or months", "5/m", Rate{}, false},
		{"nothing at all is no rate", "0/s", Rate{}, false},
		{"no time", "100", Rate{}, false},
		{"in no time", "100/0s", Rate{}, false},
		{"negative", "-1/s", Rate{}, false},
	} {
		got, err := parseRate(row.text)
		if got != row.want || (err == nil) != row.ok {
			t.Errorf("%s: %q gave %v, %v", row.intent, row.text, got, err)
		}
	}
}

func TestParseStatusRange(t *testing.T) {
	for _, row := range []struct {
		intent, text string
		want         StatusRange
		ok           bool
	}{
		{"one", "204", StatusRange{204, 204}, true},
		{"a range", "200-399", StatusRange{200, 399}, true},
		{"backwards", "399-200", StatusRange{}, false},
		{"not a status", "99-200", StatusRange{}, false},
		{"open", "200-", StatusRange{}, false},
	} {
		got, err := parseStatusRange(row.text)
		if got != row.want || (err == nil) != row.ok {
			t.Errorf("%s: %q gave %v, %v", row.intent, row.text, got, err)
		}
	}
	if r := (StatusRange{200, 399}); !r.Contains(200) || !r.Contains(399) || r.Contains(400) {
		t.Error("a range has both its ends and nothing beyond")
	}
}

// TestValuesReadBack: what String writes, the parser reads as the same value.
func TestValuesReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		size := Size(rapid.Int64Min(0).Draw(t, "size"))
		if got, err := parseSize(size.String()); got != size {
			t.Errorf("size %d is written %q and read %d, %v", int64(size), size, got, err)
		}
		d := time.Duration(rapid.Int64Range(0, int64(maxDuration)).Draw(t, "duration"))
		if got, err := parseDuration(formatDuration(d)); got != d {
			t.Errorf("duration %d is written %q and read %d, %v", d, formatDuration(d), got, err)
		}
		rate := Rate{rapid.Int64Min(1).Draw(t, "n"), time.Duration(rapid.Int64Range(1, int64(maxDuration)).Draw(t, "per"))}
		if got, err := parseRate(rate.String()); got != rate {
			t.Errorf("rate is written %q and read %v, %v", rate, got, err)
		}
	})
}

func TestFormatDuration(t *testing.T) {
	for want, d := range map[string]time.Duration{"24h": 24 * time.Hour, "10m": 10 * time.Minute, "1h30m": 90 * time.Minute, "20ms": 20 * time.Millisecond, "0s": 0, "20s": 20 * time.Second, "1h0m10s": time.Hour + 10*time.Second} {
		if got := formatDuration(d); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"drain", "listen", "header_timeout", "to"}
	for _, row := range []struct{ intent, word, want string }{
		{"letters swapped", "drian", "drain"},
		{"a letter left out", "lisen", "listen"},
		{"several slips in a long word", "headr_timout", "header_timeout"},
		{"nothing like it", "weight", ""},
		{"a word is not its own misspelling", "drain", ""},
	} {
		if got := nearest(row.word, known); got != row.want {
			t.Errorf("%s: %q gave %q", row.intent, row.word, got)
		}
	}
}

func TestDistanceIsAMetric(t *testing.T) {
	word := rapid.StringMatching("[abc]{0,6}")
	rapid.Check(t, func(t *rapid.T) {
		a, b := word.Draw(t, "a"), word.Draw(t, "b")
		d := distance(a, b)
		if d != distance(b, a) || (d == 0) != (a == b) || d > max(len(a), len(b)) {
			t.Errorf("distance(%q, %q) = %d, the other way %d", a, b, d, distance(b, a))
		}
	})
}

func TestSecretShowsOnlyThatItIs(t *testing.T) {
	for verb, want := range map[string]string{"%v": "(secret)", "%s": "(secret)", "%x": "(secret)", "%q": `"(secret)"`, "%#v": `"(secret)"`} {
		if got := fmt.Sprintf(verb, NewSecret("x")); got != want {
			t.Errorf("%s gives %s, want %s", verb, got, want)
		}
	}
	if got := fmt.Sprint(NewSecret("")); got != "" || NewSecret("").IsSet() {
		t.Errorf("no secret shows as %q", got)
	}
}
