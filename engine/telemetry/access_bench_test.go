package telemetry

import (
	"path/filepath"
	"testing"
)

func BenchmarkAccessWrite(b *testing.B) {
	l, _, _ := startAccess(b, openAccess(b, filepath.Join(b.TempDir(), "access.log")), 1)
	r := fullRecord()
	b.ReportAllocs()
	for b.Loop() {
		l.Write(r)
	}
	written, dropped := l.Counts()
	b.ReportMetric(100*float64(dropped)/float64(written+dropped+1), "%dropped")
}
