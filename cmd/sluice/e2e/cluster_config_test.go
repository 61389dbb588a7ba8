package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What is wrong in [cluster] is said by check, and at its key.
func TestClusterConfigFaults(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	good := c.text(0, clusterSecret, "", "")
	for _, f := range []struct{ intent, old, new, want string }{
		{"nothing is wrong", "", "", ""},
		{"no secret", fmt.Sprintf("secret = %q", clusterSecret), "", "cluster.secret"},
		{"a short secret", clusterSecret, "too-short", "32 bytes"},
		{"a short secret beside a good one", fmt.Sprintf("secret = %q", clusterSecret), fmt.Sprintf("secret = %q\nprevious_secret = \"short\"", clusterSecret), "cluster.previous_secret"},
		{"a secret whose file is not there", fmt.Sprintf("secret = %q", clusterSecret), `secret = "file:absent.key"`, "absent.key"},
		{"a peer that does not exist", `peers = [""]`, `peers = ["nobody.invalid:7946"]`, "nobody.invalid"},
		{"a peer without a port", `peers = [""]`, `peers = ["127.0.0.1"]`, "cluster.peers"},
		{"an interval beyond all use", "name = ", "interval = \"1h\"\nname = ", "cluster.interval"},
		{"a limit to be shared with nobody", good[:strings.Index(good, "[[limit]]")], "", "needs a [cluster] table"},
	} {
		text := good
		if f.old != "" {
			text = strings.Replace(good, f.old, f.new, 1)
		}
		text = strings.Replace(text, `peers = [""]`, "peers = []", 1)
		c.members[0].configure(text)
		command := exec.Command(binary, "check", "-c", filepath.Join(c.members[0].dir, "gateway.toml"))
		out, err := command.CombinedOutput()
		if (err != nil) != (f.want != "") || !strings.Contains(string(out), f.want) {
			t.Errorf("%s: %v, want one that has %q\n%s", f.intent, err, f.want, out)
		}
		if strings.Contains(string(out), clusterSecret) {
			t.Errorf("%s: the secret is told", f.intent)
		}
	}
}

// A gateway without [cluster] has no UDP socket and shares no limit, and a reload makes it no member; nor does one
// change what a member began with.
func TestClusterNeedsRestart(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1)
	member := strings.Replace(c.text(0, clusterSecret, "", ""), `peers = [""]`, "peers = []", 1)
	at := strings.Index(member, "[[limit]]")
	alone := strings.Replace(member[at:], `scope = "cluster"`, `scope = "local"`, 1)

	g := startGateway(t, alone)
	if n := g.udpSockets(t); n != 0 {
		t.Errorf("a gateway without [cluster] has %d UDP sockets", n)
	}
	if out := g.verb(t, "cluster", "status"); !strings.Contains(out, "on its own") {
		t.Errorf("the verb says of a gateway without [cluster]:\n%s", out)
	}
	g.configure(member)
	g.signal(syscall.SIGHUP)
	g.expectLogged(t, `needs the gateway to be started with a [cluster] table`)
	if n := g.udpSockets(t); n != 0 || g.status(t).Cluster != nil {
		t.Errorf("a reload has made a member of it: %d UDP sockets", n)
	}

	m := startGateway(t, member)
	if n := m.udpSockets(t); n != 1 {
		t.Errorf("a member has %d UDP sockets, want 1", n)
	}
	for _, change := range []struct{ keys, old, new string }{
		{"cluster.interval", "name = ", "interval = \"60ms\"\nname = "},
		{"cluster.secret", clusterSecret, clusterSecret2},
		{"cluster.name", "member0", "another"},
		{"cluster.peers", "peers = []", `peers = ["127.0.0.1:7946"]`},
	} {
		m.configure(strings.Replace(member, change.old, change.new, 1))
		m.signal(syscall.SIGHUP)
		m.expectLogged(t, fmt.Sprintf(`"keys":"%s","`, change.keys))
	}
	if s := m.clusterStatus(t); s.Name != "member0" {
		t.Errorf("a reload has changed the name to %s", s.Name)
	}
	m.configure(alone)
	m.signal(syscall.SIGHUP)
	m.expectLogged(t, `"keys":"cluster","`)
}

// udpSockets counts the process's.
func (g *gateway) udpSockets(t testing.TB) (n int) {
	t.Helper()
	folder := fmt.Sprintf("/proc/%d", g.command.Process.Pid)
	own := map[string]bool{}
	descriptors, err := os.ReadDir(folder + "/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range descriptors {
		link, _ := os.Readlink(folder + "/fd/" + d.Name())
		if inode, is := strings.CutPrefix(link, "socket:["); is {
			own[strings.TrimSuffix(inode, "]")] = true
		}
	}
	for _, table := range []string{"/net/udp", "/net/udp6"} {
		file, err := os.Open(folder + table)
		if err != nil {
			continue // no IPv6
		}
		for lines := bufio.NewScanner(file); lines.Scan(); {
			if fields := strings.Fields(lines.Text()); len(fields) > 9 && own[fields[9]] {
				n++
			}
		}
		file.Close()
	}
	return n
}

// The secret changes as the README says, and at every step of it all hear each other.
func TestClusterSecretRotation(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3)
	c.start()
	for step, s := range []struct{ secret, previous string }{
		{clusterSecret, clusterSecret2}, {clusterSecret2, clusterSecret}, {clusterSecret2, ""},
	} {
		for i, g := range c.members {
			more := ""
			if s.previous != "" {
				more = fmt.Sprintf("previous_secret = %q\n", s.previous)
			}
			g.configure(c.text(i, s.secret, more, ""))
			g.signal(syscall.SIGTERM)
			if code := g.wait(); code != 0 {
				t.Errorf("step %d: a process ended with %d", step, code)
			}
			g.start()
			restarted := time.Now()
			for _, g := range c.members {
				g.expectPeers(t, "alive", 2)
			}
			t.Logf("step %d, member %d: all hear each other after %v", step, i, time.Since(restarted))
		}
	}
	d := c.overload(3)
	time.Sleep(time.Second) // a measurement: expectLimit looks at all of it
	d.end()
	c.expectLimit(clusterPercent)
	for _, g := range c.members {
		if n := g.clusterStatus(t).Dropped["unverified"]; n > 0 {
			t.Errorf("at the end, %d packets were not verified", n)
		}
	}
}
