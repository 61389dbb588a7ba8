package config

import (
	"fmt"
	"strings"
	"testing"
)

// What an upstream may not be told, and that the fault says what it may.
func TestBadUpstreams(t *testing.T) {
	const want = `want "http://HOST:PORT" or "https://HOST:PORT" and nothing behind it, or "unix:/PATH"`
	for _, c := range []struct{ intent, lines, key, message string }{
		{"a path", `targets = ["http://a:1/x"]`, "targets[0]", want},
		{"a query", `targets = ["http://a:1?x=1"]`, "targets[0]", want},
		{"an empty query", `targets = ["http://a:1?"]`, "targets[0]", want},
		{"a fragment", `targets = ["http://a:1#x"]`, "targets[0]", want},
		{"credentials", `targets = ["http://user:word@a:1"]`, "targets[0]", want},
		{"a user without a password", `targets = ["http://user@a:1"]`, "targets[0]", want},
		{"a scheme that is not spoken", `targets = ["ftp://a:1"]`, "targets[0]", want},
		{"h2c as a scheme", `targets = ["h2c://a:1"]`, "targets[0]", want},
		{"no scheme", `targets = ["a:1"]`, "targets[0]", want},
		{"no host", `targets = ["http://:1"]`, "targets[0]", want},
		{"a port that is none", `targets = ["http://a:0"]`, "targets[0]", want},
		{"a port beyond all", `targets = ["http://a:65536"]`, "targets[0]", want},
		{"a colon without a port", `targets = ["http://a:"]`, "targets[0]", want},
		{"a socket without a path", `targets = ["unix:a.sock"]`, "targets[0]", want},
		{"a line break", `targets = ["http://a:1\n"]`, "targets[0]", want},
		{"no targets", `targets = []`, "targets", "must not be empty"},
		{"a weight below 0", `targets = [{ url = "http://a:1", weight = -1 }]`, "targets[0].weight", "must be at least 1"},
		{"a weight of 0", `targets = [{ url = "http://a:1", weight = 0 }]`, "targets[0].weight", "must be at least 1"},
		{"a weight beyond all", `targets = [{ url = "http://a:1", weight = 1001 }]`, "targets[0].weight", "must be at most 1000"},
		{"half a weight", `targets = [{ url = "http://a:1", weight = 0.5 }]`, "targets[0].weight", "whole number"},
		{"the same target twice", `targets = ["http://a:1", "http://A:1"]`, "targets[1]", "give that one more weight"},
		{"its port once implied", `targets = ["http://a", "http://a:80"]`, "targets[1]", "give that one more weight"},
		{"an unknown policy", `balance = "random"`, "balance", `"p2c"`},
		{"an unknown key to hash", "balance = \"hash\"\nhash_on = \"body\"", "hash_on", `"client"`},
		{"fewer requests than none", `max_in_flight = -1`, "max_in_flight", "must be at least 0"},
		{"fewer connections than none", `max_idle_connections = -1`, "max_idle_connections", "must be at least 0"},
		{"lookups without a pause", `resolve = "0s"`, "resolve", "must be at least 1s"},
		{"no time to connect", `timeouts = { connect = "0s" }`, "timeouts.connect", "must be at least 1ms"},
		{"less time than none", `timeouts = { response = "-1s" }`, "timeouts.response", ""},
		{"no time for a pause", `timeouts = { idle = "0s" }`, "timeouts.idle", "must be at least 1ms"},
		{"no tries", `retry = { attempts = 0 }`, "retry.attempts", "must be at least 1"},
		{"a budget below 0", `retry = { budget = -0.1 }`, "retry.budget", "must be at least 0"},
		{"a budget above 1", `retry = { budget = 1.1 }`, "retry.budget", "must be at most 1"},
		{"a budget that is no number", `retry = { budget = nan }`, "retry.budget", "must be at least 0"},
		{"a ratio of 0", `breaker = { failure_ratio = 0.0 }`, "breaker.failure_ratio", "must be at least 0.01"},
		{"a ratio above 1", `breaker = { failure_ratio = 1.5 }`, "breaker.failure_ratio", "must be at most 1"},
		{"a ratio beyond all", `breaker = { failure_ratio = inf }`, "breaker.failure_ratio", "must be at most 1"},
		{"a window of 0", `breaker = { window = "0s" }`, "breaker.window", "must be at least 100ms"},
		{"open for no time", `breaker = { open_for = "0s" }`, "breaker.open_for", "must be at least 1ms"},
		{"no probes", `breaker = { probes = 0 }`, "breaker.probes", "must be at least 1"},
		{"no requests", `breaker = { min_requests = 0 }`, "breaker.min_requests", "must be at least 1"},
		{"checks without a pause", `health = { interval = "0s" }`, "health.interval", "must be at least 10ms"},
		{"checks without time", `health = { timeout = "0s" }`, "health.timeout", "must be at least 1ms"},
		{"no passes", `health = { healthy = 0 }`, "health.healthy", "must be at least 1"},
		{"no failures", `health = { unhealthy = 0 }`, "health.unhealthy", "must be at least 1"},
		{"a status that is none", `health = { expect = "99-700" }`, "health.expect", `such as "200"`},
		{"a check that is no path", `health = { path = "healthz" }`, "health.path", "/"},
	} {
		lines := c.lines
		if !strings.Contains(lines, "targets") {
			lines = "targets = [\"http://a:1\"]\n" + lines
		}
		_, faults := Parse("gateway.toml", []byte("[upstream.u]\n"+lines+"\n"), testEnvironment())
		if len(faults) != 1 || faults[0].Key != "upstream.u."+c.key || !strings.Contains(faults[0].Message, c.message) || faults[0].Line == 0 {
			t.Errorf("%s: %v, want one at %s with %q", c.intent, fmt.Sprint(faults), c.key, c.message)
		}
	}
}

// The edges of what it may.
func TestGoodUpstreams(t *testing.T) {
	for _, lines := range []string{
		`targets = ["http://a"]`, `targets = ["https://a/"]`, `targets = ["http://[::1]:65535"]`, `targets = ["unix:/run/a.sock"]`,
		`targets = ["http://a:1", "http://a:2", "http://b:1", { url = "https://a:3", weight = 1000 }]`,
		"targets = [\"http://a:1\"]\nmax_in_flight = 1\nmax_idle_connections = 0\nresolve = \"1s\"\nretry = { attempts = 10, budget = 1 }",
		"targets = [\"http://a:1\"]\nbreaker = { failure_ratio = 1, min_requests = 1, window = \"100ms\", open_for = \"1ms\", probes = 1 }",
	} {
		if _, faults := Parse("gateway.toml", []byte("[upstream.u]\n"+lines+"\n"), testEnvironment()); len(faults) > 0 {
			t.Errorf("%s: %v", lines, faults)
		}
	}
}
