package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// redisServer is a real redis-server that keeps its data over a kill.
type redisServer struct {
	t       testing.TB
	address string
	dir     string
	command *exec.Cmd
}

func newRedis(t testing.TB) *redisServer {
	t.Helper()
	s := &redisServer{t: t, address: freeAddress(t), dir: t.TempDir()}
	t.Cleanup(s.kill)
	return s
}

func (s *redisServer) start() {
	s.t.Helper()
	host, port, _ := net.SplitHostPort(s.address)
	s.command = exec.Command("redis-server", "--bind", host, "--port", port, "--dir", s.dir, "--save", "",
		"--appendonly", "yes", "--appendfsync", "always", "--protected-mode", "no")
	s.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.command.Start(); err != nil {
		s.t.Fatalf("redis-server is needed for this test: %v", err)
	}
	eventually(s.t, "redis-server answers", func() bool {
		reply, err := s.try("PING")
		return err == nil && strings.HasPrefix(reply, "+PONG")
	})
}

func (s *redisServer) kill() {
	if s.command != nil {
		_ = s.command.Process.Kill()
		_ = s.command.Wait()
		s.command = nil
	}
}

// do sends one command.
func (s *redisServer) do(args ...string) {
	s.t.Helper()
	if reply, err := s.try(args...); err != nil || strings.HasPrefix(reply, "-") {
		s.t.Fatalf("redis %q: %q, %v", args, reply, err)
	}
}

func (s *redisServer) try(args ...string) (reply string, err error) {
	c, err := net.DialTimeout("tcp", s.address, time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	fmt.Fprintf(c, "*%d\r\n", len(args))
	for _, arg := range args {
		fmt.Fprintf(c, "$%d\r\n%s\r\n", len(arg), arg)
	}
	reply, err = bufio.NewReader(c).ReadString('\n')
	if err == io.EOF {
		err = nil
	}
	return reply, err
}

// put writes a record as the gateways read it.
func (s *redisServer) put(key, client, more string) {
	s.t.Helper()
	s.do("SET", recordName(key), fmt.Sprintf(`{"id":%q,"client":%q%s}`, idOf(key), client, more))
	s.do("HSET", "sluice:{keys}:index", idOf(key), hashOf(key))
}

func (s *redisServer) remove(key string) {
	s.t.Helper()
	s.do("DEL", recordName(key))
	s.do("HDEL", "sluice:{keys}:index", idOf(key))
}

func recordName(key string) string { return "sluice:{keys}:record:" + hashOf(key) }

// redisTables is the configuration of a gateway whose keys are in Redis. The timeout is long for the race
// detector's sake.
func redisTables(s *redisServer, upstream string) string {
	return fmt.Sprintf("[redis]\nurl = \"redis://%s\"\ntimeout = \"300ms\"\n[auth.keys]\nstore = \"redis\"\n", s.address) +
		upstreamTable(upstream) + guarded("key", `"keys"`, "")
}

// pair is two gateways with one Redis.
type pair struct {
	t     testing.TB
	redis *redisServer
	up    *recorder
	both  [2]*gateway
}

func startPair(t testing.TB) *pair {
	t.Helper()
	p := &pair{t: t, redis: newRedis(t), up: startAnswering(t, ok)}
	p.redis.start()
	for i := range p.both {
		p.both[i] = startGateway(t, redisTables(p.redis, p.up.url()))
	}
	return p
}

// becomes waits until both gateways answer a key with a status.
func (p *pair) becomes(what, key string, status int) {
	p.t.Helper()
	soon(p.t, what, func() bool { return p.both[0].key(p.t, key) == status && p.both[1].key(p.t, key) == status })
}

// is checks what both answer right now.
func (p *pair) is(what, key string, status int, reason string) {
	p.t.Helper()
	for i, g := range p.both {
		r := g.with(p.t, "/key/x", "X-API-Key: "+key)
		if status != 200 {
			r.expectProblem(p.t, status, reason)
		} else if r.status != 200 {
			p.t.Errorf("%s: gateway %d answers %d", what, i, r.status)
		}
	}
}

// A key that is written, disabled or removed in Redis is so in every gateway within a second, though each
// remembers what it has read for minutes.
func TestRedisKeysInTwoGateways(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	p.is("unknown", "one", 401, "credentials_invalid")
	p.redis.put("one", "a", "")
	p.redis.put("two", "b", "")
	p.becomes("created, after it was refused", "one", 200)
	p.is("created", "two", 200, "")
	p.redis.put("one", "a", `,"disabled":true`)
	p.becomes("disabled", "one", 401)
	p.redis.put("one", "a", "")
	p.becomes("enabled", "one", 200)
	p.redis.remove("one")
	p.becomes("removed", "one", 401)
	p.is("another key", "two", 200, "")
	p.redis.do("SET", recordName("two"), "garbage")
	p.becomes("unreadable", "two", 401)
	p.redis.put("two", "b", "")
	p.becomes("readable again", "two", 200)
	p.redis.do("FLUSHALL")
	p.becomes("all are gone", "two", 401)
}

// Without Redis, keys that were seen work and others get 503; when it comes back, so do they, and what changed
// meanwhile is known.
func TestRedisKilledAndRestarted(t *testing.T) {
	t.Parallel()
	p := startPair(t)
	for _, key := range []string{"seen", "unseen", "doomed"} {
		p.redis.put(key, "client-of-"+key, "")
	}
	p.is("before", "seen", 200, "")
	p.is("before", "doomed", 200, "")
	p.is("before", "bad", 401, "credentials_invalid")
	p.redis.kill()
	for range 20 {
		p.is("Redis is away", "seen", 200, "")
		p.is("Redis is away", "unseen", 503, "auth_store_unavailable")
		p.is("Redis is away", "bad", 503, "auth_store_unavailable")
	}
	for _, g := range p.both {
		r := g.with(t, "/key/x", "X-API-Key: unseen")
		if r.fields.get("Retry-After") == "" || r.fields.has("WWW-Authenticate") {
			t.Errorf("a 503 says %v", r.fields)
		}
		g.with(t, "/key/x").expectProblem(t, 401, "credentials_missing")
	}
	p.redis.start()
	begun := time.Now()
	p.redis.remove("doomed")
	eventually(t, "both have recovered", func() bool { return p.both[0].key(t, "unseen") == 200 && p.both[1].key(t, "unseen") == 200 })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("recovered after %v", took)
	}
	p.is("after", "seen", 200, "")
	p.is("after", "doomed", 401, "credentials_invalid")
	p.redis.remove("seen")
	p.becomes("removed after the restart", "seen", 401)
}

// A gateway starts without Redis; its other routes work, and the ones that need keys once Redis is there.
func TestStartWithoutRedis(t *testing.T) {
	t.Parallel()
	s, up := newRedis(t), startAnswering(t, ok)
	g := startGateway(t, redisTables(s, up.url())+guarded("open", `"none"`, ""))
	if r := g.with(t, "/open/x"); r.status != 200 {
		t.Errorf("a public route: %d", r.status)
	}
	g.with(t, "/key/x", "X-API-Key: one").expectProblem(t, 503, "auth_store_unavailable")
	s.start()
	s.put("one", "a", "")
	begun := time.Now()
	eventually(t, "keys work", func() bool { return g.key(t, "one") == 200 })
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("worked after %v", took)
	}
}

// slowly is an address from which connections reach the server after a while.
func (s *redisServer) slowly(wait time.Duration) (address string) {
	l := listenAnywhere(s.t)
	s.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				time.Sleep(wait)
				server, err := net.Dial("tcp", s.address)
				if err != nil {
					return
				}
				defer server.Close()
				go func() {
					_, _ = io.Copy(server, c)
					server.Close()
				}()
				_, _ = io.Copy(c, server)
			}()
		}
	}()
	return l.Addr().String()
}

// A reload that changes how keys are read loses no request: the new way is ready before the old one is gone.
func TestReloadOfRedisKeys(t *testing.T) {
	t.Parallel()
	redis, up := newRedis(t), startAnswering(t, ok)
	redis.start()
	redis.put("one", "a", "")
	front := redis.slowly(400 * time.Millisecond)
	tables := func(ttl string) string {
		return fmt.Sprintf("[redis]\nurl = \"redis://%s\"\ntimeout = \"200ms\"\n[auth.keys]\nstore = \"redis\"\ncache_ttl = %q\n", front, ttl) +
			upstreamTable(up.url()) + guarded("token", `"keys"`, "")
	}
	g := startGateway(t, tables("5m"))
	eventually(t, "keys work", func() bool { return g.with(t, "/token/x", "X-API-Key: one").status == 200 })
	always := startAsker(t, g, "X-API-Key: one")
	for _, ttl := range []string{"6m", "7m"} {
		g.configure(tables(ttl))
		if status, body := g.postReload(t); status != 200 {
			t.Fatalf("%d\n%s", status, body)
		}
	}
	always.expectOK()
}
