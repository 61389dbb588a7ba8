package versus

import (
	"context"
	"crypto/sha256"
	"net"
	"os"
	"os/exec"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-redis/redis_rate/v10"
	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/limiter"
	"github.com/sluice-gateway/sluice/limiter/central"
)

// startRedis starts a redis-server, which ends with the test.
func startRedis(t testing.TB) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address = l.Addr().String()
	l.Close()
	_, port, _ := net.SplitHostPort(address)
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Skipf("a real Redis is needed: %v", err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		if c, err := net.Dial("tcp", address); err == nil {
			c.Close()
			return address
		} else if time.Now().After(end) {
			t.Fatal(err)
		}
	}
}

// openCentral is Sluice's limiter in Redis.
func openCentral(t testing.TB, address string, p policy) take {
	t.Helper()
	s := central.New(central.Config{
		Options: rueidis.ClientOption{InitAddress: []string{address}, ForceSingleClient: true}, Prefix: "sluice:", Timeout: 10 * time.Second,
	})
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { stop(); running.Wait() })
	<-s.Tried()
	rule, err := central.NewRule(limiter.Spec{Name: "bench", Rate: limiter.Rate{N: 1, Per: p.every}, Burst: int64(p.burst)})
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	return func(key string) bool {
		sum := sha256.Sum256([]byte(key))
		charges, verdicts := [1]central.Charge{{Rule: rule, Bucket: central.Bucket(sum[:16])}}, [1]central.Verdict{}
		admitted, err := s.Take(time.Since(began), nil, charges[:], verdicts[:])
		if err != nil {
			t.Error(err)
		}
		return admitted
	}
}

func openRedisRate(t testing.TB, address string, p policy) take {
	t.Helper()
	client := goredis.NewClient(&goredis.Options{Addr: address, PoolSize: 64})
	t.Cleanup(func() { _ = client.Close() })
	l := redis_rate.NewLimiter(client)
	limit := redis_rate.Limit{Rate: 1, Period: p.every, Burst: p.burst}
	return func(key string) bool {
		r, err := l.Allow(context.Background(), key, limit)
		if err != nil {
			t.Error(err)
			return false
		}
		return r.Allowed > 0
	}
}

// TestCentralRatios times decisions in one Redis, on 1000 buckets, in rounds, as TestRatios does for routers.
func TestCentralRatios(t *testing.T) {
	if os.Getenv("SLUICE_RATIOS") == "" {
		t.Skip("set SLUICE_RATIOS to print")
	}
	keys, _ := limiterKeys(1000)
	open := map[string]func(testing.TB, string, policy) take{"sluice": openCentral, "redis_rate": openRedisRate}
	type row struct {
		name    string
		policy  policy
		clients int
	}
	rows := []row{
		{"allow, one client", policy{burst: 1_000_000, every: time.Millisecond}, 1},
		{"allow, 64 clients", policy{burst: 1_000_000, every: time.Millisecond}, 64},
		{"deny, one client", drained(), 1},
		{"deny, 64 clients", drained(), 64},
	}
	for _, r := range rows {
		times := map[string][]float64{}
		takes := map[string]take{}
		for name := range open {
			takes[name] = open[name](t, startRedis(t), r.policy)
			together(takes[name], keys, 1, 2*len(keys))
		}
		for range rounds {
			for name, take := range takes {
				const n = 20_000
				began := time.Now()
				together(take, keys, r.clients, n)
				times[name] = append(times[name], float64(time.Since(began).Microseconds())/n)
			}
		}
		for name := range times {
			slices.Sort(times[name])
		}
		ours, theirs := times["sluice"][rounds/2], times["redis_rate"][rounds/2]
		t.Logf("%-18s sluice %7.2f µs, redis_rate %7.2f µs: %.2f times that", r.name, ours, theirs, theirs/ours)
	}
}

// together has clients take n times in all.
func together(take take, keys []string, clients, n int) {
	var next atomic.Int64
	var all sync.WaitGroup
	for range clients {
		all.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				take(keys[i%len(keys)])
			}
		})
	}
	all.Wait()
}
