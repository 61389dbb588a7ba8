package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// sluice runs a verb with the gateway's configuration, and gives its standard output.
func (g *gateway) sluice(t testing.TB, args ...string) string {
	t.Helper()
	command := exec.Command(binary, append(args, "-c", filepath.Join(g.dir, "gateway.toml"))...)
	command.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=10")
	var out, notes bytes.Buffer
	command.Stdout, command.Stderr = &out, &notes
	if err := command.Run(); err != nil {
		t.Fatalf("sluice %s: %v\n%s%s", strings.Join(args, " "), err, out.String(), notes.String())
	}
	return strings.TrimSpace(out.String())
}

// A key's life by the command line, in both stores, seen by two gateways: made, disabled, enabled, replaced,
// withdrawn. What it has opened ends when it is withdrawn.
func TestKeyVerbs(t *testing.T) {
	t.Parallel()
	redis := newRedis(t)
	redis.start()
	for store, tables := range map[string]string{
		"file":  "[auth.keys]\nfile = \"" + filepath.Join(t.TempDir(), "keys.toml") + "\"\n",
		"redis": fmt.Sprintf("[redis]\nurl = \"redis://%s\"\ntimeout = \"300ms\"\n[auth.keys]\nstore = \"redis\"\n", redis.address),
	} {
		t.Run(store, func(t *testing.T) {
			up := startStreams(t)
			tables += "[auth.revocation]\nfile = \"" + filepath.Join(t.TempDir(), "revoked.log") + "\"\n" +
				upstreamTable(up.URL) + guarded("key", `"keys"`, `scopes = ["read:orders"]`)
			one, two := startGateway(t, tables), startGateway(t, tables)
			becomes := func(what, key string, status int) {
				t.Helper()
				soon(t, what, func() bool { return one.key(t, key) == status && two.key(t, key) == status })
			}
			key := one.sluice(t, "keys", "create", "--client", "MobileApp", "--tier", "gold", "--scopes", "read:orders,write:orders", "--expires", "90d")
			if !regexp.MustCompile(`^slk_[0-9A-Za-z]{49}$`).MatchString(key) {
				t.Fatalf("the new key is %q", key)
			}
			becomes("created", key, 200)
			poor := one.sluice(t, "keys", "create", "--client", "Poor")
			becomes("created without scopes", poor, 403)
			one.sluice(t, "keys", "disable", idOf(key))
			becomes("disabled", key, 401)
			two.sluice(t, "keys", "enable", idOf(key))
			becomes("enabled", key, 200)

			open := []*held{one.socket(t, "a WebSocket", "/key", "X-API-Key: "+key), two.events(t, "events", "/key", "1.1", "X-API-Key: "+key)}
			other := one.sluice(t, "keys", "create", "--client", "MobileApp", "--scopes", "read:orders")
			becomes("another", other, 200)
			stays := two.socket(t, "another key's WebSocket", "/key", "X-API-Key: "+other)
			expectAlive(t, append(open, stays))
			one.sluice(t, "keys", "revoke", idOf(key))
			becomes("revoked", key, 401)
			expectEnd(t, open)
			expectAlive(t, []*held{stays})

			one.sluice(t, "revoke", "--client", "MobileApp")
			becomes("its client is revoked", other, 401)
			expectEnd(t, []*held{stays})
			one.expectSecret(t, key, poor, other, hashOf(key))
			two.expectSecret(t, key, poor, other)
		})
	}
}
