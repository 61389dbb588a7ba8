package engine

import (
	"errors"
	"fmt"
	"testing"
	"time"
)

// quota is a member of a List of Strings with integer parameters.
type quota struct {
	name       string
	parameters map[string]int64
}

// quotas reads a field of an answer as RFC 9651 says, and not a bit more leniently.
func quotas(t testing.TB, a *answer, field string) []quota {
	t.Helper()
	var list []quota
	for _, line := range a.fields.Values(field) {
		members, err := parseQuotas(line)
		if err != nil {
			t.Fatalf("%s: %q: %v", field, line, err)
		}
		list = append(list, members...)
	}
	return list
}

var errQuota = errors.New("not a list of strings with integer parameters")

func parseQuotas(s string) (list []quota, err error) {
	for {
		var q quota
		if q.name, s, err = cutString(s); err != nil {
			return nil, err
		}
		if q.parameters, s, err = cutParameters(s); err != nil {
			return nil, err
		}
		list = append(list, q)
		if s == "" {
			return list, nil
		}
		s = skip(s, " \t")
		if s == "" || s[0] != ',' {
			return nil, fmt.Errorf("%w: at %q", errQuota, s)
		}
		s = skip(s[1:], " \t")
	}
}

func skip(s, what string) string {
	for s != "" && (s[0] == what[0] || s[0] == what[len(what)-1]) {
		s = s[1:]
	}
	return s
}

// cutString reads an sf-string.
func cutString(s string) (text, rest string, err error) {
	if s == "" || s[0] != '"' {
		return "", "", fmt.Errorf("%w: no string at %q", errQuota, s)
	}
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			return text, s[i+1:], nil
		case c == '\\':
			if i++; i == len(s) || s[i] != '"' && s[i] != '\\' {
				return "", "", fmt.Errorf("%w: bad escape", errQuota)
			}
			text += s[i : i+1]
		case c < 0x20 || c > 0x7e:
			return "", "", fmt.Errorf("%w: byte %#x in a string", errQuota, c)
		default:
			text += s[i : i+1]
		}
	}
	return "", "", fmt.Errorf("%w: a string without end", errQuota)
}

// cutParameters reads parameters, each of which must be an sf-integer and be there once.
func cutParameters(s string) (all map[string]int64, rest string, err error) {
	all = map[string]int64{}
	for s != "" && s[0] == ';' {
		s = skip(s[1:], " ")
		n := 0
		for n < len(s) && ('a' <= s[n] && s[n] <= 'z' || n > 0 && ('0' <= s[n] && s[n] <= '9' || s[n] == '_' || s[n] == '-')) {
			n++
		}
		key := s[:n]
		if n == 0 || n == len(s) || s[n] != '=' {
			return nil, "", fmt.Errorf("%w: no key and value at %q", errQuota, s)
		}
		s = s[n+1:]
		var value int64
		negative := s != "" && s[0] == '-'
		if negative {
			s = s[1:]
		}
		for n = 0; n < len(s) && '0' <= s[n] && s[n] <= '9'; n++ {
			value = value*10 + int64(s[n]-'0')
		}
		if _, twice := all[key]; twice || n == 0 || n > 15 || negative {
			return nil, "", fmt.Errorf("%w: the value of %q at %q", errQuota, key, s)
		}
		all[key], s = value, s[n:]
	}
	return all, s, nil
}

// The test's own parser refuses what RFC 9651 does.
func TestParseQuotas(t *testing.T) {
	good := `"a";q=1;w=60,` + " \t" + `"b \" \\";r=999999999999999`
	if list, err := parseQuotas(good); err != nil || len(list) != 2 || list[1].name != `b " \` || list[0].parameters["w"] != 60 {
		t.Errorf("%q: %v, %v", good, list, err)
	}
	for _, bad := range []string{
		``, `a`, `"a`, `"a",`, `"a" "b"`, `"a";`, `"a";q`, `"a";q=`, `"a";q=x`, `"a";Q=1`, `"a";q =1`, `"a" ;q=1`, `"a";q=1;q=2`,
		`"a";q=-1`, `"a";q=1.5`, `"a";q=1000000000000000`, "\"\x7f\"", `"\a"`, `"a";q=1,,"b"`,
	} {
		if list, err := parseQuotas(bad); err == nil {
			t.Errorf("%q is read as %v", bad, list)
		}
	}
}

// field checks a field that must be there once.
func (a *answer) field(t testing.TB, name, want string) {
	t.Helper()
	if got := a.fields.Values(name); len(got) != 1 || got[0] != want {
		t.Errorf("%s: %q, want once %q", name, got, want)
	}
}

// untilDay is the whole seconds, rounded up, until the next day begins in UTC.
func untilDay(now time.Time) int64 {
	const day = 24 * time.Hour
	left := day - time.Duration(now.UnixNano()%int64(day))
	return wholeSeconds(left)
}

// Every counted answer says what is left, in both sets of fields.
func TestQuotaFields(t *testing.T) {
	day := func(windows int64) func() int64 {
		return func() int64 { return untilDay(time.Now()) + (windows-1)*86400 }
	}
	seconds := func(n int64) func() int64 { return func() int64 { return n } }
	for _, c := range []struct {
		intent, rule string
		policy       string         // of "one"
		limit        int64          // what X-RateLimit-Limit says
		left         []int64        // after each request
		reset        []func() int64 // seconds
	}{
		{"token bucket", "rate = \"60/h\"\nburst = 3", `"one";q=3;w=180`, 3, []int64{2, 1, 0, 0}, []func() int64{seconds(60), seconds(120), seconds(180), seconds(60)}},
		{"token bucket without burst", "rate = \"1/min\"", `"one";q=1;w=60`, 1, []int64{0, 0}, []func() int64{seconds(60), seconds(60)}},
		{"token bucket with a cost", "rate = \"60/h\"\nburst = 5\ncost = 2", `"one";q=5;w=300`, 5, []int64{3, 1, 1}, []func() int64{seconds(120), seconds(240), seconds(60)}},
		{"a window shorter than a second", "rate = \"1000/s\"\nburst = 1", `"one";q=1;w=1`, 1, []int64{0}, []func() int64{seconds(1)}},
		{"fixed window", "algorithm = \"fixed_window\"\nrate = \"2/d\"", `"one";q=2;w=86400`, 2, []int64{1, 0, 0}, []func() int64{day(1), day(1), day(1)}},
		{"sliding window", "algorithm = \"sliding_window\"\nrate = \"2/d\"", `"one";q=2;w=86400`, 2, []int64{1, 0}, []func() int64{day(2), day(2)}},
		{"leaky bucket", "algorithm = \"leaky_bucket\"\nrate = \"1/min\"\nburst = 1\nmax_wait = \"1ms\"", `"one";q=1;w=60`, 1, []int64{0, 0}, []func() int64{seconds(60), seconds(60)}},
	} {
		t.Run(c.intent, func(t *testing.T) {
			g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), limitTable("one", c.rule), "one"))
			client := dial(t, g.address)
			for i, left := range c.left {
				before := c.reset[i]()
				a := client.ask(t, "GET /")
				reset := before // the clock may move on, and windows with it
				if fmt.Sprint(reset) != a.fields.Get("X-RateLimit-Reset") {
					reset = c.reset[i]()
				}
				a.field(t, "X-RateLimit-Limit", fmt.Sprint(c.limit))
				a.field(t, "X-RateLimit-Remaining", fmt.Sprint(left))
				a.field(t, "X-RateLimit-Reset", fmt.Sprint(reset))
				a.field(t, "RateLimit-Policy", c.policy)
				a.field(t, "RateLimit", fmt.Sprintf(`"one";r=%d;t=%d`, left, reset))
				quotas(t, a, "RateLimit-Policy")
				quotas(t, a, "RateLimit")
				if refused := i > 0 && c.left[i-1] == left; refused != (a.status == 429) || refused != (a.fields.Get("Retry-After") != "") {
					t.Errorf("request %d: status %d, Retry-After %q", i, a.status, a.fields.Get("Retry-After"))
				}
			}
		})
	}
}

// Of several limits the fields of one number tell of the one closest to exhaustion, as a share of its
// size; the lists tell of all, in the route's order.
func TestQuotaFieldsOfSeveral(t *testing.T) {
	rules := limitTable("wide", "rate = \"1/d\"\nburst = 100\nkey = []\ncost = 10") + limitTable("narrow", "rate = \"1/d\"\nburst = 3\nkey = []") +
		limitTable("guard", "rate = \"1/d\"\nburst = 1000\nkey = []\nbefore_auth = true")
	g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, "wide", "narrow", "guard"))
	client := dial(t, g.address)
	for i, want := range []string{"3 2", "3 1", "3 0", "3 0"} {
		a := client.ask(t, "GET /")
		if got := a.fields.Get("X-RateLimit-Limit") + " " + a.fields.Get("X-RateLimit-Remaining"); got != want {
			t.Errorf("request %d tells of %q, want %q", i, got, want)
		}
		a.field(t, "RateLimit-Policy", `"guard";q=1000;w=86400000, "wide";q=100;w=8640000, "narrow";q=3;w=259200`)
		list := quotas(t, a, "RateLimit")
		n := min(int64(i+1), 3)
		if len(list) != 3 || list[0].parameters["r"] != 1000-n || list[1].parameters["r"] != 100-10*n || list[2].parameters["r"] != 3-n {
			t.Errorf("request %d: RateLimit %v", i, list)
		}
		if list[0].parameters["t"] != 86400*n {
			t.Errorf("request %d: the guard is said to stand at %v", i, list[0])
		}
	}
	t.Run("a larger number can be closer", func(t *testing.T) {
		rules := limitTable("few", "rate = \"1/d\"\nburst = 4\nkey = []") + limitTable("many", "rate = \"1/d\"\nburst = 100\ncost = 50\nkey = []")
		g := startLimited(t, "", limitedRoutes(rawServer(t, smallAnswer), rules, "few", "many"))
		client := dial(t, g.address)
		client.ask(t, "GET /").expect(t, 200).field(t, "X-RateLimit-Remaining", "50") // of 100; 3 of 4
	})
}
