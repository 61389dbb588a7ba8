package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything that must happen may take. A test that passes never waits for it.
const patience = 20 * time.Second

// words splits a command line as a shell would, as far as the tour needs: single quotes.
func words(line string) (list []string) {
	for i, part := range strings.Split(line, "'") {
		if i%2 == 1 {
			list = append(list, part)
			continue
		}
		list = append(list, strings.Fields(part)...)
	}
	return list
}

// curl makes the request that a command line of curl would send, and a client that trusts as it does.
func curl(t *testing.T, line string) (*http.Request, *http.Client) {
	t.Helper()
	method, target, header, body := http.MethodGet, "", http.Header{}, []byte(nil)
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	for args := words(line)[1:]; len(args) > 0; args = args[1:] {
		switch args[0] {
		case "-i", "-N":
			continue
		case "-X", "-H", "-d", "--max-time", "--cacert":
		default:
			target = args[0]
			continue
		}
		value := args[1]
		switch args[0] {
		case "-X":
			method = value
		case "-H":
			name, text, _ := strings.Cut(value, ": ")
			header.Set(name, text)
		case "-d":
			method, body = http.MethodPost, []byte(value)
			if name, isFile := strings.CutPrefix(value, "@"); isFile {
				body = readFile(t, name)
			}
		case "--cacert":
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(readFile(t, value))
			transport.TLSClientConfig = &tls.Config{RootCAs: pool}
		}
		args = args[1:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	request, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header = header
	return request, &http.Client{Transport: transport}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}

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
	tried, shows := 0, ""
	for line := range strings.Lines(tour) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "# "):
			shows = line[2:]
		case strings.HasPrefix(line, "curl "):
			tried++
			t.Run(shows, func(t *testing.T) { try(t, shows, line) })
		case strings.HasPrefix(line, "sluice "):
			if code, out, errOut := sluice(words(line)[1:]...); code != exitOK || !strings.Contains(out, "by route people") {
				t.Errorf("%s: exit code %d: %s%s", line, code, out, errOut)
			}
		}
	}
	if tried < 16 {
		t.Errorf("the tour has %d requests only:\n%s", tried, tour)
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

// try sends what one line of the tour says and compares the status with what its comment promises.
func try(t *testing.T, shows, line string) {
	want := "200"
	if status, _, ok := strings.Cut(shows, ":"); ok && len(status) == 3 {
		want = status
	}
	request, client := curl(t, line)
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if !strings.HasPrefix(response.Status, want) {
		t.Errorf("%s: want %s, have %s", line, want, response.Status)
	}
	if response.StatusCode == http.StatusSwitchingProtocols {
		return // what follows has no end
	}
	body, err := io.ReadAll(response.Body)
	if err != nil || len(body) == 0 {
		t.Errorf("%s: body %q: %v", line, body, err)
	}
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
