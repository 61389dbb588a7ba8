package main

import (
	"io"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything that must happen may take. A test that passes never waits for it.
const patience = 20 * time.Second

// Every request that the demo prints gets the status that it promises.
func TestDemoTour(t *testing.T) {
	d, err := newDemonstration("", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	signals, reader, ended := make(chan os.Signal, 1), make(chan string, 1), make(chan error, 1)
	go func() { ended <- d.serve(signals, tourWriter(reader)) }()
	var tour string
	select {
	case tour = <-reader:
	case err := <-ended:
		t.Fatalf("the demo ended at once: %v", err)
	}
	s, shows := shell{}, ""
	for line := range strings.Lines(tour) {
		line = strings.TrimSpace(line)
		name, _, assigns := strings.Cut(line, "=$(")
		switch {
		case strings.HasPrefix(line, "# "):
			shows = line[2:]
		case assigns && !strings.Contains(name, " "):
			t.Run(shows, func(t *testing.T) { s.assign(t, line) })
		case strings.HasPrefix(line, "curl "):
			t.Run(shows, func(t *testing.T) { s.try(t, shows, line) })
		case strings.HasPrefix(line, "sluice "):
			if code, out, errOut := sluice(s.words(line)[1:]...); code != exitOK || out == "" {
				t.Errorf("%s: exit code %d: %s%s", line, code, out, errOut)
			}
		}
	}
	if s.tried < 35 {
		t.Errorf("the tour has %d requests only:\n%s", s.tried, tour)
	}
	signals <- syscall.SIGTERM
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("the demo does not end")
	}
	if err := d.close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(d.folder); !os.IsNotExist(err) {
		t.Errorf("its folder stays behind: %v", err)
	}
}

// tourWriter hands on the one text that the demo prints.
type tourWriter chan<- string

func (w tourWriter) Write(p []byte) (int, error) {
	w <- string(p)
	return len(p), nil
}

// An address that was asked for and is taken is an error, not another address.
func TestDemoAddressTaken(t *testing.T) {
	first, err := newDemonstration("", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer first.close()
	defer first.process.sockets.Close()
	if second, err := newDemonstration(first.Listen, io.Discard); err == nil {
		second.close()
		t.Error("two demos have one address")
	}
	if _, err := fs.Stat(os.DirFS(first.folder), "gateway.toml"); err != nil {
		t.Error("the second demo removed what is the first's")
	}
}
