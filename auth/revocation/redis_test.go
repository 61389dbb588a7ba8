package revocation

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/auth"
)

// soon is within what others must have heard of an entry; tardy is how long a test waits before it calls it never.
const (
	soon  = time.Second
	tardy = 15 * time.Second
)

// server is a redis-server that can be killed, stopped and started again with what it saved.
type server struct {
	t      *testing.T
	folder string
	port   int
	cmd    *exec.Cmd
}

func startServer(t *testing.T) *server {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("there is no redis-server")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, folder: t.TempDir(), port: listener.Addr().(*net.TCPAddr).Port}
	listener.Close()
	s.start(s.folder)
	t.Cleanup(s.kill)
	return s
}

func (s *server) address() string { return "127.0.0.1:" + strconv.Itoa(s.port) }

func (s *server) start(folder string) {
	s.t.Helper()
	s.cmd = exec.Command("redis-server", "--port", strconv.Itoa(s.port), "--bind", "127.0.0.1", "--dir", folder,
		"--save", "", "--appendonly", "yes", "--appendfsync", "always", "--daemonize", "no")
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	eventually(s.t, "redis-server listens", func() bool {
		conn, err := net.DialTimeout("tcp", s.address(), time.Second)
		if err != nil {
			return false
		}
		defer conn.Close()
		_, _ = conn.Write([]byte("PING\r\n"))
		answer := make([]byte, 5)
		_ = conn.SetReadDeadline(time.Now().Add(time.Second))
		_, err = conn.Read(answer)
		return err == nil && string(answer) == "+PONG"
	})
}

func (s *server) kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
	}
}

func (s *server) signal(sig syscall.Signal) { _ = s.cmd.Process.Signal(sig) }

func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(tardy); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, tardy)
		}
	}
}

// member is a gateway's part: a Store that runs.
type member struct {
	*Redis
	reports
}

// reports collects what is reported.
type reports struct {
	mu   sync.Mutex
	errs []error
}

func (r *reports) add(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
}

func (r *reports) all() []error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]error(nil), r.errs...)
}

func join(t *testing.T, s *server) *member {
	m := &member{}
	m.Redis = NewRedis(RedisConfig{
		Options: rueidis.ClientOption{InitAddress: []string{s.address()}}, Prefix: "test", List: New(Config{}), Report: m.reports.add,
	})
	runs(t, m.Redis)
	return m
}

// runs runs a Store until the test ends.
func runs(t *testing.T, s Store) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
}

func token(id string) Entry {
	return Entry{Kind: Token, ID: id, Expires: time.Now().Add(time.Hour).UTC()}
}

func (m *member) knows(id string) bool {
	return m.list.Revoked(&auth.Principal{Method: "jwt:main", Client: "c", Credential: id}, time.Now())
}

func (m *member) revoke(t *testing.T, id string) {
	t.Helper()
	if err := m.Add(t.Context(), token(id), time.Now()); err != nil {
		t.Fatal(err)
	}
	if !m.knows(id) {
		t.Fatalf("%s is not in force where it was added", id)
	}
}

// reaches waits until a member knows an id, and fails if that took longer than others may.
func (m *member) reaches(t *testing.T, id string, within time.Duration) {
	t.Helper()
	start := time.Now()
	eventually(t, id+" is in force", func() bool { return m.knows(id) })
	if took := time.Since(start); took > within {
		t.Errorf("%s was in force after %s, want %s", id, took, within)
	}
}

func TestRedisReachesAllMembers(t *testing.T) {
	s := startServer(t)
	a, b := join(t, s), join(t, s)
	for i := range 20 {
		id := fmt.Sprint("token-", i)
		a.revoke(t, id)
		b.reaches(t, id, soon)
	}
	b.revoke(t, "back")
	a.reaches(t, "back", soon)
	late := join(t, s)
	for i := range 20 {
		late.reaches(t, fmt.Sprint("token-", i), tardy)
	}
	late.reaches(t, "back", tardy)
	if late.knows("never") {
		t.Error("what was never revoked is")
	}
	if errs := append(append(a.all(), b.all()...), late.all()...); len(errs) > 0 {
		t.Errorf("reported %v, want nothing", errs)
	}
}

func TestRedisBurst(t *testing.T) {
	s := startServer(t)
	a, b := join(t, s), join(t, s)
	const writers, each = 20, 150 // several pages
	var adding sync.WaitGroup
	for w := range writers {
		adding.Go(func() {
			for i := range each {
				if err := a.Add(t.Context(), token(fmt.Sprintf("%d-%d", w, i)), time.Now()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	adding.Wait()
	start := time.Now()
	eventually(t, "all arrive", func() bool { return b.list.Len() == writers*each })
	t.Logf("the last of %d arrived %s after it was acknowledged", writers*each, time.Since(start))
	late := join(t, s)
	eventually(t, "all are there for who comes late", func() bool { return late.list.Len() == writers*each })
}

func TestRedisAway(t *testing.T) {
	s := startServer(t)
	a, b := join(t, s), join(t, s)
	a.revoke(t, "before")
	b.reaches(t, "before", soon)
	s.kill()
	if err := a.Add(t.Context(), token("away"), time.Now()); err == nil || errors.Is(err, ErrInvalid) {
		t.Fatalf("Add without Redis: %v, want that it cannot be kept", err)
	}
	if a.knows("away") {
		t.Error("what could not be kept is in force")
	}
	eventually(t, "it is reported", func() bool { return len(b.all()) == 1 && b.all()[0] != nil })
	for _, m := range []*member{a, b} {
		if !m.knows("before") {
			t.Error("what was known is forgotten while Redis is away")
		}
	}
	early := join(t, s) // starts without Redis
	if early.knows("before") {
		t.Error("nobody can have told")
	}
	s.start(s.folder)
	early.reaches(t, "before", tardy)
	eventually(t, "Add works again", func() bool { return a.Add(t.Context(), token("after"), time.Now()) == nil })
	b.reaches(t, "after", tardy)
	early.reaches(t, "after", tardy)
	eventually(t, "the end is reported", func() bool { return len(b.all()) == 2 && b.all()[1] == nil })
}

// TestRedisComesBackEmpty shows that what Redis lost comes back from those who know it.
func TestRedisComesBackEmpty(t *testing.T) {
	s := startServer(t)
	a, b := join(t, s), join(t, s)
	for i := range 3 * load / 2 {
		a.revoke(t, fmt.Sprint("old-", i))
	}
	b.reaches(t, fmt.Sprint("old-", 3*load/2-1), soon)
	s.kill()
	s.start(t.TempDir())
	late := join(t, s)
	for i := range 3 * load / 2 {
		late.reaches(t, fmt.Sprint("old-", i), tardy)
	}
	late.revoke(t, "new")
	a.reaches(t, "new", tardy)
	b.reaches(t, "new", tardy)
}

// TestRedisThatForgetsSomeIsTaught has a server lose its newest entry without a broken connection, as behind a
// proxy that turns to a replica.
func TestRedisThatForgetsSomeIsTaught(t *testing.T) {
	s := startServer(t)
	a := join(t, s)
	a.revoke(t, "kept")
	a.revoke(t, "lost")
	eventually(t, "it has seen the last", func() bool { return scan(t, s, a.Redis) == 2 })
	time.Sleep(2 * glance)
	do(t, s, func(c rueidis.Client) rueidis.Completed {
		return c.B().Zremrangebyscore().Key(a.entries).Min("2").Max("2").Build()
	})
	do(t, s, func(c rueidis.Client) rueidis.Completed {
		return c.B().Hset().Key(a.state).FieldValue().FieldValue("seq", "1").Build()
	})
	eventually(t, "it is written again", func() bool { return scan(t, s, a.Redis) == 2 })
	late := join(t, s)
	late.reaches(t, "lost", tardy)
}

func do(t *testing.T, s *server, build func(rueidis.Client) rueidis.Completed) rueidis.RedisResult {
	t.Helper()
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.address()}})
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	answer := client.Do(t.Context(), build(client))
	if err := answer.Error(); err != nil {
		t.Fatal(err)
	}
	return answer
}

func scan(t *testing.T, s *server, r *Redis) int64 {
	n, err := do(t, s, func(c rueidis.Client) rueidis.Completed { return c.B().Zcard().Key(r.entries).Build() }).AsInt64()
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func TestRedisThatHangs(t *testing.T) {
	s := startServer(t)
	a, b := join(t, s), join(t, s)
	a.revoke(t, "before")
	b.reaches(t, "before", soon)
	s.signal(syscall.SIGSTOP)
	start := time.Now()
	if err := a.Add(t.Context(), token("hung"), time.Now()); err == nil {
		t.Error("Add with a Redis that hangs returned nil")
	}
	if took := time.Since(start); took > 5*a.timeout {
		t.Errorf("it took %s to give up, want about %s", took, a.timeout)
	}
	s.signal(syscall.SIGCONT)
	eventually(t, "Add works again", func() bool { return a.Add(t.Context(), token("after"), time.Now()) == nil })
	b.reaches(t, "after", tardy)
}

func TestRedisIsNotBelievedBlindly(t *testing.T) {
	s := startServer(t)
	a := join(t, s)
	far, err := Entry{Kind: Token, ID: "far", Expires: time.Now().Add(2 * MaxLife)}.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	fine, err := token("fine").AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, member := range []string{"garbage", "", string(far), string(fine) + "tail", string(fine)} {
		do(t, s, func(c rueidis.Client) rueidis.Completed {
			return c.B().Zadd().Key(a.entries).ScoreMember().ScoreMember(float64(i+1), member).Build()
		})
	}
	a.reaches(t, "fine", tardy)
	if n := a.list.Len(); n != 1 {
		t.Errorf("%d entries, want the one that is well formed", n)
	}
	eventually(t, "the others are reported", func() bool { return len(a.all()) > 0 && errors.Is(a.all()[0], ErrInvalid) })
}

func TestRedisForgetsWhatHasEnded(t *testing.T) {
	s := startServer(t)
	a := join(t, s)
	a.revoke(t, "lasting")
	past := token("ended")
	past.Expires = time.Now().Add(-2 * time.Minute)
	if err := a.push(t.Context(), []Entry{past}); err != nil {
		t.Fatal(err)
	}
	if n := scan(t, s, a.Redis); n != 2 {
		t.Fatalf("%d entries in Redis, want 2", n)
	}
	(&feed{Redis: a.Redis}).forget(t.Context())
	if n := scan(t, s, a.Redis); n != 1 {
		t.Errorf("%d entries in Redis after it was to forget, want 1", n)
	}
	if a.knows("ended") {
		t.Error("an ended entry is in force")
	}
}

func TestRedisAddNeedsNoRun(t *testing.T) {
	s := startServer(t)
	a := join(t, s)
	command := NewRedis(RedisConfig{Options: rueidis.ClientOption{InitAddress: []string{s.address()}}, Prefix: "test", List: New(Config{})})
	if err := command.Add(t.Context(), token("once"), time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := command.Close(); err != nil {
		t.Fatal(err)
	}
	if err := command.Add(t.Context(), token("closed"), time.Now()); !errors.Is(err, ErrClosed) {
		t.Errorf("Add after Close: %v, want %v", err, ErrClosed)
	}
	a.reaches(t, "once", soon)
}
