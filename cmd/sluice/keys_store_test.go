package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
	"github.com/sluice-gateway/sluice/auth/keystore"
	"github.com/sluice-gateway/sluice/engine"
)

// keysConfig has a route for keys. What it gets are the addresses of gateway, admin side and service.
const keysConfig = `
[server]
listen = ["%s"]
[admin]
listen = "%s"
[upstream.v1]
targets = ["%s"]
[[route]]
name = "one"
path = "/*"
auth = ["keys"]
to   = "v1"
`

// inRedis is added to keysConfig to keep keys and revocations in Redis.
const inRedis = `
[redis]
url = "redis://%s"
[auth.keys]
store = "redis"
[auth.revocation]
store = "redis"
`

// startRedis runs a real redis-server for the length of the test.
func startRedis(t *testing.T) (address string) {
	t.Helper()
	address = freeAddress(t)
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", t.TempDir(), "--save", "")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("these tests need a real Redis: %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	eventually(t, "redis-server listens", func() bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return address
}

// keyFixture is a configuration without a gateway, and the store as a gateway reads it.
type keyFixture struct {
	config string
	method func(t *testing.T) *auth.Keys
}

// onBothStores runs a test with keys in a file, and in Redis.
func onBothStores(t *testing.T, test func(t *testing.T, f keyFixture)) {
	t.Helper()
	plain := fmt.Sprintf(keysConfig, freeAddress(t), freeAddress(t), "http://127.0.0.1:1")
	t.Run("file", func(t *testing.T) {
		f := keyFixture{config: writeConfig(t, plain)}
		f.method = func(t *testing.T) *auth.Keys {
			store, err := engine.KeyFile(filepath.Join(filepath.Dir(f.config), "keys.toml"))
			if err != nil {
				t.Fatal(err)
			}
			return auth.NewKeys(store)
		}
		test(t, f)
	})
	t.Run("redis", func(t *testing.T) {
		address := startRedis(t)
		store, err := keystore.NewRedis(keystore.RedisConfig{
			URL: "redis://" + address, Prefix: "sluice:", Timeout: 2 * time.Second, CacheTTL: time.Hour, NegativeTTL: time.Hour,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(store.Close)
		method := auth.NewKeys(store) // one for the whole test: what it remembers has to go
		test(t, keyFixture{writeConfig(t, plain+fmt.Sprintf(inRedis, address)), func(*testing.T) *auth.Keys { return method }})
	})
}

// keys runs a verb on keys that has to succeed, and gives what it prints.
func (f keyFixture) keys(t *testing.T, in string, args ...string) (out, errOut string) {
	t.Helper()
	var stdout, stderr strings.Builder
	args = append([]string{"keys", "-c", f.config}, args...)
	if code := execute(args, strings.NewReader(in), &stdout, &stderr); code != exitOK {
		t.Fatalf("%q: exit code %d: %s%s", args, code, &stdout, &stderr)
	}
	return stdout.String(), stderr.String()
}

// view runs a verb on keys, and reads the key that it prints.
func (f keyFixture) view(t *testing.T, args ...string) (k keyJSON) {
	t.Helper()
	out, errOut := f.keys(t, "", append(args, "--format", "json")...)
	if err := json.Unmarshal([]byte(out), &k); err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	if k.ID == "" || errOut != "" {
		t.Fatalf("%q: no id, or something beside the JSON: %s%s", args, out, errOut)
	}
	return k
}

// works waits until a key does or does not work at a time, as it has to within a second.
func (f keyFixture) works(t *testing.T, key string, at time.Time, want bool) (p *auth.Principal) {
	t.Helper()
	var err error
	for end := time.Now().Add(time.Second); ; time.Sleep(time.Millisecond) {
		p, err = f.method(t).Authenticate(t.Context(), []byte(key), at)
		if err == nil == want && (want || errors.Is(err, auth.ErrInvalid)) {
			return p
		}
		if time.Now().After(end) {
			t.Fatalf("within a second, does the key work? want %v: %+v, %v", want, p, err)
		}
	}
}
