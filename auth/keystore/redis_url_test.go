package keystore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

func TestParseURL(t *testing.T) {
	for _, row := range []struct {
		intent, url string
		hosts       []string
		user, pass  string
		database    int
		master      string
		secure      bool
	}{
		{"the least", "redis://h", []string{"h:6379"}, "", "", 0, "", false},
		{"all of it", "redis://u:p%40@h:1/2", []string{"h:1"}, "u", "p@", 2, "", false},
		{"a password alone", "redis://:p@h", []string{"h:6379"}, "", "p", 0, "", false},
		{"IPv6", "redis://[::1]:7/", []string{"[::1]:7"}, "", "", 0, "", false},
		{"over TLS", "rediss://h", []string{"h:6379"}, "", "", 0, "", true},
		{"sentinels", "redis-sentinel://u:p@a,b:2/m/3", []string{"a:26379", "b:2"}, "u", "p", 3, "m", false},
		{"sentinels by addr", "redis-sentinel://a:1/m?addr=b:2&addr=c&tls=true", []string{"a:1", "b:2", "c:26379"}, "", "", 0, "m", true},
		{"a cluster", "redis-cluster://a:1,b,c:3", []string{"a:1", "b:6379", "c:3"}, "", "", 0, "", false},
		{"a cluster over TLS", "redis-cluster://a/?tls=true", []string{"a:6379"}, "", "", 0, "", true},
	} {
		o, err := parseURL(row.url)
		if err != nil {
			t.Errorf("%s: %v", row.intent, err)
			continue
		}
		if !slices.Equal(o.InitAddress, row.hosts) || o.Username != row.user || o.Password != row.pass || o.SelectDB != row.database ||
			o.Sentinel.MasterSet != row.master || (o.TLSConfig != nil) != row.secure || (o.Sentinel.TLSConfig != nil) != (row.secure && row.master != "") {
			t.Errorf("%s: %s gave %+v", row.intent, row.url, o)
		}
	}
	o, err := parseURL("redis-sentinel://a/m?sentinel_user=su&sentinel_password=sp")
	if err != nil || o.Sentinel.Username != "su" || o.Sentinel.Password != "sp" || o.Username != "" {
		t.Errorf("the sentinels' own user: %+v, %v", o.Sentinel, err)
	}
}

func TestParseURLRefuses(t *testing.T) {
	for _, row := range []struct {
		intent, url string
		want        error
	}{
		{"nothing", "", errURL},
		{"no scheme", "localhost:6379", errURL},
		{"another scheme", "http://h", errURL},
		{"no host", "redis:///0", errURL},
		{"a control character", "redis://:secret@h\x7f", errURL},
		{"a fragment", "redis://h/0#x", errURL},
		{"a word for a port", "redis-cluster://a,b:x", errHosts},
		{"port 0", "redis://h:0", errHosts},
		{"a high port", "redis://h:65536", errHosts},
		{"an empty host among several", "redis-cluster://a,,b", errHosts},
		{"a path in addr", "redis-cluster://a?addr=b/c", errHosts},
		{"a user in addr", "redis-cluster://a?addr=u:secret@b", errHosts},
		{"two hosts without a way to choose", "redis://a,b", errHost},
		{"a word for a database", "redis://h/x", errDatabase},
		{"a negative database", "redis://h/-1", errDatabase},
		{"a deep path", "redis://h/0/1", errDatabase},
		{"no master", "redis-sentinel://h", errMaster},
		{"a database in a cluster", "redis-cluster://h/1", errCluster},
		{"an unknown option", "redis://h?timeout=1s", errOption},
		{"another's option", "redis://h?sentinel_password=secret", errOption},
		{"a bad flag", "redis-cluster://h?tls=1", errOption},
		{"a bad escape", "redis://h?%zz", errOption},
	} {
		_, err := parseURL(row.url)
		if !errors.Is(err, row.want) {
			t.Errorf("%s: got %v, want %v", row.intent, err, row.want)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: the error shows a password: %v", row.intent, err)
		}
	}
}

func FuzzParseURL(f *testing.F) {
	for _, seed := range []string{"redis://u:p@h:1/2", "redis-sentinel://a,b:2/m/3?addr=c", "redis-cluster://a:1,b", "rediss://[::1]", ",://@,/"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		o, err := parseURL(text)
		if err == nil && (len(o.InitAddress) == 0 || slices.Contains(o.InitAddress, "")) {
			t.Errorf("%q is accepted and has no address: %q", text, o.InitAddress)
		}
	})
}

func TestRedisConfigIsChecked(t *testing.T) {
	good := RedisConfig{URL: "redis://127.0.0.1:1", Timeout: time.Second}
	for _, row := range []struct {
		intent string
		change func(*RedisConfig)
	}{
		{"a bad URL", func(c *RedisConfig) { c.URL = "x" }},
		{"a prefix that spreads keys", func(c *RedisConfig) { c.Prefix = "a{}b" }},
		{"no timeout", func(c *RedisConfig) { c.Timeout = 0 }},
		{"a negative time", func(c *RedisConfig) { c.StaleIfError = -1 }},
		{"a negative size", func(c *RedisConfig) { c.CacheSize = -1 }},
	} {
		c := good
		row.change(&c)
		if r, err := NewRedis(c); err == nil {
			r.Close()
			t.Errorf("%s is accepted", row.intent)
		}
	}
}

// TestRedisCluster uses a cluster of one node that has all slots.
func TestRedisCluster(t *testing.T) {
	server := startRedis(t, "--cluster-enabled", "yes")
	server.do("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	eventually(t, 10*time.Second, "the cluster is formed", func() error {
		if info := server.do("CLUSTER", "INFO"); !strings.Contains(info, "cluster_state:ok") {
			return errors.New(info)
		}
		return nil
	})
	wantRevocable(t, "redis-cluster://"+server.address())
}

// TestRedisSentinel finds the master by asking a sentinel.
func TestRedisSentinel(t *testing.T) {
	master := startRedis(t)
	sentinel := &server{t: t, port: freePort(t), dir: t.TempDir()}
	t.Cleanup(sentinel.kill)
	config := filepath.Join(sentinel.dir, "sentinel.conf")
	text := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor main 127.0.0.1 %d 1\n", sentinel.port, sentinel.dir, master.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sentinel.launch(config, "--sentinel")
	wantRevocable(t, "redis-sentinel://"+sentinel.address()+"/main/"+strconv.Itoa(1))
}

func wantRevocable(t *testing.T, url string) {
	t.Helper()
	tool, _ := open(t, url, nil)
	r, _ := open(t, url, nil)
	holds(t, r, "a", auth.ErrInvalid)
	put(t, tool, "a", "b")
	eventually(t, everywhere, "the key works", func() error { return look(r, "a", time.Now(), nil) })
	disable(t, tool, "a", true)
	eventually(t, everywhere, "the key is disabled", func() error { return look(r, "a", time.Now(), auth.ErrInvalid) })
	if list, err := tool.List(t.Context()); err != nil || len(list) != 2 {
		t.Errorf("list: %v, %v", list, err)
	}
}
