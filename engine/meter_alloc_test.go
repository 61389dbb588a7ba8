//go:build !race

package engine

import (
	"bytes"
	"testing"
	"time"
)

// limitedTables is destinationTables with a guard and two limits on both routes.
func limitedTables(target, burst string) string {
	return limitTable("guard", "rate = \"1000000/s\"\nburst = 1000000000\nkey = [\"ip\"]\nbefore_auth = true") +
		limitTable("per-host", "rate = \"1/min\"\nburst = "+burst+"\nkey = [\"client\", \"host\", \"header:X-API-Version\"]") +
		limitTable("window", "algorithm = \"sliding_window\"\nrate = \"16000000/d\"\nkey = [\"ip\", \"route\", \"method\"]") +
		"[defaults]\nlimits = [\"guard\", \"per-host\", \"window\"]\n" + destinationTables(target)
}

// discardAnswer makes one exchange and reads its answer, whatever its length, without allocating.
func (c *rawClient) discardAnswer(request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	length := 0
	for {
		line, err := c.in.ReadSlice('\n')
		if err != nil {
			return err
		}
		if rest, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			for _, digit := range bytes.TrimSpace(rest) {
				length = length*10 + int(digit-'0')
			}
		}
		if len(line) == 2 {
			break
		}
	}
	if n, err := c.in.Discard(length); n < length {
		return err
	}
	return nil
}

// TestLimitAllocations holds metering to none: of requests that three limits admit, of those that one
// refuses, and of those whose target sends quota fields of its own.
func TestLimitAllocations(t *testing.T) {
	const theirs = "HTTP/1.1 200 OK\r\nX-RateLimit-Limit: 9\r\nX-RateLimit-Remaining: 7\r\nX-RateLimit-Reset: 1\r\nContent-Length: 2\r\n\r\nok"
	for _, c := range []struct {
		name, answer, burst string
		status              int
	}{
		{"admitted", smallAnswer, "1000000000", 200},
		{"admitted, and the target has limits too", theirs, "1000000000", 200},
		{"refused", smallAnswer, "1", 429},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := startGateway(t, limitedTables(rawServer(t, c.answer), c.burst))
			client := dial(t, g.address)
			request := []byte(usualRequest)
			if _, err := client.Write(request); err != nil {
				t.Fatal(err)
			}
			if _, err := readAnswer(client.in, "GET"); err != nil {
				t.Fatal(err)
			}
			if _, err := client.Write(request); err != nil {
				t.Fatal(err)
			}
			a, err := readAnswer(client.in, "GET")
			if err != nil {
				t.Fatal(err)
			}
			a.expect(t, c.status)
			if n := len(quotas(t, a, "RateLimit")); n != 3 {
				t.Fatalf("%d limits are counted, want 3", n)
			}
			holdAllocations(t, func() error { return client.discardAnswer(request) })
		})
	}
}

// BenchmarkLimitedExchange is BenchmarkExchange with no, one and three limits, and refused by the second
// of the three. All read the answers in the same way, so that they can be compared.
func BenchmarkLimitedExchange(b *testing.B) {
	target := rawServer(b, smallAnswer)
	one := limitTable("one", "rate = \"1000000/s\"\nburst = 1000000000") + "[defaults]\nlimits = [\"one\"]\n" + destinationTables(target)
	for _, c := range []struct{ name, tables string }{
		{"none", destinationTables(target)},
		{"one", one},
		{"one/silent", one + "[limits]\nheaders = []\n"},
		{"three", limitedTables(target, "1000000000")},
		{"three/silent", limitedTables(target, "1000000000") + "[limits]\nheaders = []\n"},
		{"refused", limitedTables(target, "1")},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := startGateway(b, c.tables)
			client := dial(b, g.address)
			_ = client.SetDeadline(time.Time{})
			request := []byte(usualRequest)
			b.ReportAllocs()
			for b.Loop() {
				if err := client.discardAnswer(request); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestRememberedRefusalAllocations holds requests to none that a limit in Redis is known to refuse: Redis is asked once
// a second.
func TestRememberedRefusalAllocations(t *testing.T) {
	limit := inRedis("there", "key = [\"ip\", \"header:X-API-Version\"]\nrate = \"1/d\"")
	g := startGateway(t, redisTable(startRedis(t))+limit+"[defaults]\nlimits = [\"there\"]\n"+destinationTables(rawServer(t, smallAnswer)))
	client := dial(t, g.address)
	request := []byte(usualRequest)
	for _, status := range []int{200, 429} {
		if _, err := client.Write(request); err != nil {
			t.Fatal(err)
		}
		a, err := readAnswer(client.in, "GET")
		if err != nil {
			t.Fatal(err)
		}
		a.expect(t, status)
	}
	holdAllocations(t, func() error { return client.discardAnswer(request) })
}
