package main

import (
	"fmt"
	"path/filepath"
	"strings"
)

// stop is one request of the tour: what it shows, and the command to type.
type stop struct{ shows, command string }

// tour is what the demo prints: requests to try. A comment that begins with a status tells what the
// command will get; the others get 200.
func (d *demonstration) tour() string {
	plain, secure, admin := "http://"+d.Listen, "https://"+d.ListenTLS, "http://"+d.Admin
	stops := []stop{
		{"the prefix goes: the service sees /users/42", "curl " + plain + "/api/users/42"},
		{"a header chooses the version", "curl -H 'X-API-Version: 2' " + plain + "/api/users/42"},
		{"without it, one request in ten goes to v2: repeat it", "curl " + plain + "/api/users/42"},
		{"a session stays with its version; another name, another draw", "curl -H 'Cookie: session=ada' " + plain + "/people/42"},
		{"what the service is sent: who the client is, what was added and removed", "curl -i " + plain + "/headers"},
		{"a body passes", "curl -d 'hello' " + plain + "/echo"},
		{"413: a body above the route's 1 KiB does not", "curl -i -d @" + d.configPath() + " " + plain + "/echo"},
		{"405: the path exists, but not for this method", "curl -i -X DELETE " + plain + "/people/42"},
		{"404: no route", "curl -i " + plain + "/nowhere"},
		{"400: paths that two servers could read differently are refused", "curl -i " + plain + "/api/users%2F42"},
		{"504: the service takes 2s, the route allows 500ms", "curl -i " + plain + "/slow"},
		{"events come as they happen", "curl -N '" + plain + "/events?count=5'"},
		{"101: an upgraded connection, here a WebSocket that echoes", "curl -i -N --max-time 1 -H 'Connection: Upgrade' -H 'Upgrade: websocket'" +
			" -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: c2x1aWNlLWRlbW8ta2V5IQ==' " + plain + "/ws"},
		{"the same over TLS", "curl --cacert " + filepath.Join(d.folder, "cert.pem") + " " + secure + "/api/users/42"},
		{"what the gateway is and does", "curl " + admin + "/status"},
		{"edit the configuration; it reloads by itself, or when told", "curl -X POST " + admin + "/reload"},
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Sluice serves on %s and %s. Its configuration: %s\n\nTry, from another terminal:\n", plain, secure, d.configPath())
	for _, s := range stops {
		fmt.Fprintf(&b, "\n# %s\n%s\n", s.shows, s.command)
	}
	fmt.Fprintf(&b, "\n# the same, without sending anything: which route, where to, and why\nsluice explain -c %s GET %s/people/42\n", d.configPath(), plain)
	b.WriteString("\nCtrl-C ends the demo and removes its files.\n\n")
	return b.String()
}
