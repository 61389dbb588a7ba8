package engine

import (
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startRedis runs a real redis-server until the end of the test.
func startRedis(t testing.TB) (address string) {
	t.Helper()
	address = freeAddress(t)
	host, port, _ := net.SplitHostPort(address)
	cmd := exec.Command("redis-server", "--bind", host, "--port", port, "--dir", t.TempDir(), "--save", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("these tests need a real Redis: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

func redisTable(address string) string {
	return fmt.Sprintf("[redis]\nurl = \"redis://%s\"\ntimeout = \"10s\"\n", address)
}

// inRedis is a [[limit]] that is decided there.
func inRedis(name, rest string) string { return limitTable(name, "scope = \"redis\"\n"+rest) }

// Limits of this process and limits in Redis admit a request together or not at all: what one took is given back when
// another refuses, wherever they are.
func TestLimitsHereAndThere(t *testing.T) {
	const wide, narrow = "key = []\nrate = \"1/d\"\nburst = 10", "key = []\nrate = \"1/d\"\nburst = 3"
	for _, c := range []struct{ intent, limits string }{
		{"the one here refuses", inRedis("a", wide) + limitTable("b", narrow)},
		{"the one there refuses", inRedis("b", narrow) + limitTable("a", wide)},
		{"both are there", inRedis("b", narrow) + inRedis("a", wide)},
		{"there is a guard", inRedis("a", strings.Replace(wide, "key = []", "key = []\nbefore_auth = true", 1)) + inRedis("b", narrow)},
		{"a guard is here", limitTable("a", wide+"\nbefore_auth = true") + inRedis("b", narrow)},
	} {
		t.Run(c.intent, func(t *testing.T) {
			g := startLimited(t, "", redisTable(startRedis(t))+limitedRoutes(rawServer(t, smallAnswer), c.limits, "a", "b"))
			client := dial(t, g.address)
			for i := range 8 {
				a, err := client.try("GET /")
				if err != nil {
					t.Fatal(err)
				}
				if want := map[bool]int{true: 200, false: 429}[i < 3]; a.status != want {
					t.Fatalf("request %d: status %d, want %d", i, a.status, want)
				} else if want == 429 && !strings.Contains(a.body, `"limit":"b"`) {
					t.Fatalf("the wrong limit is blamed: %s", a.body)
				}
			}
			for end := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
				states, err := g.LimitStates("a", nil)
				if err == nil && len(states) == 1 && states[0].Remaining == 7 {
					return
				}
				if time.Now().After(end) {
					t.Fatalf("%v, %v: want 7 left", states, err)
				}
			}
		})
	}
}

// A shadow in Redis lets everything pass and counts whom it would have refused, and is told to nobody.
func TestShadowInRedis(t *testing.T) {
	g := startLimited(t, "", redisTable(startRedis(t))+
		limitedRoutes(rawServer(t, smallAnswer), inRedis("a", "key = []\nrate = \"2/d\"\nalgorithm = \"fixed_window\"\nmode = \"shadow\""), "a"))
	client := dial(t, g.address)
	for range 5 {
		a, err := client.try("GET /")
		if err != nil {
			t.Fatal(err)
		}
		if a.status != 200 || a.fields.Get("RateLimit") != "" {
			t.Errorf("status %d, fields %v", a.status, a.fields)
		}
	}
	if l := g.Limits()[0]; l.WouldRefuse != 3 || l.Refused != 0 {
		t.Errorf("%+v", l)
	}
}

// Clients are told of limits here and there alike.
func TestHeadersOfRedisLimits(t *testing.T) {
	g := startLimited(t, "", redisTable(startRedis(t))+
		limitedRoutes(rawServer(t, smallAnswer), limitTable("here", "key = []\nrate = \"100/h\"\nburst = 50")+
			inRedis("there", "key = []\nrate = \"6/h\"\nburst = 3"), "there", "here"))
	client := dial(t, g.address)
	var last *answer
	for range 4 {
		var err error
		if last, err = client.try("GET /"); err != nil {
			t.Fatal(err)
		}
	}
	want := http.Header{
		"X-Ratelimit-Limit": {"3"}, "X-Ratelimit-Remaining": {"0"}, "X-Ratelimit-Reset": {"600"},
		"Ratelimit-Policy": {`"here";q=50;w=1800, "there";q=3;w=1800`},
	}
	for name := range want {
		if last.fields.Get(name) != want.Get(name) {
			t.Errorf("%s: %q, want %q", name, last.fields.Get(name), want.Get(name))
		}
	}
}

// A client that leaves a queue in Redis gives its turn back, if that is the last.
func TestQueueInRedisLeave(t *testing.T) {
	text := redisTable(startRedis(t)) + limitedRoutes(rawServer(t, smallAnswer),
		limitTable("here", "key = []\nrate = \"100/s\"")+
			inRedis("queue", "key = []\nrate = \"1/h\"\nburst = 2\nmax_wait = \"1h\"\nalgorithm = \"leaky_bucket\""), "queue", "here")
	g := startLimited(t, "", text)
	left := func(want int64) {
		t.Helper()
		var states []LimitState
		for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
			var err error
			if states, err = g.LimitStates("queue", nil); err == nil && len(states) == 1 && states[0].Remaining == want {
				return
			}
		}
		t.Fatalf("%v, want %d left", states, want)
	}
	first := dial(t, g.address)
	if a, err := first.try("GET /"); err != nil || a.status != 200 {
		t.Fatal(a, err)
	}
	left(1)
	second := dial(t, g.address)
	if _, err := second.Write([]byte("GET / HTTP/1.1\r\nHost: h\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	left(0)
	second.Close()
	left(1)
}
