package keystore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/auth"
)

// server is a real redis-server that belongs to one test.
type server struct {
	t    *testing.T
	port int
	dir  string
	args []string
	cmd  *exec.Cmd
}

// startRedis starts a server on a free port that writes every change to its disk. It ends with the test.
func startRedis(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, port: freePort(t), dir: t.TempDir(), args: args}
	t.Cleanup(s.kill)
	s.start()
	return s
}

// portsTried counts the ports that freePort has tried. They are below those that the system gives to whoever connects
// or asks for any, as it may give one of these away before it is used here; and other tests that run now begin elsewhere.
var portsTried atomic.Uint32

// freePort is one that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := int(10_000 + (97*uint32(os.Getpid())+portsTried.Add(1))%22_000)
		if l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			_ = l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

func (s *server) start() {
	s.t.Helper()
	s.launch(append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always"}, s.args...)...)
}

func (s *server) launch(args ...string) {
	s.t.Helper()
	path, err := exec.LookPath("redis-server")
	if err != nil {
		s.t.Fatalf("these tests need a real Redis: %v", err)
	}
	s.cmd = exec.Command(path, args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, 10*time.Second, "the server listens", func() error {
		conn, err := net.Dial("tcp", s.address())
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

func (s *server) url() string { return "redis://" + s.address() }

// kill is kill -9.
func (s *server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		s.cmd.Process.Kill()
		s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) signal(sig os.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// forget removes what the server wrote down.
func (s *server) forget() {
	s.t.Helper()
	if err := os.RemoveAll(filepath.Join(s.dir, "appendonlydir")); err != nil {
		s.t.Fatal(err)
	}
}

// do sends one command on a connection of its own.
func (s *server) do(args ...string) string {
	s.t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.address()}, ForceSingleClient: true, DisableCache: true})
	if err != nil {
		s.t.Fatal(err)
	}
	defer client.Close()
	result := client.Do(s.t.Context(), client.B().Arbitrary(args...).Build())
	if err := result.Error(); err != nil && !rueidis.IsRedisNil(err) {
		s.t.Fatalf("%q: %v", args, err)
	}
	text, err := result.ToString()
	if err != nil {
		return result.String()
	}
	return text
}

// reads is how many records were read so far that exist.
func (s *server) reads() int {
	s.t.Helper()
	_, rest, _ := strings.Cut(s.do("INFO", "stats"), "keyspace_hits:")
	digits, _, _ := strings.Cut(rest, "\r")
	n, err := strconv.Atoi(digits)
	if err != nil {
		s.t.Fatal(err)
	}
	return n
}

// event is one call of Report.
type event struct {
	up  bool
	err error
}

// journal keeps what a store reports.
type journal struct {
	mu     sync.Mutex
	events []event
}

func (j *journal) report(up bool, err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, event{up, err})
}

func (j *journal) all() []event {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]event(nil), j.events...)
}

// open opens a store and waits for its connection. The timeout is longer than in earnest, for the race detector's sake.
func open(t *testing.T, url string, change func(*RedisConfig)) (*Redis, *journal) {
	t.Helper()
	r, j := openAway(t, url, change)
	if _, err := r.client(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r, j
}

// openAway opens a store and does not wait.
func openAway(t *testing.T, url string, change func(*RedisConfig)) (*Redis, *journal) {
	t.Helper()
	j := &journal{}
	config := RedisConfig{
		URL: url, Prefix: "test:", Report: j.report,
		Timeout: 200 * time.Millisecond, CacheTTL: time.Hour, NegativeTTL: time.Hour, StaleIfError: 5 * time.Minute,
	}
	if change != nil {
		change(&config)
	}
	r, err := NewRedis(config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	return r, j
}

// eventually waits until f succeeds, and fails the test if that takes longer than the bound.
func eventually(t *testing.T, within time.Duration, what string, f func() error) {
	t.Helper()
	err := f()
	for end := time.Now().Add(within); err != nil && time.Now().Before(end); err = f() {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatalf("not within %v: %s: %v", within, what, err)
	}
}

// record makes the record of a key that is its own name.
func record(key string) auth.KeyRecord {
	d := auth.DigestKey([]byte(key))
	scopes, err := auth.NewScopes([]string{"read:orders", "write:orders"})
	if err != nil {
		panic(err)
	}
	return auth.KeyRecord{
		ID: d.KeyID(), Digest: d, Client: "client of " + key, Tier: "gold", Scopes: scopes,
		Rate: auth.Rate{N: 1000, Per: time.Hour}, Created: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
}

func put(t *testing.T, s Store, keys ...string) {
	t.Helper()
	for _, key := range keys {
		if err := s.Put(t.Context(), record(key)); err != nil {
			t.Fatal(err)
		}
	}
}

func disable(t *testing.T, s Store, key string, disabled bool) {
	t.Helper()
	err := s.Update(t.Context(), record(key).ID, func(r *auth.KeyRecord) error {
		r.Disabled = disabled
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// look gives nil when a key's lookup ends as it should: want is nil, auth.ErrInvalid or auth.ErrUnavailable.
func look(s auth.KeyLookup, key string, at time.Time, want error) error {
	p, err := s.Lookup(context.Background(), auth.DigestKey([]byte(key)), at)
	switch {
	case !errors.Is(err, want):
		return fmt.Errorf("key %q: got %v, want %v", key, err, want)
	case want != nil && p != nil:
		return fmt.Errorf("key %q: a principal came with the error %v", key, err)
	case want == nil && p.Client != "client of "+key:
		return fmt.Errorf("key %q: got the principal of %q", key, p.Client)
	}
	return nil
}

// holds is look for what must be so at once.
func holds(t *testing.T, s auth.KeyLookup, key string, want error) {
	t.Helper()
	if err := look(s, key, time.Now(), want); err != nil {
		t.Error(err)
	}
}
