package main

import (
	"fmt"
	"time"
)

// rateText writes a number per second, or a percentage.
func rateText(n float64) string {
	switch {
	case n <= 0:
		return "0"
	case n < 0.095:
		return "<0.1"
	case n < 9.95:
		return fmt.Sprintf("%.1f", n)
	}
	return countText(n)
}

// countText writes a number in up to six places.
func countText(n float64) string {
	switch {
	case n < 99_999.5:
		return fmt.Sprintf("%.0f", n)
	case n < 9_999_500:
		return fmt.Sprintf("%.0fk", n/1e3)
	case n < 9_999_500_000:
		return fmt.Sprintf("%.0fM", n/1e6)
	}
	return fmt.Sprintf("%.0fG", n/1e9)
}

// millisText writes milliseconds with three places that count; 0 stands for no measurement.
func millisText(ms float64) string {
	switch {
	case ms <= 0:
		return "-"
	case ms < 9.995:
		return fmt.Sprintf("%.2f", ms)
	case ms < 99.95:
		return fmt.Sprintf("%.1f", ms)
	}
	return countText(ms)
}

// lastedText writes a time in its two largest units.
func lastedText(d time.Duration) string {
	s := int64(max(0, d).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("%ds", s)
	case s < 3600:
		return fmt.Sprintf("%dm%02ds", s/60, s%60)
	case s < 86400:
		return fmt.Sprintf("%dh%02dm", s/3600, s%3600/60)
	}
	return fmt.Sprintf("%dd%02dh", s/86400, s%86400/3600)
}
