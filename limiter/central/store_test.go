package central

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/sluice-gateway/sluice/limiter"
)

func newRule(t testing.TB, s limiter.Spec) *Rule {
	t.Helper()
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	r, err := NewRule(s)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func perDay(t testing.TB, burst int64) *Rule {
	return newRule(t, limiter.Spec{Name: "r", Rate: limiter.Rate{N: 1, Per: 24 * time.Hour}, Burst: burst})
}

// crowd has clients of several stores take from one bucket until each was refused ten times, and counts what was admitted.
func crowd(t *testing.T, stores []*Store, clients int, c Charge) (admitted int64) {
	t.Helper()
	var count atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for i := range clients {
		s := stores[i%len(stores)]
		all.Go(func() {
			for refused := 0; refused < 10; {
				v, err := takeOne(s, time.Since(began), c)
				switch {
				case err != nil:
					t.Errorf("client %d: %v", i, err)
					return
				case v.Refused:
					refused++
					s.memory.forget(c.Bucket) // so that Redis is asked
				default:
					count.Add(1)
				}
			}
		})
	}
	all.Wait()
	return count.Load()
}

// 64 clients of two stores get exactly what the bucket holds, while Redis forgets the scripts.
func TestExactUnderConcurrency(t *testing.T) {
	redis := startRedis(t)
	stores := []*Store{open(t, redis.option(), nil), open(t, redis.option(), nil)}
	for name, spec := range map[string]limiter.Spec{
		"token bucket":   {Rate: limiter.Rate{N: 1, Per: 24 * time.Hour}, Burst: 500},
		"fixed window":   {Algorithm: limiter.FixedWindow, Rate: limiter.Rate{N: 500, Per: 366 * 24 * time.Hour}},
		"sliding window": {Algorithm: limiter.SlidingWindow, Rate: limiter.Rate{N: 500, Per: 366 * 24 * time.Hour}},
	} {
		spec.Name = strings.ReplaceAll(name, " ", "-")
		r := newRule(t, spec)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 20 {
				redis.do("SCRIPT", "FLUSH")
			}
		}()
		if n := crowd(t, stores, 64, Charge{Rule: r}); n != 500 {
			t.Errorf("%s: %d admitted, want 500", name, n)
		}
		<-done
	}
}

// By the server's own clock a bucket fills at its rate, and its key ends after it is full, not before.
func TestServerTime(t *testing.T) {
	redis := startRedis(t)
	s := open(t, redis.option(), nil)
	r := newRule(t, limiter.Spec{Name: "r", Rate: limiter.Rate{N: 20, Per: time.Second}, Burst: 4})
	key := r.key("test:", Bucket{})
	var last Verdict
	for range 4 {
		var err error
		if last, err = takeOne(s, 0, Charge{Rule: r}); err != nil {
			t.Fatal(err)
		}
	}
	ends, err := redis.do("PEXPIRETIME", key).AsInt64()
	if full := last.state.a; err != nil || ends*1000 <= full || ends*1000 > full+2_000_000 {
		t.Errorf("the key ends at %d ms, the bucket is full at %d µs (%v)", ends, full, err)
	}
	eventually(t, "the key is gone", func() error {
		if n, _ := redis.do("EXISTS", key).AsInt64(); n != 0 {
			return errors.New("it is there")
		}
		return nil
	})
	if v, err := takeOne(s, 0, Charge{Rule: r}); err != nil || v.Remaining() != 3 {
		t.Errorf("%d left, want 3 (%v)", v.Remaining(), err)
	}
}

// Of several rates of one client, none ends before it is full.
func TestKeysOutliveAllTheirBuckets(t *testing.T) {
	redis := startRedis(t)
	s := open(t, redis.option(), nil)
	r := newRule(t, limiter.Spec{Name: "r", Rate: limiter.Rate{N: 1, Per: time.Hour}, Tiers: map[string]limiter.Rate{"gold": {N: 1000, Per: time.Second}}})
	slow, err := takeOne(s, 0, Charge{Rule: r})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := takeOne(s, 0, Charge{Rule: r, Tier: "gold"}); err != nil {
		t.Fatal(err)
	}
	if ends, _ := redis.do("PEXPIRETIME", r.key("test:", Bucket{})).AsInt64(); ends*1000 <= slow.state.a {
		t.Errorf("the key ends at %d ms, and a bucket is full at %d µs", ends, slow.state.a)
	}
}

// A store that is killed and comes back, with and without its data, is found out, left alone, and used again; a client
// pays the timeout a few times only.
func TestServerKilledAndBack(t *testing.T) {
	redis := startRedis(t, "--appendonly", "yes", "--appendfsync", "always")
	j := &journal{}
	s := open(t, redis.option(), func(c *Config) { c.Timeout, c.Report = 200*time.Millisecond, j.report })
	r, clock := perDay(t, 10), clock{time.Now()}
	take := func() (Verdict, error) { return takeOne(s, clock.now(), Charge{Rule: r}) }
	if _, err := take(); err != nil {
		t.Fatal(err)
	}
	redis.kill()
	eventually(t, "the store is found out", func() error {
		if _, err := take(); err == nil {
			t.Fatal("a dead server decides")
		}
		if s.Stats().Up {
			return errors.New("it is up")
		}
		return nil
	})
	asked := s.Stats().Asked
	for range 1000 {
		if _, err := take(); !errors.Is(err, ErrUnavailable) {
			t.Fatal(err)
		}
	}
	if n := s.Stats().Asked - asked; n > 100 {
		t.Errorf("a dead server was asked %d times by 1000 requests", n)
	}
	if wait := s.Reopens(clock.now()); wait > openFor {
		t.Errorf("it is asked again in %v", wait)
	}
	redis.start()
	eventually(t, "the store is used again", func() error { _, err := take(); return err })
	if v, err := take(); err != nil || v.Remaining() > 7 {
		t.Errorf("%d left (%v): what was taken before is forgotten", v.Remaining(), err)
	}
	if told := j.all(); !slices.Equal(told, []bool{true, false, true}) {
		t.Errorf("reported %v, want each change once", told)
	}
}

// While a server hangs, a request waits for the timeout and no longer; an admission that comes too late is given back,
// but not to a request that has passed meanwhile.
func TestServerThatHangs(t *testing.T) {
	for _, passes := range []bool{false, true} {
		t.Run(fmt.Sprintf("passes %v", passes), func(t *testing.T) {
			redis := startRedis(t)
			s := open(t, redis.option(), func(c *Config) { c.Timeout = 30 * time.Millisecond })
			r := perDay(t, 10)
			c := Charge{Rule: r, Passes: passes}
			eventually(t, "a first decision", func() error { _, err := takeOne(s, 0, c); return err })
			before := remaining(t, s, r)
			redis.signal(syscall.SIGSTOP)
			if _, err := takeOne(s, 0, c); !errors.Is(err, ErrUnavailable) {
				t.Fatal(err)
			}
			redis.signal(syscall.SIGCONT)
			eventually(t, "the late answer is here", func() error {
				if s := s.Stats(); s.Late != 1 || !passes && s.Returned != 1 {
					return fmt.Errorf("%+v", s)
				}
				return nil
			})
			want := before
			if passes {
				want--
			}
			if left := remaining(t, s, r); left != want {
				t.Errorf("%d left, want %d", left, want)
			}
		})
	}
}

func remaining(t testing.TB, s *Store, r *Rule) int64 {
	t.Helper()
	states, err := s.Inspect(t.Context(), r, Bucket{})
	if err != nil || len(states) != 1 {
		t.Fatalf("%v, %v", states, err)
	}
	return states[0].Remaining
}

// Who leaves does not wait, and gets back what he took.
func TestClientLeaves(t *testing.T) {
	redis := startRedis(t)
	s := open(t, redis.option(), nil)
	r := perDay(t, 10)
	if _, err := takeOne(s, 0, Charge{Rule: r}); err != nil {
		t.Fatal(err)
	}
	redis.signal(syscall.SIGSTOP)
	gone := make(chan struct{}, 1)
	gone <- struct{}{}
	verdicts := [1]Verdict{}
	if _, err := s.Take(0, gone, []Charge{{Rule: r, Passes: true}}, verdicts[:]); !errors.Is(err, ErrGone) {
		t.Fatal(err)
	}
	redis.signal(syscall.SIGCONT)
	eventually(t, "it is given back, or was never asked", func() error {
		if left := remaining(t, s, r); left != 9 {
			return fmt.Errorf("%d left", left)
		}
		return nil
	})
}

// In a cluster, where the buckets of a request are on several nodes, a request still takes from all or from none.
func TestCluster(t *testing.T) {
	redis := startRedis(t, "--cluster-enabled", "yes")
	redis.do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	eventually(t, "the cluster is complete", func() error {
		if info, _ := redis.do("CLUSTER", "INFO").ToString(); !strings.Contains(info, "cluster_state:ok") {
			return errors.New(info)
		}
		return nil
	})
	s := open(t, rueidis.ClientOption{InitAddress: []string{redis.address()}}, nil)
	if !s.cluster {
		t.Fatal("it is not taken for a cluster")
	}
	wide := newRule(t, limiter.Spec{Name: "wide", Rate: limiter.Rate{N: 1, Per: 24 * time.Hour}, Burst: 10})
	narrow := newRule(t, limiter.Spec{Name: "narrow", Rate: limiter.Rate{N: 1, Per: 24 * time.Hour}, Burst: 4})
	slots := map[int64]bool{}
	for i := range byte(8) {
		charges := []Charge{{Rule: wide, Bucket: Bucket{i}}, {Rule: narrow, Bucket: Bucket{i, 1}}}
		for _, c := range charges {
			slot, _ := redis.do("CLUSTER", "KEYSLOT", c.Rule.key("test:", c.Bucket)).AsInt64()
			slots[slot] = true
		}
		for n := range 6 {
			s.memory.forget(charges[1].Bucket)
			verdicts := [2]Verdict{}
			admitted, err := s.Take(0, nil, charges, verdicts[:])
			if err != nil || admitted != (n < 4) {
				t.Fatalf("request %d: admitted %v, %v", n, admitted, err)
			}
		}
		eventually(t, "what the narrow limit refused is back in the wide one", func() error {
			states, err := s.Inspect(t.Context(), wide, Bucket{i})
			if err != nil || len(states) != 1 || states[0].Remaining != 6 {
				return fmt.Errorf("%v, %v", states, err)
			}
			return nil
		})
	}
	if len(slots) < 8 {
		t.Errorf("16 buckets are in %d slots", len(slots))
	}
}

// Behind sentinels, the store follows the master.
func TestSentinel(t *testing.T) {
	master, replica, sentinel := startRedis(t), startRedis(t), &server{t: t, port: freePort(t), dir: t.TempDir()}
	replica.do("REPLICAOF", "127.0.0.1", fmt.Sprint(master.port))
	startSentinel(sentinel, master)
	option := rueidis.ClientOption{InitAddress: []string{sentinel.address()}, Sentinel: rueidis.SentinelOption{MasterSet: "m"}}
	s := open(t, option, nil)
	if s.cluster {
		t.Fatal("it is taken for a cluster")
	}
	r := perDay(t, 10)
	if v, err := takeOne(s, 0, Charge{Rule: r}); err != nil || v.Remaining() != 9 {
		t.Fatal(v.Remaining(), err)
	}
	eventually(t, "the sentinel knows the replica", func() error {
		if info, _ := sentinel.do("INFO", "sentinel").ToString(); !strings.Contains(info, "slaves=1") {
			return errors.New(info)
		}
		return nil
	})
	eventually(t, "the replica has what was taken", func() error {
		if n, _ := replica.do("EXISTS", r.key("test:", Bucket{})).AsInt64(); n != 1 {
			return errors.New("no")
		}
		return nil
	})
	master.kill()
	clock := clock{time.Now()}
	eventually(t, "the replica decides, and knows what was taken", func() error {
		v, err := takeOne(s, clock.now(), Charge{Rule: r})
		if err == nil && v.Remaining() > 8 {
			t.Fatal("it does not")
		}
		return err
	})
}

func startSentinel(s, master *server) {
	s.t.Helper()
	path := s.dir + "/sentinel.conf"
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor m 127.0.0.1 %d 1\nsentinel down-after-milliseconds m 500\nsentinel failover-timeout m 2000\n", s.port, s.dir, master.port)
	if err := writeFile(path, text); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.kill)
	s.launch(path, "--sentinel")
}
