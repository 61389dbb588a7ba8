package certs

import (
	"context"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestReload(t *testing.T) {
	tests := []struct {
		intent  string
		changed bool
		err     string // in the error; empty: none
		serves  string // what one.test gets afterwards
		change  func(t *testing.T, at string, one Pair)
	}{
		{"nothing is new", false, "", "one", func(*testing.T, string, Pair) {}},
		{"a renewed pair", true, "", "new", func(t *testing.T, at string, one Pair) {
			replace(t, one, write(t, at, "new", named("one.test")))
		}},
		{"only the certificate has been written yet", false, "does not match", "one", func(t *testing.T, at string, one Pair) {
			overwrite(t, one.Cert, read(t, write(t, at, "new", named("one.test")).Cert))
		}},
		{"half of the certificate has been written yet", false, "any PEM data", "one", func(t *testing.T, _ string, one Pair) {
			text := read(t, one.Cert)
			overwrite(t, one.Cert, text[:len(text)/2])
		}},
		{"the key is gone", false, "cannot read key", "one", func(t *testing.T, _ string, one Pair) {
			must(t, os.Remove(one.Key))
		}},
		{"a certificate for another name: the old name is nobody's", true, "", "other", func(t *testing.T, at string, one Pair) {
			replace(t, one, write(t, at, "new", named("moved.test")))
		}},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			at := t.TempDir()
			other, one := write(t, at, "other", named("other.test")), write(t, at, "one", named("one.test"))
			s := newStore(t, Config{Pairs: []Pair{other, one}})
			address := serve(t, s.TLSConfig())
			test.change(t, at, one)

			changed, err := s.Reload()
			if changed != test.changed {
				t.Errorf("Reload says changed %v, want %v", changed, test.changed)
			}
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Errorf("Reload gave %v, want %q", err, test.err)
			}
			if err != nil && !strings.Contains(err.Error(), filepath.Join(at, "one")) {
				t.Errorf("Reload gave %v, which does not name the file", err)
			}
			if got, err := dial(address, &tls.Config{ServerName: "one.test"}); got != test.serves {
				t.Errorf("one.test gets %q, %v, want %q", got, err, test.serves)
			}
		})
	}
}

func TestReloadIsPerPair(t *testing.T) {
	at := t.TempDir()
	bad, good := write(t, at, "bad", named("bad.test")), write(t, at, "good", named("good.test"))
	s := newStore(t, Config{Pairs: []Pair{bad, good}})
	overwrite(t, bad.Cert, []byte("garbage"))
	replace(t, good, write(t, at, "renewed", named("good.test")))
	changed, err := s.Reload()
	if !changed || err == nil || !strings.Contains(err.Error(), bad.Cert) {
		t.Errorf("Reload gave %v, %v, want a change and an error about %s", changed, err, bad.Cert)
	}
	address := serve(t, s.TLSConfig())
	for name, want := range map[string]string{"bad.test": "bad", "good.test": "renewed"} {
		if got, err := dial(address, &tls.Config{ServerName: name}); got != want {
			t.Errorf("%s gets %q, %v, want %q", name, got, err, want)
		}
	}
}

// TestReloadUnderLoad rotates certificates while clients connect: each gets one or the other, none fails.
func TestReloadUnderLoad(t *testing.T) {
	at := t.TempDir()
	one := write(t, at, "one", named("one.test"))
	next := [...]Pair{write(t, at, "a", named("one.test")), write(t, at, "b", named("one.test"))}
	s := newStore(t, Config{Pairs: []Pair{one}, StrictSNI: true})
	address := serve(t, s.TLSConfig())

	held, err := tls.Dial("tcp", address, &tls.Config{ServerName: "one.test", InsecureSkipVerify: true})
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	rotated := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			for {
				select {
				case <-rotated:
					return
				default:
				}
				if _, err := dial(address, &tls.Config{ServerName: "one.test"}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range 50 {
		replace(t, one, next[i%2])
		if changed, err := s.Reload(); !changed || err != nil {
			t.Errorf("reload %d gave %v, %v, want a change", i, changed, err)
		}
	}
	close(rotated)
	clients.Wait()
	if err := echo(held); err != nil {
		t.Errorf("a connection from before the rotation: %v", err)
	}
	if got, err := dial(address, &tls.Config{ServerName: "one.test"}); got != "b" {
		t.Errorf("one.test gets %q, %v, want the last, b", got, err)
	}
}

// TestRun follows a certificate through swapped links, a bad file and back.
func TestRun(t *testing.T) {
	at := t.TempDir()
	for _, name := range []string{"one", "two", "broken"} {
		write(t, filepath.Join(at, "archive", name), name, named("one.test"))
		rename(t, filepath.Join(at, "archive", name, name+".pem"), filepath.Join(at, "archive", name, "cert.pem"))
		rename(t, filepath.Join(at, "archive", name, name+".key"), filepath.Join(at, "archive", name, "key.pem"))
	}
	overwrite(t, filepath.Join(at, "archive", "broken", "cert.pem"), []byte("garbage"))
	link(t, "archive/one", filepath.Join(at, "live"))
	s := newStore(t, Config{Pairs: []Pair{{filepath.Join(at, "live", "cert.pem"), filepath.Join(at, "live", "key.pem")}}})
	address := serve(t, s.TLSConfig())

	type report struct {
		changed bool
		err     error
	}
	reports := make(chan report, 10)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- s.run(ctx, 10*time.Millisecond, func(changed bool, err error) { reports <- report{changed, err} })
	}()
	steps := []struct {
		intent  string
		target  string
		changed bool
		fails   bool
		serves  string
	}{
		{"the link is swapped", "archive/two", true, false, "two"},
		{"the next certificate is bad: the last stays", "archive/broken", false, true, "two"},
		{"what was served is back: no change, but the end of a failure", "archive/two", false, false, "two"},
		{"the first again", "archive/one", true, false, "one"},
	}
	for _, step := range steps {
		link(t, step.target, filepath.Join(at, "live"))
		select {
		case got := <-reports:
			if got.changed != step.changed || (got.err != nil) != step.fails {
				t.Errorf("%s: told %v, want change %v, failure %v", step.intent, got, step.changed, step.fails)
			}
		case <-time.After(patience):
			t.Fatalf("%s: was not told", step.intent)
		}
		if got, err := dial(address, &tls.Config{ServerName: "one.test"}); got != step.serves {
			t.Errorf("%s: clients get %q, %v, want %q", step.intent, got, err, step.serves)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("Run returned %v after its context was done, want nil", err)
	}
}

func TestRunFindsWhatChangedBeforeIt(t *testing.T) {
	at := t.TempDir()
	one := write(t, at, "one", named("one.test"))
	s := newStore(t, Config{Pairs: []Pair{one}})
	replace(t, one, write(t, at, "new", named("one.test")))
	ctx, cancel := context.WithCancel(t.Context())
	told := false
	err := s.Run(ctx, func(changed bool, err error) {
		told = changed && err == nil
		cancel()
	})
	if err != nil || !told {
		t.Errorf("Run returned %v and told of a change: %v, want it told", err, told)
	}
}
