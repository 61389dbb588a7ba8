package router_test

import (
	"fmt"
	"testing"

	"github.com/sluice-gateway/sluice/router"
)

func TestExplain(t *testing.T) {
	table := compile(t,
		router.Route{Name: "users", Path: "/users/{id}", Methods: []string{"GET", "PUT"}},
		router.Route{Name: "users-all", Path: "/users/*"},
		router.Route{Name: "admin", Path: "/users/{id}", Hosts: []string{"admin.example.com"}},
		router.Route{Path: "/orders/{id}"},
		router.Route{Name: "me", Path: "/users/me/posts"},
	)
	tests := []struct {
		why, method, host, path string
		want                    []string
	}{
		{
			"a match, a worse one, near misses", "GET", "api.example.com:80", "/users/42",
			[]string{
				`0 true`,
				`1 true less specific than route "users"`,
				`2 false host api.example.com is not admin.example.com`,
				`4 false segment 2: "42" is not "me"`,
				`3 false segment 1: "users" is not "orders"`,
			},
		},
		{
			"methods, and several faults of one route", "POST", "Admin.Example.com", "/users/42",
			[]string{
				`2 true`,
				`1 true less specific than route "admin"`,
				`0 false method POST is not in GET, PUT`,
				`4 false segment 2: "42" is not "me"`,
				`3 false segment 1: "users" is not "orders"`,
			},
		},
		{
			"lengths", "GET", "", "/orders/",
			[]string{
				`3 false segment 2 is empty, which {id} does not take`,
				`0 false segment 1: "orders" is not "users"`,
				`1 false segment 1: "orders" is not "users"`,
				`4 false segment 1: "orders" is not "users"`,
				`2 false host "" is not admin.example.com; segment 1: "orders" is not "users"`,
			},
		},
	}
	for _, test := range tests {
		var got []string
		for _, c := range table.Explain([]byte(test.method), []byte(test.host), []byte(test.path)) {
			line := fmt.Sprintf("%d %v", c.Route, c.Matched)
			if c.Reason != "" {
				line += " " + c.Reason
			}
			got = append(got, line)
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s:\ngot  %q\nwant %q", test.why, got, test.want)
		}
	}
}
