package engine

import (
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Reloads that turn tracing and the access log on and off, while both are in use, leave nothing behind: no goroutine
// and no file.
func TestTelemetryTogglesLeaveNothing(t *testing.T) {
	receivers := [...]*spanReceiver{newSpanReceiver(t), newSpanReceiver(t)}
	logs := t.TempDir()
	up := rawServer(t, smallAnswer)
	g := startGateway(t, publicRoute(up))
	stop := make(chan struct{})
	var load sync.WaitGroup
	for range 2 {
		client := &http.Client{Transport: &http.Transport{}}
		load.Go(func() {
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				r, err := client.Get("http://" + g.address + "/x")
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, r.Body)
				_ = r.Body.Close()
			}
		})
	}
	toggle := func(rounds int) {
		for i := range rounds {
			telemetry := fmt.Sprintf("[log]\naccess = %q\n", filepath.Join(logs, fmt.Sprint("log", i%2)))
			if i%3 == 0 {
				telemetry = "[log]\naccess = \"off\"\n"
			}
			if i%4 != 0 {
				telemetry += tracingTable(receivers[i%2].URL, 1)
			}
			g.write(t, telemetry+publicRoute(up))
			if err := g.Reload(); err != nil {
				t.Fatal(err)
			}
			g.ReopenLogs()
		}
		g.write(t, publicRoute(up))
		if err := g.Reload(); err != nil {
			t.Fatal(err)
		}
	}
	toggle(5)
	eventually(t, func() bool { return openLogs(t, logs) == 0 })
	before := runtime.NumGoroutine()
	toggle(50)
	eventually(t, func() bool { return openLogs(t, logs) == 0 })
	close(stop)
	load.Wait()
	eventually(t, func() bool { return runtime.NumGoroutine() <= before })
}

// openLogs counts the files of a folder that this process has open.
func openLogs(t *testing.T, folder string) (n int) {
	t.Helper()
	links, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if target, err := filepath.EvalSymlinks(link); err == nil && filepath.Dir(target) == folder {
			n++
		}
	}
	return n
}
