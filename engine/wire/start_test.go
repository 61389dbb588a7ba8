package wire

import "testing"

func TestParseRequestLine(t *testing.T) {
	for _, tt := range []struct {
		line, method, target string
		minor                int
		err                  error
	}{
		{"GET / HTTP/1.1", "GET", "/", 1, nil},
		{"GET / HTTP/1.0", "GET", "/", 0, nil},
		{"OPTIONS * HTTP/1.1", "OPTIONS", "*", 1, nil},                       // asterisk-form
		{"CONNECT a:443 HTTP/1.1", "CONNECT", "a:443", 1, nil},               // authority-form
		{"GET http://a/b?c HTTP/1.1", "GET", "http://a/b?c", 1, nil},         // absolute-form
		{"M-SEARCH /%zz\\#\xff HTTP/1.1", "M-SEARCH", "/%zz\\#\xff", 1, nil}, // forms are not judged here

		{"", "", "", 0, ErrStart},
		{"GET", "", "", 0, ErrStart},
		{"GET /", "", "", 0, ErrStart},                   // HTTP/0.9
		{"GET / ", "", "", 0, ErrStart},                  // no version
		{"GET HTTP/1.1", "", "", 0, ErrStart},            // no target
		{"GET  HTTP/1.1", "", "", 0, ErrStart},           // an empty target
		{" GET / HTTP/1.1", "", "", 0, ErrStart},         // space in front
		{"GET  / HTTP/1.1", "", "", 0, ErrStart},         // two spaces
		{"GET /  HTTP/1.1", "", "", 0, ErrStart},         // two spaces
		{"GET / HTTP/1.1 ", "", "", 0, ErrStart},         // space behind
		{"GET /a b HTTP/1.1", "", "", 0, ErrStart},       // where does the target end?
		{"GET / HTTP/1.0 HTTP/1.1", "", "", 0, ErrStart}, // which version?
		{"GET\t/ HTTP/1.1", "", "", 0, ErrStart},         // HTAB is no separator
		{"GET /\tHTTP/1.1", "", "", 0, ErrStart},
		{"GET /a\tb HTTP/1.1", "", "", 0, ErrStart}, // nor part of a target
		{"GET /\x00 HTTP/1.1", "", "", 0, ErrStart}, // NUL
		{"GET /\x7f HTTP/1.1", "", "", 0, ErrStart}, // DEL
		{"GET /\r HTTP/1.1", "", "", 0, ErrLine},    // bare CR
		{"GET / HTTP/1.1\r", "", "", 0, ErrLine},    // two CR
		{"GET / HTTP/1.1\nA: b", "", "", 0, ErrLine},
		{"G@T / HTTP/1.1", "", "", 0, ErrStart},  // method not a token
		{"GET: / HTTP/1.1", "", "", 0, ErrStart}, // the same, looking like a field
		{"GET / http/1.1", "", "", 0, ErrStart},  // the name is case-sensitive
		{"GET / HTTPS/1.1", "", "", 0, ErrStart},
		{"GET / HTTP/", "", "", 0, ErrStart},

		{"PRI * HTTP/2.0", "", "", 0, ErrVersion}, // the preface of HTTP/2
		{"GET / HTTP/0.9", "", "", 0, ErrVersion},
		{"GET / HTTP/1.2", "", "", 0, ErrVersion},
		{"GET / HTTP/3", "", "", 0, ErrVersion},
		{"GET / HTTP/1.01", "", "", 0, ErrVersion}, // exactly one digit
		{"GET / HTTP/01.1", "", "", 0, ErrVersion},
		{"GET / HTTP/+1.1", "", "", 0, ErrVersion},
	} {
		got, err := ParseRequestLine([]byte(tt.line))
		if err != tt.err || string(got.Method) != tt.method || string(got.Target) != tt.target || got.Minor != tt.minor {
			t.Errorf("ParseRequestLine(%q) = %q %q 1.%d, %v", tt.line, got.Method, got.Target, got.Minor, err)
		}
	}
}

func TestParseStatusLine(t *testing.T) {
	for _, tt := range []struct {
		line   string
		minor  int
		code   int
		reason string
		err    error
	}{
		{"HTTP/1.1 200 OK", 1, 200, "OK", nil},
		{"HTTP/1.0 404 Not Found", 0, 404, "Not Found", nil},
		{"HTTP/1.1 200", 1, 200, "", nil},  // no reason, no SP
		{"HTTP/1.1 200 ", 1, 200, "", nil}, // no reason
		{"HTTP/1.1 101 Switching\tp", 1, 101, "Switching\tp", nil},
		{"HTTP/1.1 599 \xfc", 1, 599, "\xfc", nil}, // obs-text

		{"", 0, 0, "", ErrStart},
		{"HTTP/1.1", 0, 0, "", ErrStart},
		{"HTTP/1.1 ", 0, 0, "", ErrStart},
		{"HTTP/1.1  200 OK", 0, 0, "", ErrStart}, // two spaces
		{"HTTP/1.1 20 OK", 0, 0, "", ErrStart},   // two digits
		{"HTTP/1.1 2000 OK", 0, 0, "", ErrStart}, // four
		{"HTTP/1.1 +20 OK", 0, 0, "", ErrStart},  // a sign
		{"HTTP/1.1 2x0 OK", 0, 0, "", ErrStart},
		{"HTTP/1.1 099 x", 0, 0, "", ErrStart}, // no class: interim or final?
		{"HTTP/1.1 600 x", 0, 0, "", ErrStart}, // no class
		{"HTTP/1.1 999 x", 0, 0, "", ErrStart},
		{"HTTP/1.1\t200 OK", 0, 0, "", ErrStart},
		{"HTTP/1.1 200\tOK", 0, 0, "", ErrStart},
		{"HTTP/1.1 200 O\x00K", 0, 0, "", ErrStart},
		{"HTTP/1.1 200 OK\rX: y", 0, 0, "", ErrLine}, // bare CR
		{"HTTP/1.1\r200 OK", 0, 0, "", ErrLine},
		{"ICY 200 OK", 0, 0, "", ErrStart}, // shoutcast
		{"http/1.1 200 OK", 0, 0, "", ErrStart},
		{"HTTP/2.0 200 OK", 0, 0, "", ErrVersion},
		{"HTTP/1.10 200 OK", 0, 0, "", ErrVersion},
	} {
		got, err := ParseStatusLine([]byte(tt.line))
		if err != tt.err || got.Minor != tt.minor || got.Code != tt.code || string(got.Reason) != tt.reason {
			t.Errorf("ParseStatusLine(%q) = 1.%d %d %q, %v", tt.line, got.Minor, got.Code, got.Reason, err)
		}
	}
}
