package config

import (
	"fmt"
	"reflect"
)

// ParseRate reads a rate as the file writes it, for those who are told one elsewhere. Its error says what
// was probably meant.
func ParseRate(text string) (Rate, error) {
	rate, err := parseRate(text)
	if err == nil {
		return rate, nil
	}
	if guess := guessUnit(reflect.ValueOf(rate), text); guess != "" && guess != text {
		return Rate{}, fmt.Errorf("%w, not %q (did you mean %q?)", err, text, guess)
	}
	return Rate{}, fmt.Errorf("%w, not %q", err, text)
}
