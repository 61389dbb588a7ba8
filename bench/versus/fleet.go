package versus

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fleetLimit is what every system shall enforce over all of its nodes: so many requests a second, and at most a
// second's worth at once.
const fleetLimit = 300

// fleet is a system of nodes that count together. start gives, for each node, how to ask it for one request.
type fleet struct {
	name  string
	start func(t *testing.T, nodes int) []ask
}

// ask is a node: the bytes of a request to it, and whether an answer admits it.
type ask struct {
	address string
	request []byte
	admits  func(status int, body []byte) bool
}

func fleets() []fleet {
	return []fleet{
		{"sluice", startSluices},
		{"haproxy peers", startHAProxies},
		{"gubernator GLOBAL", startGubernators},
	}
}

func admitted200(status int, _ []byte) bool { return status == 200 }

func get(address, client string) []byte {
	return fmt.Appendf(nil, "GET / HTTP/1.1\r\nHost: %s\r\nX-Client: %s\r\n\r\n", address, client)
}

// startSluices builds the gateway and starts it with the README's cluster configuration, in front of an
// upstream that answers at once.
func startSluices(t *testing.T, nodes int) []ask {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-C", "../..", "-o", binary, "./cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	upstream := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok")) })}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = upstream.Serve(l) }()
	t.Cleanup(func() { _ = upstream.Close() })

	gossip := make([]string, nodes)
	for i := range gossip {
		gossip[i] = freeAddress(t)
	}
	var asks []ask
	for i := range nodes {
		address, admin := freeAddress(t), freeAddress(t)
		config := fmt.Sprintf(`
[server]
listen = [%q]
[admin]
listen = %q
[log]
access = "off"
[cluster]
listen = %q
peers = [%q]
secret = "0123456789abcdef0123456789abcdef"
name = "node%d"
[[limit]]
name = "per-client"
key = ["header:X-Client"]
rate = "%d/s"
burst = %d
scope = "cluster"
[upstream.app]
targets = ["http://%s"]
[[route]]
name = "all"
path = "/*"
auth = ["none"]
limits = ["per-client"]
to = "app"
`, address, admin, gossip[i], gossip[(i+1)%nodes], i, fleetLimit, fleetLimit, l.Addr())
		path := filepath.Join(t.TempDir(), "gateway.toml")
		write(t, path, config)
		run(t, exec.Command(binary, "run", "--config", path))
		asks = append(asks, ask{address, get(address, "fleet"), admitted200})
	}
	return awaitAll(t, asks)
}

// startHAProxies starts nodes that share a stick table through peers. What is counted is what was admitted: a
// rate that counted refusals too would admit nothing under overload.
func startHAProxies(t *testing.T, nodes int) []ask {
	t.Helper()
	if _, err := exec.LookPath("haproxy"); err != nil {
		t.Skip("haproxy is not installed")
	}
	var peers strings.Builder
	for i := range nodes {
		fmt.Fprintf(&peers, "  peer n%d %s\n", i, freeAddress(t))
	}
	var asks []ask
	for i := range nodes {
		address := freeAddress(t)
		config := fmt.Sprintf(`
defaults
  mode http
  timeout client 30s
  timeout server 30s
  timeout connect 1s
peers fleet
%s
frontend f
  bind %s
  stick-table type string len 32 size 100k expire 30s store gpc0_rate(1s) peers fleet
  http-request track-sc0 req.hdr(x-client)
  http-request deny deny_status 429 if { sc_gpc0_rate(0) ge %d }
  http-request sc-inc-gpc0(0)
  http-request return status 200 content-type text/plain string ok
`, peers.String(), address, fleetLimit)
		path := filepath.Join(t.TempDir(), "haproxy.cfg")
		write(t, path, config)
		run(t, exec.Command("haproxy", "-db", "-q", "-L", fmt.Sprintf("n%d", i), "-f", path))
		asks = append(asks, ask{address, get(address, "fleet"), admitted200})
	}
	return awaitAll(t, asks)
}

// startGubernators starts gubernator's daemons where there is a binary of that name; GLOBAL is its mode for
// answers without a hop to the key's owner. Its members know each other by the IP address alone, so that each gets
// one of its own.
func startGubernators(t *testing.T, nodes int) []ask {
	t.Helper()
	binary, err := exec.LookPath("gubernator")
	if err != nil {
		t.Skip("gubernator is not on the PATH")
	}
	hostOf := func(i int) string { return "127.0.0." + strconv.Itoa(10+i) }
	gossip := make([]string, nodes)
	for i := range gossip {
		gossip[i] = freeAddressOf(t, hostOf(i))
	}
	body := fmt.Appendf(nil, `{"requests":[{"name":"fleet","uniqueKey":"client","hits":"1","limit":"%d","duration":"1000","behavior":"GLOBAL"}]}`, fleetLimit)
	admits := func(status int, body []byte) bool {
		return status == 200 && bytes.Contains(body, []byte("UNDER_LIMIT"))
	}
	var asks []ask
	for i := range nodes {
		address, grpc := freeAddressOf(t, hostOf(i)), freeAddressOf(t, hostOf(i))
		c := exec.Command(binary)
		c.Env = append(os.Environ(), "GUBER_GRPC_ADDRESS="+grpc, "GUBER_HTTP_ADDRESS="+address, "GUBER_ADVERTISE_ADDRESS="+grpc,
			"GUBER_INSTANCE_ID=n"+strconv.Itoa(i), "GUBER_PEER_DISCOVERY_TYPE=member-list", "GUBER_MEMBERLIST_ADDRESS="+gossip[i],
			"GUBER_MEMBERLIST_BIND_ADDRESS="+gossip[i], "GUBER_MEMBERLIST_NODE_NAME=n"+strconv.Itoa(i),
			"GUBER_MEMBERLIST_KNOWN_NODES="+strings.Join(gossip, ","), "GUBER_LOG_LEVEL=error")
		run(t, c)
		request := fmt.Appendf(nil, "POST /v1/GetRateLimits HTTP/1.1\r\nHost: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
			address, len(body), body)
		asks = append(asks, ask{address, request, admits})
	}
	return awaitAll(t, asks)
}

// run starts a process that ends with the test.
func run(t *testing.T, c *exec.Cmd) {
	t.Helper()
	var output bytes.Buffer
	c.Stdout, c.Stderr = &output, &output
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = c.Process.Signal(syscall.SIGTERM)
		ended := time.AfterFunc(5*time.Second, func() { _ = c.Process.Kill() })
		err := c.Wait()
		ended.Stop()
		var exit *exec.ExitError
		if t.Failed() || errors.As(err, &exit) && exit.Exited() && exit.ExitCode() > 2 {
			t.Logf("%s: %v\n%s", c.Path, err, output.Bytes())
		}
	})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// freeAddress is an address of the loopback interface that nobody listens on, by TCP or UDP.
func freeAddress(t *testing.T) string { return freeAddressOf(t, "127.0.0.1") }

func freeAddressOf(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// awaitAll waits until every node accepts connections, and a moment more in which they find each other.
func awaitAll(t *testing.T, asks []ask) []ask {
	t.Helper()
	for _, a := range asks {
		for end := time.Now().Add(15 * time.Second); ; {
			if c, err := net.Dial("tcp", a.address); err == nil {
				_ = c.Close()
				break
			} else if time.Now().After(end) {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	time.Sleep(4 * time.Second)
	return asks
}
