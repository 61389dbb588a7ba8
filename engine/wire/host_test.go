package wire

import "testing"

func TestHost(t *testing.T) {
	for _, tt := range []struct {
		minor  int
		fields string
		want   string
		absent bool
		err    error
	}{
		{1, "Host: a\r\n", "a", false, nil},
		{1, "X: y\r\nHOST: a:80\r\nHos: b\r\nHostx: c\r\n", "a:80", false, nil}, // any case, and no other name
		{1, "Host:\r\n", "", false, nil},                                        // empty counts (RFC 9112, 3.2)
		{1, "Host: a b/@\r\n", "a b/@", false, nil},                             // not judged here
		{0, "Host: a\r\n", "a", false, nil},
		{0, "", "", true, nil}, // older than Host

		{1, "", "", true, ErrHost},
		{1, "X-Host: a\r\n", "", true, ErrHost},
		{1, "Host: a\r\nHost: b\r\n", "", true, ErrHost}, // which one?
		{1, "Host: a\r\nhost: a\r\n", "", true, ErrHost}, // twice, even if equal
		{1, "Host:\r\nHost: a\r\n", "", true, ErrHost},   // the empty one is one
		{0, "Host: a\r\nHost: b\r\n", "", true, ErrHost},
	} {
		got, err := Host(tt.minor, mustFields(t, tt.fields))
		if string(got) != tt.want || err != tt.err || (got == nil) != tt.absent {
			t.Errorf("Host(1.%d, %q) = %q (nil %v), %v", tt.minor, tt.fields, got, got == nil, err)
		}
	}
}
