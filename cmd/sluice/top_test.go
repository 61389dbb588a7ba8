package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/sluice-gateway/sluice/engine"
)

// topStatus is a gateway after so many seconds, in each of which the same happens.
func topStatus(seconds int) engine.Status {
	n := uint64(seconds)
	began := time.Date(2027, 1, 31, 12, 0, 0, 0, time.UTC)
	traffic := func(each, limited, failed uint64, p99 float64) engine.Traffic {
		return engine.Traffic{
			Requests: each * n, InFlight: int64(each / 100), Statuses: map[string]uint64{"5xx": failed * n},
			Refusals: map[string]uint64{"rate_limited": limited * n, "upstream_timeout": failed * n},
			Duration: engine.Percentiles{P50: p99 / 10, P95: p99 / 2, P99: p99}, Overhead: engine.Percentiles{P99: 0.08},
		}
	}
	well := engine.TargetStatus{Present: true, Breaker: "closed", Health: "healthy", Connections: 8, Requests: 100 * n}
	target := func(address string, change func(*engine.TargetStatus)) engine.TargetStatus {
		t := well
		t.Address = address
		change(&t)
		return t
	}
	s := engine.Status{
		Version: "v1.2.3", State: "serving", Started: began, Uptime: float64(seconds), Requests: 480 * n, Responses: map[string]uint64{"5xx": 20 * n},
		Traffic: traffic(480, 20, 20, 50),
		Config:  engine.ConfigStatus{Hash: "0123456789abcdef", Loaded: began.Add(10 * time.Minute)},
		Routes: []engine.RouteStatus{
			{Name: "users", Path: "/users/*", Traffic: traffic(300, 0, 0, 12.34)},
			{Name: "orders", Path: "/orders/*", Traffic: traffic(100, 15, 20, 999)},
			{Name: "search", Path: "/search", Traffic: traffic(80, 5, 0, 4.5)},
			{Name: "idle", Path: "/idle", Traffic: traffic(0, 0, 0, 0)},
		},
		Upstreams: []engine.UpstreamStatus{
			{Name: "a", Targets: []engine.TargetStatus{
				target("10.0.0.1:80", func(t *engine.TargetStatus) { t.Moved = 7654 }),
				target("10.0.0.2:80", func(t *engine.TargetStatus) { t.Breaker, t.Reopens, t.Failures = "open", 3, 20*n }),
			}},
			{Name: "b", Targets: []engine.TargetStatus{
				target("10.0.0.3:80", func(t *engine.TargetStatus) { t.Health, t.Present, t.LastCheck = "unhealthy", false, "status 500" }),
			}},
		},
		Limits: []engine.LimitSummary{
			{Name: "per-client", Key: []string{"client"}, Rate: "100/s", Mode: "enforce", Refused: 20 * n},
			{Name: "guard", Key: []string{"ip"}, Rate: "600/min", Mode: "enforce", BeforeAuth: true},
			{Name: "trial", Rate: "1/s", Mode: "shadow", WouldRefuse: 123_456},
		},
	}
	offenders := `{"limited": [{"client": "app", "count": %d, "limit": "per-client"}, {"address": "192.0.2.1", "count": 3, "limit": "guard"}],
		"slow": [{"client": "reports", "count": 12000}]}`
	if err := json.Unmarshal(fmt.Appendf(nil, offenders, 20*n), &s.Offenders); err != nil {
		panic(err)
	}
	return s
}

// topAfter is a model that has heard these statuses, one a second.
func topAfter(s styles, all ...engine.Status) topModel {
	m := newTopModel(s, func() (engine.Status, error) { return engine.Status{}, errors.New("nobody asks in this test") })
	for _, status := range all {
		next, _ := m.Update(topAnswer{status: status, at: status.Started.Add(time.Duration(status.Uptime) * time.Second)})
		m = next.(topModel)
	}
	return m
}

func busyTop(s styles) topModel {
	var all []engine.Status
	for seconds := 1000; seconds < 1010; seconds++ {
		all = append(all, topStatus(seconds))
	}
	return topAfter(s, all...)
}

// press gives the model keys, by their names.
func press(t *testing.T, m topModel, keys ...string) topModel {
	t.Helper()
	for _, key := range keys {
		msg := tea.KeyPressMsg{Text: key, Code: []rune(key)[0]}
		if code, named := map[string]rune{"enter": tea.KeyEnter, "esc": tea.KeyEscape, "tab": tea.KeyTab, "down": tea.KeyDown, "up": tea.KeyUp, "backspace": tea.KeyBackspace, "home": tea.KeyHome}[key]; named {
			msg = tea.KeyPressMsg{Code: code}
		}
		if msg.String() != key {
			t.Fatalf("the key %q reads as %q", key, msg)
		}
		next, _ := m.Update(msg)
		m = next.(topModel)
	}
	return m
}

func TestTopScreen(t *testing.T) {
	const frame = `sluice  serving  v1.2.3  up 16m49s
480 requests/s in 5.00 to 50.0 ms, 20/s 5xx, 40/s refused: rate limited 20, ups…
sick: a 10.0.0.2:80 breaker open, b 10.0.0.3:80 unhealthy
config 01234567, live for 6m49s
`
	tests := []struct {
		intent string
		keys   []string
		want   string // below the frame, before the help
	}{
		{"the busiest routes first", nil, `
[1 routes] 2 upstreams  3 limits  4 clients  5 peers
ROUTE   REQ/S↓  5XX%  REFUSED/S  MOSTLY             P50   P95   P99  IN FLIGHT
users      300     0          0                    1.23  6.17  12.3          3
orders     100    20         35  upstream timeout  99.9   500   999          1
search      80     0        5.0  rate limited      0.45  2.25  4.50          0
idle         0     0          0                       -     -     -          0`},
		{"by name", []string{"S"}, `
[1 routes] 2 upstreams  3 limits  4 clients  5 peers
ROUTE↑  REQ/S  5XX%  REFUSED/S  MOSTLY             P50   P95   P99  IN FLIGHT
idle        0     0          0                       -     -     -          0
orders    100    20         35  upstream timeout  99.9   500   999          1
search     80     0        5.0  rate limited      0.45  2.25  4.50          0
users     300     0          0                    1.23  6.17  12.3          3`},
		{"the other way round, and only some", []string{"r", "/", "E", "R", "enter"}, `
[1 routes] 2 upstreams  3 limits  4 clients  5 peers
ROUTE   REQ/S↑  5XX%  REFUSED/S  MOSTLY             P50   P95   P99  IN FLIGHT
orders     100    20         35  upstream timeout  99.9   500   999          1
users      300     0          0                    1.23  6.17  12.3          3`},
		{"targets", []string{"2"}, `
 1 routes [2 upstreams] 3 limits  4 clients  5 peers
UPSTREAM↑  TARGET       STATE         REQ/S  FAILED/S  WHY
a          10.0.0.1:80  healthy         100         0
a          10.0.0.2:80  breaker open    100        20  tried again in 3 s
b          10.0.0.3:80  unhealthy       100         0  status 500`},
		{"limits", []string{"tab", "tab"}, `
 1 routes  2 upstreams [3 limits] 4 clients  5 peers
LIMIT       KEY     RATE     REFUSED↓  MODE            MOST LIMITED
per-client  client  100/s       20180  enforce         app (20180)
guard       ip      600/min         0  enforce, guard  192.0.2.1 (3)
trial       all     1/s             0  shadow`},
		{"clients", []string{"4"}, `
 1 routes  2 upstreams  3 limits [4 clients] 5 peers
CLIENT OR ADDRESS  THAT IS↑     COUNT  BY LIMIT
app                limited      20180  per-client
192.0.2.1          limited          3  guard
reports            slow      12000 ms`},
		{"a gateway on its own", []string{"5"}, `
 1 routes  2 upstreams  3 limits  4 clients [5 peers]
PEER↑  ADDRESS  STATE  LAG MS  RTT MS  LOSS%  WHY
this gateway is on its own`},
		{"a filter that nothing passes", []string{"/", "z", "z"}, `
[1 routes] 2 upstreams  3 limits  4 clients  5 peers
ROUTE  REQ/S↓  5XX%  REFUSED/S  MOSTLY  P50  P95  P99  OWN P99  IN FLIGHT  TOTAL
nothing is like that`},
	}
	for _, test := range tests {
		t.Run(test.intent, func(t *testing.T) {
			screen := press(t, busyTop(styles{}), test.keys...).screen()
			lines := strings.Split(screen, "\n")
			if len(lines) != 24 {
				t.Errorf("%d lines, want 24", len(lines))
			}
			got := strings.TrimRight(strings.Join(lines[:len(lines)-1], "\n"), "\n")
			if want := strings.TrimSuffix(frame, "\n") + test.want; got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
			for _, line := range lines {
				if n := ansi.StringWidth(line); n > 80 {
					t.Errorf("%d columns: %q", n, line)
				}
			}
		})
	}
}

func TestTopFitsAnyScreen(t *testing.T) {
	many := topStatus(1)
	for i := range 500 {
		many.Routes = append(many.Routes, engine.RouteStatus{Name: fmt.Sprintf("a-route-with-a-long-name-%03d-日本語", i)})
	}
	for _, size := range [][2]int{{80, 24}, {120, 40}, {40, 10}, {10, 3}, {1, 1}, {300, 200}} {
		for v := range topViews {
			m := topAfter(styles{}, topStatus(0), many)
			next, _ := m.Update(tea.WindowSizeMsg{Width: size[0], Height: size[1]})
			m = press(t, next.(topModel), fmt.Sprint(int(v)+1))
			for range 3 {
				lines := strings.Split(m.screen(), "\n")
				if len(lines) > size[1] {
					t.Errorf("%v, view %d: %d lines", size, v, len(lines))
				}
				for _, line := range lines {
					if n := ansi.StringWidth(line); n > size[0] {
						t.Errorf("%v, view %d: %d columns: %q", size, v, n, line)
					}
				}
				for range 400 {
					m = press(t, m, "down")
				}
			}
		}
	}
}

func TestTopScrolls(t *testing.T) {
	s := topStatus(1)
	for i := range 50 {
		s.Routes = append(s.Routes, engine.RouteStatus{Name: fmt.Sprintf("r%02d", i)})
	}
	m := press(t, topAfter(styles{}, s, s), "S") // by name
	if screen := m.screen(); !strings.Contains(screen, "rows 1-17 of 54") || !strings.Contains(screen, "\nidle ") {
		t.Errorf("at the top:\n%s", screen)
	}
	m = press(t, m, "down", "down")
	if screen := m.screen(); !strings.Contains(screen, "rows 3-19 of 54") || strings.Contains(screen, "\nidle ") {
		t.Errorf("two rows down:\n%s", screen)
	}
	m = press(t, m, "up", "up", "up", "up")
	if screen := m.screen(); !strings.Contains(screen, "rows 1-17 of 54") {
		t.Errorf("back again:\n%s", screen)
	}
	if screen := press(t, m, "down", "/", "r", "4", "backspace").screen(); !strings.Contains(screen, "show only: r_") || !strings.Contains(screen, "\nr00 ") {
		t.Errorf("a filter begins at the top:\n%s", screen)
	}
}

// What a terminal would obey may come in names and errors.
func TestTopShowsNamesAsText(t *testing.T) {
	s := topStatus(1)
	s.Routes[0].Name = "evil\x1b[2J\x07\u202e"
	s.Offenders.Limited[0].Client = "\x1b]0;title\x07"
	s.Config.LastError, s.Config.LastFailure = "line\nline\r\x1b[31m", &s.Started
	s.Upstreams[1].Targets[0].LastCheck = "\u009b31m"
	m := topAfter(styles{}, topStatus(0), s)
	for v := range topViews {
		text := press(t, m, fmt.Sprint(int(v)+1)).screen() + m.everything()
		if strings.ContainsAny(text, "\x1b\x07\r\u009b\u202e") {
			t.Errorf("view %d lets controls through: %q", v, text)
		}
	}
}

func TestTopColors(t *testing.T) {
	s := styles{strong: "\x1b[1m", good: "\x1b[32m", warn: "\x1b[33m", bad: "\x1b[31m", faint: "\x1b[2m"}
	colored := press(t, busyTop(s), "2").screen()
	for _, want := range []string{"\x1b[31msick", "\x1b[31mbreaker open\x1b[0m", "\x1b[32mhealthy\x1b[0m"} {
		if !strings.Contains(colored, want) {
			t.Errorf("%q is missing in %q", want, colored)
		}
	}
	if plain := press(t, busyTop(styles{}), "2").screen(); plain != ansi.Strip(colored) {
		t.Errorf("without colors\n%s\nwith them\n%s", plain, ansi.Strip(colored))
	}
}

func TestTopTellsWhatIsWrong(t *testing.T) {
	failed := topStatus(1)
	at := failed.Config.Loaded.Add(time.Minute)
	failed.Config.LastFailure, failed.Config.LastError = &at, "gateway.toml:3:1: unknown key"
	failed.Auth = []engine.MethodState{{Name: "jwt:main"}, {Name: "keys", Usable: true}}
	failed.State = "draining"
	failed.LimitStore = &engine.LimitStore{}
	failed.Upstreams = []engine.UpstreamStatus{{Name: "a", Names: []engine.NameStatus{{Name: "db.example.com", Error: "no such host"}}, Targets: []engine.TargetStatus{
		{Name: "web.example.com:80", Address: "10.0.0.9:80", Breaker: "half-open", Present: true},
	}}}
	wide, _ := topAfter(styles{}, failed).Update(tea.WindowSizeMsg{Width: 200, Height: 24})
	screen := wide.(topModel).screen()
	for _, want := range []string{"draining", "Redis, for limits", "jwt:main cannot be judged", "a db.example.com cannot be looked up", "a web.example.com:80 (10.0.0.9:80) on probation", "a reload failed", "gateway.toml:3:1: unknown key"} {
		if !strings.Contains(screen, want) {
			t.Errorf("%q is missing in\n%s", want, screen)
		}
	}
	failed.Config.Loaded = at.Add(time.Second)
	if screen := topAfter(styles{}, failed).screen(); strings.Contains(screen, "a reload failed") {
		t.Errorf("a failure that a good reload has healed:\n%s", screen)
	}
}

func TestTopWithoutAnswers(t *testing.T) {
	m := topAfter(styles{})
	if screen := m.screen(); !strings.Contains(screen, "Asking the gateway") {
		t.Errorf("before the first answer:\n%s", screen)
	}
	next, again := m.Update(topAnswer{err: errors.New("no gateway is running at 127.0.0.1:9901")})
	if screen := next.(topModel).screen(); !strings.Contains(screen, "no gateway is running") || again == nil {
		t.Errorf("nobody is there:\n%s", screen)
	}
	next, _ = busyTop(styles{}).Update(topAnswer{err: errors.New("no gateway is running at 127.0.0.1:9901")})
	if screen := next.(topModel).screen(); !strings.Contains(screen, "sluice  no answer since 12:16:49: no gateway is running") || !strings.Contains(screen, "users") {
		t.Errorf("nobody is there any more:\n%s", screen)
	}
	next, end := m.Update(topAnswer{err: &refusal{status: http.StatusUnauthorized}})
	if next.(topModel).refused() == nil || end == nil {
		t.Error("a wrong token is asked with again")
	} else if _, quits := end().(tea.QuitMsg); !quits {
		t.Error("a wrong token does not end it")
	}
}

func TestTopStartsAnewWithAnotherProcess(t *testing.T) {
	next := topStatus(3)
	next.Started = next.Started.Add(time.Hour)
	m := topAfter(styles{}, topStatus(1000), topStatus(1001), next)
	if len(m.heard) != 1 || !strings.Contains(m.screen(), "0 requests/s") {
		t.Errorf("rates are taken across two processes:\n%s", m.screen())
	}
}

func TestTopKeys(t *testing.T) {
	for _, key := range []string{"q"} {
		_, end := busyTop(styles{}).Update(tea.KeyPressMsg{Text: key, Code: []rune(key)[0]})
		if end == nil {
			t.Fatalf("%s does not quit", key)
		}
		if _, quits := end().(tea.QuitMsg); !quits {
			t.Errorf("%s does not quit", key)
		}
	}
	m := press(t, busyTop(styles{}), "/", "q")
	if m.filter != "q" || !m.typing {
		t.Error("a q in a filter is not text")
	}
	if m = press(t, m, "esc"); m.filter != "" || m.typing {
		t.Error("esc does not end the filter")
	}
	if m := press(t, busyTop(styles{}), "tab", "tab", "tab", "tab", "tab"); m.view != topRoutes {
		t.Errorf("five tabs lead to view %d", m.view)
	}
}

func TestTopOnce(t *testing.T) {
	asked := 0
	admin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/status" {
			w.WriteHeader(http.StatusNotFound)
		}
		_ = json.NewEncoder(w).Encode(topStatus(asked))
	}))
	defer admin.Close()
	path := writeConfig(t, "[admin]\nlisten = \""+strings.TrimPrefix(admin.URL, "http://")+"\"\n")
	code, out, errOut := sluice("top", "-c", path) // what it writes to is no terminal
	if code != 0 || errOut != "" {
		t.Fatalf("exit code %d: %s", code, errOut)
	}
	for _, want := range []string{"480 requests/s", "\nROUTES\n", "\nUPSTREAMS\n", "\nLIMITS\n", "\nCLIENTS\n", "status 500", "OWN P99", "reports", "MOVED", "7654"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "\nPEERS\n") || strings.Contains(out, "\x1b") || asked != 2 {
		t.Errorf("asked %d times:\n%s", asked, out)
	}
}
