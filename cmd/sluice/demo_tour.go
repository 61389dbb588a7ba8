package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// stop is one request of the tour: what it shows, and the command to type. One that only shows something
// begins a part of the tour.
type stop struct{ shows, command string }

// Shell commands that take one value out of an answer.
const (
	takeToken = ` | sed 's/.*"access_token":"\([^"]*\)".*/\1/')`
	takeCode  = ` | sed 's/.*code=\([^&]*\).*/\1/')`
)

// tour is what the demo prints: requests to try. A comment that begins with a status tells what the
// command will get, the last one if it sends several; the others get 200.
func (d *demonstration) tour() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Sluice serves on http://%s and https://%s. Its configuration: %s\nIts status page: http://%s/\nTry, from another terminal:\n",
		d.Listen, d.ListenTLS, d.configPath(), d.Admin)
	for _, part := range [][]stop{d.routingStops(), d.accessStops(), d.tokenStops(), d.limitStops(), d.operatorStops()} {
		for _, s := range part {
			if s.command == "" {
				fmt.Fprintf(&b, "\n----- %s\n", s.shows)
				continue
			}
			fmt.Fprintf(&b, "\n# %s\n%s\n", s.shows, s.command)
		}
	}
	b.WriteString("\nCtrl-C ends the demo and removes its files.\n\n")
	return b.String()
}

func (d *demonstration) routingStops() []stop {
	plain, secure := "http://"+d.Listen, "https://"+d.ListenTLS
	return []stop{
		{"Where requests go", ""},
		{"the prefix goes: the service sees /users/42", "curl " + plain + "/api/users/42"},
		{"a header chooses the version", "curl -H 'X-API-Version: 2' " + plain + "/api/users/42"},
		{"without it, one request in ten goes to v2, and of v1's two servers the large one gets two of three", "curl '" + plain + "/api/users/[1-12]'"},
		{"a session stays with its version; another name, another draw", "curl -H 'Cookie: session=ada' " + plain + "/people/42"},
		{"a route for some hosts only", "curl -H 'Host: shop.example.com' " + plain + "/users/42"},
		{"what the service is sent: who the client is, what was added and removed", "curl -i " + plain + "/headers"},
		{"a caller's trace goes on: the service becomes a child of the gateway's span, and X-Trace-ID names the trace to both sides",
			"curl -i -H 'traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01' " + plain + "/headers"},
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
	}
}

func (d *demonstration) accessStops() []stop {
	orders := "http://" + d.Listen + "/orders"
	return []stop{
		{"Who may pass: API keys", ""},
		{"401: nobody is let in without credentials; WWW-Authenticate tells which", "curl -i " + orders},
		{"the key of MobileApp: the service learns who it is, and never sees the key", "curl -H 'X-API-Key: " + d.keys.mobile + "' " + orders},
		{"whatever a client says of itself is dropped", "curl -H 'X-User-ID: root' -H 'X-API-Key: " + d.keys.mobile + "' " + orders},
		{"401: a key that nobody knows", "curl -i -H 'X-API-Key: slk_guessed' " + orders},
		{"403: the key of Trial may read, and not write", "curl -i -X POST -H 'X-API-Key: " + d.keys.trial + "' " + orders},
	}
}

func (d *demonstration) tokenStops() []stop {
	gateway, issuer := "http://"+d.Listen, d.Issuer
	verifier := randomText()
	return []stop{
		{"Who may pass: tokens, from an issuer that runs beside the gateway", ""},
		{"what the issuer tells of itself", "curl " + issuer + "/.well-known/openid-configuration"},
		{"a program gets a JWT for itself", "TOKEN=$(curl -s -u robot:" + d.issuer.robot + " -d grant_type=client_credentials " + issuer + "/token" + takeToken},
		{"the gateway verifies it without asking anybody", `curl -H "Authorization: Bearer $TOKEN" ` + gateway + "/orders"},
		{"403: its scope is read:orders", `curl -i -X POST -H "Authorization: Bearer $TOKEN" ` + gateway + "/orders"},
		{"401: a token that was tampered with", `curl -i -H "Authorization: Bearer x$TOKEN" ` + gateway + "/orders"},
		{"a user logs in to an application (authorization code, PKCE), here as ada, who is gold; in a browser: " + d.issuer.authorizeURL(verifier),
			"CODE=$(curl -s -o /dev/null -w '%{redirect_url}' -d user=ada '" + d.issuer.authorizeURL(verifier) + "'" + takeCode},
		{"the application exchanges the code for a token; only who began can", "TOKEN=$(curl -s -d grant_type=authorization_code -d client_id=" + demoWebApp +
			" -d redirect_uri=" + d.issuer.redirect() + " -d code_verifier=" + verifier + ` -d "code=$CODE" ` + issuer + "/token" + takeToken},
		{"and acts for ada, who may write", `curl -X POST -H "Authorization: Bearer $TOKEN" ` + gateway + "/orders"},
		{"an opaque token", "OPAQUE=$(curl -s -u partner:" + d.issuer.partner + " -d grant_type=client_credentials " + issuer + "/token" + takeToken},
		{"about it the gateway asks the issuer, and remembers the answer; two limits count here", `curl -i -H "Authorization: Bearer $OPAQUE" ` + gateway + "/partners/orders"},
	}
}

func (d *demonstration) limitStops() []stop {
	gateway := "http://" + d.Listen
	return []stop{
		{"How much", ""},
		{"a client sees what it has left: X-RateLimit-*, RateLimit", "curl -i -H 'X-API-Key: " + d.keys.mobile + "' " + gateway + "/orders"},
		{"429: the key of Trial has a rate of its own, 5 in a minute", "curl -s -o /dev/null -w '%{http_code} ' -H 'X-API-Key: " + d.keys.trial + "' '" + gateway + "/orders?[1-8]'"},
		{"429: Retry-After says when it will pass", "curl -i -H 'X-API-Key: " + d.keys.trial + "' " + gateway + "/orders"},
		{"429: whoever guesses credentials meets the guard, by address", "curl -s -o /dev/null -w '%{http_code} ' -H 'X-Forwarded-For: 192.0.2.66' '" + gateway + "/orders?[1-40]'"},
		{"a leaky bucket lets requests through evenly: they wait for their turn", "curl -s -o /dev/null -w '%{time_total} ' '" + gateway + "/paced/[1-5]'"},
	}
}

func (d *demonstration) operatorStops() []stop {
	gateway, admin, config := "http://"+d.Listen, "http://"+d.Admin, " -c "+d.configPath()+" "
	sluice := programName()
	return []stop{
		{"For operators", ""},
		{"what would happen to a request: nothing is sent", sluice + " explain" + config + "GET " + gateway + "/people/42"},
		{"the same with a credential, and limits", sluice + " explain" + config + "GET " + gateway + "/orders -H 'X-API-Key: any'"},
		{"who has keys", sluice + " keys list" + config},
		{"withdraw all tokens that were issued to ada up to now; she can log in again", sluice + " revoke" + config + "--sub ada --issuer demo --before now --for 1d"},
		{"401: her token has not expired, and is refused", `curl -i -H "Authorization: Bearer $TOKEN" ` + gateway + "/orders"},
		{"what has been counted, and what a shadow would have refused", sluice + " limits show" + config},
		{"forgive Trial", sluice + " limits reset" + config + "per-client Trial"},
		{"the status page for terminals; without --once it goes on", sluice + " top" + config + "--once"},
		{"what the gateway is and does", "curl " + admin + "/status"},
		{"the same and more for Prometheus", "curl " + admin + "/metrics"},
		{"what became of each request", "tail -n 5 " + filepath.Join(d.folder, "access.log")},
		{"edit the configuration; it reloads by itself, or when told", "curl -X POST " + admin + "/reload"},
	}
}

// programName is how a shell finds this program.
func programName() string {
	if _, err := exec.LookPath("sluice"); err != nil && filepath.Base(os.Args[0]) == "sluice" {
		return os.Args[0]
	}
	return "sluice"
}
