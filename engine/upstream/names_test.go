package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// directory is a resolver under the test's control.
type directory struct {
	mu      sync.Mutex
	answers map[string][]string
	err     error
	asked   int
}

func (d *directory) LookupNetIP(_ context.Context, _, host string) (ips []netip.Addr, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asked++
	if d.err != nil {
		return nil, d.err
	}
	for _, a := range d.answers[host] {
		ips = append(ips, netip.MustParseAddr(a))
	}
	return ips, nil
}

func (d *directory) set(err error, host string, addresses ...string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.err = err
	if host != "" {
		d.answers[host] = addresses
	}
}

func (d *directory) count() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asked
}

func newDirectory(host string, addresses ...string) *directory {
	return &directory{answers: map[string][]string{host: addresses}}
}

// named is a pool of one name, "users", and what it said of it.
func named(t *testing.T, d *directory, change func(c *Config)) (p *Pool, said *[]string) {
	t.Helper()
	said = &[]string{}
	c := Config{
		Name: "u", Targets: []TargetConfig{{Address: "users:80", Weight: 3}}, Resolver: d, Resolve: 30 * time.Second, Epoch: time.Now(),
		Random: constant(1 << 63), Timeouts: Timeouts{Connect: time.Second}, MaxIdle: 4,
		Resolved: func(name string, addresses []string, err error) {
			*said = append(*said, fmt.Sprint(name, " ", addresses, " ", err))
		},
	}
	if change != nil {
		change(&c)
	}
	p, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	p.Resolve(t.Context())
	return p, said
}

// run runs a pool until the test, or its part in a bubble, ends it.
func run(t *testing.T, p *Pool) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		p.Run(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

func addressesOf(p *Pool) (all []string) {
	for _, t := range p.Targets() {
		all = append(all, t.Address())
	}
	return all
}

func wantAddresses(t *testing.T, intent string, p *Pool, want ...string) {
	t.Helper()
	if got := addressesOf(p); !slices.Equal(got, want) {
		t.Errorf("%s: targets %v, want %v", intent, got, want)
	}
}

// What is looked up, and which part of an answer becomes targets.
func TestAnswersBecomeTargets(t *testing.T) {
	many := make([]string, 300)
	for i := range many {
		many[i] = fmt.Sprintf("10.0.%d.%d", i/256, i%256)
	}
	for _, c := range []struct {
		intent, address string
		answer          []string
		want            string
		asked           int
	}{
		{"an address is not looked up", "127.0.0.1:80", nil, "[127.0.0.1:80]", 0},
		{"nor is one of IPv6", "[::1]:80", nil, "[[::1]:80]", 0},
		{"nor a socket", "unix:/run/a.sock", nil, "[unix:/run/a.sock]", 0},
		{"nor this machine, which is one target with two addresses", "localhost:80", nil, "[localhost:80]", 0},
		{"nor a name below it", "a.localhost.:80", nil, "[a.localhost.:80]", 0},
		{"each address is a target, in an order of their own", "users:80", []string{"10.0.0.2", "10.0.0.1"}, "[10.0.0.1:80 10.0.0.2:80]", 1},
		{"each once", "users:80", []string{"10.0.0.2", "10.0.0.2", "::ffff:10.0.0.2"}, "[10.0.0.2:80]", 1},
		{"of the family that comes first", "users:80", []string{"fd00::1", "10.0.0.1", "fd00::2"}, "[[fd00::1]:80 [fd00::2]:80]", 1},
		{"whichever that is", "users:80", []string{"10.0.0.1", "fd00::1"}, "[10.0.0.1:80]", 1},
		{"none that is nobody's own", "users:80", []string{"0.0.0.0", "224.0.0.1", "10.0.0.1"}, "[10.0.0.1:80]", 1},
		{"nor does such a one decide", "users:80", []string{"0.0.0.0", "fd00::1"}, "[[fd00::1]:80]", 1},
		{"no answer, no target", "users:80", nil, "[]", 1},
	} {
		d := newDirectory("users", c.answer...)
		p, _ := named(t, d, func(cfg *Config) { cfg.Targets[0].Address = c.address })
		if got := fmt.Sprint(addressesOf(p)); got != c.want || d.count() != c.asked {
			t.Errorf("%s: %s after %d lookups, want %s after %d", c.intent, got, d.count(), c.want, c.asked)
		}
	}
	p, _ := named(t, newDirectory("users", many...), nil)
	if n := len(p.Targets()); n != maxAddresses {
		t.Errorf("an answer of %d addresses makes %d targets, not %d", len(many), n, maxAddresses)
	}
	for _, target := range p.Targets() {
		if target.weight != 3 || target.Name() != "users:80" || target.Host() != "users:80" {
			t.Fatalf("target %q of %q, host %q, weight %d: each has its name's", target.Address(), target.Name(), target.Host(), target.weight)
		}
	}
}

// A lookup that fails, or finds nothing, changes nothing, is told once, and made again sooner.
func TestLastAddressesStay(t *testing.T) {
	for _, c := range []struct {
		intent string
		fail   func(d *directory)
	}{
		{"the resolver fails", func(d *directory) { d.set(errors.New("down"), "") }},
		{"the answer is empty", func(d *directory) { d.set(nil, "users") }},
	} {
		synctest.Test(t, func(t *testing.T) {
			d := newDirectory("users", "10.0.0.1", "10.0.0.2")
			p, said := named(t, d, nil)
			defer run(t, p)()
			before := slices.Clone(p.Targets())
			c.fail(d)
			time.Sleep(5 * time.Minute)
			synctest.Wait()
			if !slices.Equal(p.Targets(), before) {
				t.Errorf("%s: targets %v", c.intent, addressesOf(p))
			}
			if len(*said) != 2 || !strings.HasPrefix((*said)[1], "users:80 [10.0.0.1:80 10.0.0.2:80] ") {
				t.Errorf("%s: said %q", c.intent, *said)
			}
			if names := p.Names(); len(names) != 1 || names[0].Err == nil || names[0].Addresses != 2 {
				t.Errorf("%s: %+v", c.intent, names)
			}
			d.set(nil, "users", "10.0.0.2")
			time.Sleep(34 * time.Second)
			synctest.Wait()
			wantAddresses(t, c.intent+", until it does not", p, "10.0.0.2:80")
			if len(*said) != 3 || p.Names()[0].Err != nil {
				t.Errorf("%s: said %q", c.intent, *said)
			}
		})
	}
}

// A pool starts without its names, refuses for the time being, and has them soon after they can be had.
func TestNamesMayComeLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory("users", "10.0.0.1")
		d.set(errors.New("down"), "")
		p, _ := named(t, d, nil)
		defer run(t, p)()
		if _, _, err := p.Admit(Choice{}); err != ErrNoTarget {
			t.Errorf("without a target: %v", err)
		}
		time.Sleep(10 * time.Second)
		if n := d.count(); n < 3 || n > 6 {
			t.Errorf("%d lookups in ten seconds of failure", n)
		}
		d.set(nil, "")
		time.Sleep(10 * time.Second)
		synctest.Wait()
		pass := admit(t, p, Choice{})
		if pass.Target().Address() != "10.0.0.1:80" {
			t.Errorf("admitted at %s", pass.Target().Address())
		}
		p.Leave(&pass, Succeeded, 0)
	})
}

// Names are looked up at about the interval, and not again when the pool ends.
func TestNamesAreLookedUpAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory("users", "10.0.0.1")
		p, _ := named(t, d, func(c *Config) {
			random := dice(1)
			c.Random = random.next
		})
		stop := run(t, p)
		time.Sleep(time.Hour)
		if n := d.count(); n < 108 || n > 134 {
			t.Errorf("%d lookups in an hour, every 30 s give or take a tenth", n)
		}
		stop()
		before := d.count()
		time.Sleep(time.Hour)
		if n := d.count(); n != before {
			t.Errorf("%d lookups after the end", n-before)
		}
	})
}

// An address that stays keeps what is known of it; a new one starts slowly; one that left gets no request, and what
// it has at hand ends in peace.
func TestAddressesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := newDirectory("users", "10.0.0.1", "10.0.0.2")
		p, _ := named(t, d, func(c *Config) {
			c.Balance = RoundRobin
			c.Breaker = &BreakerConfig{FailureRatio: 0.5, MinRequests: 1, Window: time.Second, OpenFor: time.Hour, Probes: 1}
		})
		defer run(t, p)()
		stays, goes := p.Targets()[0], p.Targets()[1]
		last := admit(t, p, Choice{Avoid: stays})
		broken := admit(t, p, Choice{Avoid: goes})
		p.Leave(&broken, Failed, time.Second)

		d.set(nil, "users", "10.0.0.3", "10.0.0.1")
		time.Sleep(34 * time.Second)
		synctest.Wait()
		wantAddresses(t, "after a change", p, "10.0.0.1:80", "10.0.0.3:80")
		now := time.Since(p.config.Epoch)
		if p.Targets()[0] != stays {
			t.Error("a target that stayed is another one")
		}
		if s, _ := stays.Breaker(now); s != BreakerOpen {
			t.Errorf("a target that stayed has a breaker that is %v", s)
		}
		if w := p.Targets()[1].warmth(now); w >= warm {
			t.Error("a new target does not start slowly")
		}
		for range 100 {
			pass := admit(t, p, Choice{Now: now})
			if pass.Target().Address() != "10.0.0.3:80" {
				t.Fatalf("a request for %s", pass.Target().Address())
			}
			p.Leave(&pass, Succeeded, now)
		}
		if last.Target() != goes || goes.InFlight() != 1 {
			t.Error("the request at the target that left is gone")
		}
		p.Leave(&last, Succeeded, now)
		if goes.InFlight() != 0 || p.InFlight() != 0 {
			t.Error("the request at the target that left is counted still")
		}
		if goes.Counts().Requests != 1 || p.Targets()[0].Counts() != (Counts{Requests: 1, Failures: 1, Opened: 1}) {
			t.Errorf("counts %+v and %+v", goes.Counts(), p.Targets()[0].Counts())
		}
	})
}

// The connections of an address that left are closed: idle ones at once, others when their exchanges end. Only
// loopback addresses can be dialled here.
func TestAddressLeavesItsConnections(t *testing.T) {
	o := startOrigin(t)
	_, port, _ := net.SplitHostPort(o.Addr().String())
	d := newDirectory("users", "127.0.0.1")
	p, _ := named(t, d, func(c *Config) { c.Targets[0].Address, c.Poller = "users:"+port, startPoller(t) })
	target := p.Targets()[0]
	idle, leased := acquire(t, target), acquire(t, target)
	target.Release(idle)
	far := [2]net.Conn{<-o.accepted, <-o.accepted}
	d.set(nil, "users", "127.0.0.2")
	p.lookUp(t.Context(), p.servers[0])
	if open, idle := target.Connections(); open != 1 || idle != 0 {
		t.Errorf("%d connections and %d idle ones, of which the leased one may stay", open, idle)
	}
	response, err := o.answered(t, leased, far[1], "GET", plainAnswer)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(&response.Body); err != nil || !leased.Reusable() {
		t.Fatalf("the exchange under way: %v", err)
	}
	target.Release(leased)
	if open, _ := target.Connections(); open != 0 {
		t.Errorf("%d connections after the last exchange", open)
	}
}

// An address that came is checked, one that left no longer.
func TestAddressesAreChecked(t *testing.T) {
	d := newDirectory("users", "127.0.0.1")
	p, _ := named(t, d, func(c *Config) {
		c.Targets[0].Address = "users:1" // where nobody listens
		c.Health = &HealthConfig{Path: "/", Interval: 10 * time.Millisecond, Timeout: time.Second}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var checks sync.WaitGroup
	defer checks.Wait()
	defer cancel()
	p.check(ctx, p.Targets(), &checks)
	first := p.Targets()[0]
	failures := func(target *Target) int {
		_, last, _ := target.Health()
		return last.Failures
	}
	waitFor(t, func() bool { return failures(first) > 0 })
	d.set(nil, "users", "127.0.0.2")
	var ended sync.WaitGroup
	p.check(ctx, p.lookUp(ctx, p.servers[0]), &ended)
	checks.Wait() // those of the first one have ended
	waitFor(t, func() bool { return failures(p.Targets()[0]) > 2 })
	cancel()
	ended.Wait()
}

// Of the keys of a hash, those at addresses that stay keep to them, but for a few.
func TestAddressesKeepTheirKeys(t *testing.T) {
	d := newDirectory("users", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.4")
	p, _ := named(t, d, func(c *Config) { c.Balance = Hash })
	const keys = 10_000
	homes := func() (of []string) {
		random := dice(1)
		for range keys {
			pass := admit(t, p, Choice{Key: random.next(), Now: time.Hour})
			of = append(of, pass.Target().Address())
			p.Leave(&pass, Succeeded, time.Hour)
		}
		return of
	}
	before := homes()
	d.set(nil, "users", "10.0.0.4", "10.0.0.2", "10.0.0.1")
	p.lookUp(t.Context(), p.servers[0])
	moved := 0
	for i, now := range homes() {
		if before[i] != now && before[i] != "10.0.0.3:80" {
			moved++
		}
	}
	if moved > keys/20 {
		t.Errorf("%d of %d keys moved between addresses that stayed", moved, keys)
	}
}

// However the addresses change while requests are let in, none goes astray, and all are counted out.
func TestAdmitWhileAddressesChange(t *testing.T) {
	for _, policy := range policies() {
		d := newDirectory("users", "10.0.0.1")
		p, _ := named(t, d, func(c *Config) { c.Balance = policy; c.MaxInFlight = 100 })
		var crowd sync.WaitGroup
		for i := range 4 {
			crowd.Go(func() {
				random := dice(i)
				var avoid *Target
				for range 2000 {
					pass, _, err := p.Admit(Choice{Key: random.next(), Random: random.next(), Avoid: avoid})
					if err != nil {
						t.Errorf("%s: %v", policy, err)
						return
					}
					avoid = pass.Target()
					p.Leave(&pass, Succeeded, 0)
				}
			})
		}
		for i := range 50 {
			d.set(nil, "users", fmt.Sprintf("10.0.0.%d", 1+i%7), fmt.Sprintf("10.0.0.%d", 1+i%3))
			p.lookUp(t.Context(), p.servers[0])
		}
		crowd.Wait()
		if n, sum := p.InFlight(), p.inFlight.Load(); n != 0 || sum != 0 {
			t.Errorf("%s: %d and %d in flight after all have left", policy, n, sum)
		}
	}
}
