//go:build !linux

package limiter

func largePages[row any]([]row) {}
