package main

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

var (
	errSpan   = errors.New("want a time such as 90d, 12h or 30m")
	errMoment = errors.New("want a time such as 2027-01-31 or 2027-01-31T12:00:00Z")
)

// parseSpan reads a length of time: days, or what Go calls a duration.
func parseSpan(text string) (time.Duration, error) {
	if digits, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(digits, 10, 16); err == nil {
			return time.Duration(n) * day, nil
		}
	}
	span, err := time.ParseDuration(text)
	if err != nil || span < 0 || strings.HasPrefix(text, "+") {
		return 0, fmt.Errorf("%w, not %q", errSpan, text)
	}
	return span, nil
}

// parseMoment reads a point in time: RFC 3339, or its date, which begins at midnight UTC.
func parseMoment(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && !t.IsZero() {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("%w, not %q", errMoment, text)
}

// parseEnd reads when something ends, as a point in time or as how long from now. It is after now.
func parseEnd(text string, now time.Time) (time.Time, error) {
	end, err := parseMoment(text)
	if err != nil {
		span, err := parseSpan(text)
		if err != nil {
			return time.Time{}, fmt.Errorf("want a time such as 90d, 12h, 2027-01-31 or 2027-01-31T12:00:00Z, not %q", text)
		}
		end = now.Add(span).UTC()
	}
	if !end.After(now) {
		return time.Time{}, fmt.Errorf("%q is not in the future", text)
	}
	return end, nil
}

// showTime writes a time for people, to the second.
func showTime(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}
