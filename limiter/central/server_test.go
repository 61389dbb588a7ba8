package central

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"
)

// server is a real redis-server that belongs to one test.
type server struct {
	t    testing.TB
	port int
	dir  string
	args []string
	cmd  *exec.Cmd
}

// startRedis starts a server on a free port. It ends with the test.
func startRedis(t testing.TB, args ...string) *server {
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
func freePort(t testing.TB) int {
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
	s.launch(append([]string{"--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", s.dir, "--save", ""}, s.args...)...)
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
	eventually(s.t, "the server listens", func() error {
		conn, err := net.Dial("tcp", s.address())
		if err == nil {
			conn.Close()
		}
		return err
	})
}

func (s *server) address() string { return fmt.Sprintf("127.0.0.1:%d", s.port) }

// kill is kill -9.
func (s *server) kill() {
	if s.cmd != nil && s.cmd.Process != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// do sends one command on a connection of its own.
func (s *server) do(args ...string) rueidis.RedisResult {
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
	return result
}

func (s *server) option() rueidis.ClientOption {
	return rueidis.ClientOption{InitAddress: []string{s.address()}, ForceSingleClient: true}
}

// eventually waits until f succeeds.
func eventually(t testing.TB, what string, f func() error) {
	t.Helper()
	err := f()
	for end := time.Now().Add(20 * time.Second); err != nil && time.Now().Before(end); err = f() {
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		t.Fatalf("did not happen in time: %s: %v", what, err)
	}
}

// journal keeps what a store reports.
type journal struct {
	mu   sync.Mutex
	told []bool
}

func (j *journal) report(up bool, _ error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.told = append(j.told, up)
}

func (j *journal) all() []bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return append([]bool(nil), j.told...)
}

// open runs a store until the end of the test, and waits for its first attempt to connect. The timeout is longer
// than in earnest, for the race detector's sake.
func open(t testing.TB, option rueidis.ClientOption, change func(*Config)) *Store {
	t.Helper()
	c := Config{Options: option, Prefix: "test:", Timeout: 5 * time.Second}
	if change != nil {
		change(&c)
	}
	s := New(c)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	<-s.Tried()
	return s
}

// clock is a monotonic one, for Take.
type clock struct{ began time.Time }

func (c clock) now() time.Duration { return time.Since(c.began) }

func takeOne(s *Store, now time.Duration, c Charge) (Verdict, error) {
	verdicts := [1]Verdict{}
	_, err := s.Take(now, nil, []Charge{c}, verdicts[:])
	return verdicts[0], err
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o600) }
