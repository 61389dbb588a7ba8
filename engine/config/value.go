package config

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Size is a number of bytes, written "16KiB", "10MiB", "1GiB" or "512".
type Size int64

// The units of a Size.
const (
	KiB Size = 1 << 10
	MiB Size = 1 << 20
	GiB Size = 1 << 30
	TiB Size = 1 << 40
)

var (
	errDuration = errors.New(`want a duration such as "250ms", "10s" or "1h"`)
	errTooLong  = errors.New(`want a duration of a century at most`)
	errSize     = errors.New(`want a size such as "16KiB" or "10MiB"`)
	errRate     = errors.New(`want a rate such as "100/s", "20/min" or "5/90s"`)
	errStatus   = errors.New(`want statuses such as "200" or "200-399"`)
)

// String writes a size as the file would, in the largest unit that divides it.
func (s Size) String() string {
	for _, u := range sizeUnits() {
		if s != 0 && s%u.bytes == 0 {
			return strconv.FormatInt(int64(s/u.bytes), 10) + u.suffix
		}
	}
	return strconv.FormatInt(int64(s), 10)
}

type sizeUnit struct {
	suffix string
	bytes  Size
}

func sizeUnits() []sizeUnit {
	return []sizeUnit{{"TiB", TiB}, {"GiB", GiB}, {"MiB", MiB}, {"KiB", KiB}}
}

func parseSize(text string) (Size, error) {
	digits, unit := text, Size(1)
	for _, u := range sizeUnits() {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			digits, unit = rest, u.bytes
			break
		}
	}
	n, err := parseCount(digits)
	if err != nil || n > math.MaxInt64/int64(unit) {
		return 0, errSize
	}
	return Size(n) * unit, nil
}

// parseCount reads decimal digits and nothing else: no sign, no space, no underscore.
func parseCount(digits string) (int64, error) {
	n, err := strconv.ParseUint(digits, 10, 63)
	return int64(n), err
}

func parseDuration(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || text[0] < '0' || text[0] > '9' {
		return 0, errDuration
	}
	if d > maxDuration {
		return 0, errTooLong
	}
	return d, nil
}

// maxDuration is a century, a third of what fits: room to add to it.
const maxDuration = 100 * 365 * 24 * time.Hour

// formatDuration writes a duration as the file would: 24h and not 24h0m0s.
func formatDuration(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// Rate is N requests in every Per, written "100/s", "20/min", "1000/h", "5000/d" or "5/90s".
type Rate struct {
	N   int64
	Per time.Duration
}

// String writes a rate as the file would.
func (r Rate) String() string {
	unit := formatDuration(r.Per)
	switch r.Per {
	case time.Second:
		unit = "s"
	case time.Minute:
		unit = "min"
	case time.Hour:
		unit = "h"
	case 24 * time.Hour:
		unit = "d"
	}
	return strconv.FormatInt(r.N, 10) + "/" + unit
}

func parseRate(text string) (Rate, error) {
	digits, unit, _ := strings.Cut(text, "/")
	n, err := parseCount(digits)
	if err != nil || n == 0 {
		return Rate{}, errRate
	}
	switch unit {
	case "s":
		return Rate{n, time.Second}, nil
	case "min":
		return Rate{n, time.Minute}, nil
	case "h":
		return Rate{n, time.Hour}, nil
	case "d":
		return Rate{n, 24 * time.Hour}, nil
	}
	per, err := parseDuration(unit)
	if err != nil || per == 0 {
		return Rate{}, errRate
	}
	return Rate{n, per}, nil
}

// StatusRange is the HTTP statuses from First to Last, both included, written "200" or "200-399".
type StatusRange struct {
	First, Last int
}

// Contains reports whether a status lies in the range.
func (r StatusRange) Contains(status int) bool { return r.First <= status && status <= r.Last }

// String writes a range as the file would.
func (r StatusRange) String() string {
	if r.First == r.Last {
		return strconv.Itoa(r.First)
	}
	return fmt.Sprintf("%d-%d", r.First, r.Last)
}

func parseStatusRange(text string) (StatusRange, error) {
	first, last, isRange := strings.Cut(text, "-")
	if !isRange {
		last = first
	}
	from, err1 := parseCount(first)
	to, err2 := parseCount(last)
	if err1 != nil || err2 != nil || from < 100 || to > 599 || from > to {
		return StatusRange{}, errStatus
	}
	return StatusRange{int(from), int(to)}, nil
}
