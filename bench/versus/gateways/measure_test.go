package main

import (
	"strings"
	"testing"
	"time"
)

const told = `Running 3s test @ http://127.0.0.1:41391/api/users/42
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     1.40ms    2.34ms  55.31ms   96.66%
    Req/Sec    57.25k     8.66k   70.48k    70.00%
  Latency Distribution
     50%  987.00us
     75%    1.37ms
     90%    2.22ms
     99%   12.73ms
  170995 requests in 3.00s, 33.27MB read
`

func TestWrk(t *testing.T) {
	const rate = "Requests/sec:  56937.16\nTransfer/sec:     11.08MB\n"
	cases := []struct {
		text   string
		want   load
		intent string
	}{
		{told + rate, load{Requests: 170995, Asked: 170995, Rate: 56937.16, P50: 987, P99: 12730}, "all went well"},
		{told + "  Non-2xx or 3xx responses: 170990\n" + rate, load{Requests: 170995, Asked: 170995, Failed: 170990, Rate: 56937.16, P50: 987, P99: 12730}, "refusals"},
		{told + "  Socket errors: connect 1, read 20, write 300, timeout 4000\n" + rate,
			load{Requests: 170995, Asked: 170995, Failed: 4321, Rate: 56937.16, P50: 987, P99: 12730}, "broken connections"},
	}
	for _, c := range cases {
		got, err := parseWrk(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: want %+v, have %+v, %v", c.intent, c.want, got, err)
		}
	}
	if _, err := parseWrk("unable to connect to 127.0.0.1:1 Connection refused\n"); err == nil {
		t.Error("a complaint is taken for figures")
	}
}

func TestLoadIsJudgedByItsStatus(t *testing.T) {
	cases := []struct {
		l      load
		status int
		good   bool
		intent string
	}{
		{load{Requests: 100_000}, 200, true, "all answered"},
		{load{Requests: 100_000, Failed: 100}, 200, true, "one in a thousand broke"},
		{load{Requests: 100_000, Failed: 1000}, 200, false, "one in a hundred broke"},
		{load{Requests: 100_000, Failed: 99_995}, 429, true, "all refused but those that the limit grants"},
		{load{Requests: 100_000, Failed: 50_000}, 429, false, "half of them let through"},
		{load{}, 200, false, "nothing was answered"},
	}
	for _, c := range cases {
		if err := c.l.judge(traffic{status: c.status}); (err == nil) != c.good {
			t.Errorf("%s: %v", c.intent, err)
		}
	}
}

// Percentiles are of the values that were recorded, to three digits.
func TestTally(t *testing.T) {
	h := newHistogram()
	for i := range 10_000 {
		if err := h.RecordValue(int64(time.Duration(i+1) * 10 * time.Microsecond)); err != nil {
			t.Fatal(err)
		}
	}
	l := tally(h, 3, 2*time.Second)
	if l.Requests != 10_000 || l.Failed != 3 || l.Rate != 5000 {
		t.Errorf("%+v", l)
	}
	for _, c := range []struct {
		have, want float64
		intent     string
	}{{l.P50, 50_000, "p50"}, {l.P99, 99_000, "p99"}, {l.P999, 99_900, "p99.9"}} {
		if c.have < c.want*0.999 || c.have > c.want*1.002 {
			t.Errorf("%s: want %.0f µs, have %.0f", c.intent, c.want, c.have)
		}
	}
}

func TestScriptGoesOnWithTheNextClient(t *testing.T) {
	script := clientScript(manyRoutes, allClients)
	for _, want := range []string{"local n = START", "% 1000000", "% 10000", "X-API-Key: " + apiKey, "X-Client: "} {
		if !strings.Contains(script, want) {
			t.Errorf("no %q in\n%s", want, script)
		}
	}
}
