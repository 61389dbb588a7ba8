package main

import "testing"

func TestIsWithin(t *testing.T) {
	tests := []struct {
		intent string
		key    string
		name   string
		want   bool
	}{
		{"a key of the upstream", "upstream.users.targets", "users", true},
		{"one of another whose name is longer", "upstream.users-v2.targets", "users", false},
		{"a name that needs quotes", `upstream."users.v2".host`, "users.v2", true},
		{"which is no key of a shorter one", `upstream."users.v2".host`, "users", false},
		{"a route of the same name", "route.users.timeout", "users", false},
	}
	for _, test := range tests {
		if got := isWithin(test.key, "upstream", test.name); got != test.want {
			t.Errorf("%s: isWithin(%q, %q) is %v", test.intent, test.key, test.name, got)
		}
	}
}
