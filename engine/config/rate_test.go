package config

import (
	"strings"
	"testing"
	"time"
)

func TestParseRateTellsWhatWasMeant(t *testing.T) {
	for text, want := range map[string]Rate{
		"1000/h": {1000, time.Hour}, "5/90s": {5, 90 * time.Second}, "1/d": {1, 24 * time.Hour},
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"":          `want a rate such as "100/s", "20/min" or "5/90s", not ""`,
		"1000/hour": `(did you mean "1000/h"?)`,
		"0/s":       "want a rate",
		"-1/s":      "want a rate",
		"1000":      "want a rate",
	} {
		if got, err := ParseRate(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v, want %q", text, got, err, want)
		}
	}
}
