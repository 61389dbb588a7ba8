package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// Who may not pass is told so before the body is read: no 100 Continue, no byte for the upstream, and what
// follows the head is never taken for a request.
func TestRefusedBeforeTheBody(t *testing.T) {
	t.Parallel()
	g, up, s := startIdentity(t, "")
	const smuggled = "GET /open/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
	for intent, head := range map[string]string{
		"expects 100":       "POST /token/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 1000\r\n\r\n",
		"a body":            "POST /token/x HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\n" + smuggled,
		"chunks":            "POST /token/x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + smuggled,
		"a large body":      "POST /mixed/x HTTP/1.1\r\nHost: h\r\nX-API-Key: x\r\nContent-Length: 9000000\r\n\r\n" + smuggled,
		"a preflight-alike": "OPTIONS /token/x HTTP/1.1\r\nHost: h\r\nOrigin: http://a.test\r\nContent-Length: 1000\r\n\r\n" + smuggled,
	} {
		c, r := g.exchange(t, head)
		if r.status != 401 || len(r.interim) > 0 {
			t.Errorf("%s: status %d after %v", intent, r.status, r.interim)
		}
		_ = c.CloseWrite()
		c.expectClosed()
		up.expectNothing(t, 0)
	}
	c := g.dial(t)
	c.send("POST /token/x HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 2\r\n" + bearer(s.token(nil)) + "\r\n\r\nhi")
	if r := c.receive("POST"); r.status != 200 {
		t.Errorf("with a token: %d", r.status)
	}
}

// An upgrade is a request like others: without a credential there is no tunnel, with one the upstream is told
// whose it is.
func TestUpgradeNeedsCredentials(t *testing.T) {
	t.Parallel()
	g, up, s := startIdentity(t, "")
	const head = "GET /token/x HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, X-User-ID\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n" +
		"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-User-ID: evil\r\n"
	for _, line := range []string{"Cookie: a=b", "Authorization: Bearer x", "Sec-WebSocket-Protocol: " + s.token(nil), "X-API-Key: " + goodKey} {
		c, r := g.exchange(t, head+line+"\r\n\r\nbytes of a tunnel")
		if r.status != 401 {
			t.Errorf("%.20s: status %d", line, r.status)
		}
		c.Close()
	}
	up.expectNothing(t, 0)
	c, _ := g.exchange(t, head+bearer(s.token(nil))+"\r\n\r\n")
	c.Close()
	if got := up.one(t); got.fields.get("X-User-ID") != "alice" || got.fields.has("Authorization") || strings.Contains(got.raw, "evil") {
		t.Errorf("the upstream got\n%s", got.raw)
	}
}

// Nothing of a client's identity stays with its connection, however its requests follow each other.
func TestIdentityEndsWithTheRequest(t *testing.T) {
	t.Parallel()
	g, up, s := startIdentity(t, "")
	get := func(path, lines string) string { return "GET " + path + " HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n" }
	token, key := bearer(s.token(nil))+"\r\n", "X-API-Key: "+goodKey+"\r\n"
	c := g.dial(t)
	steps := []struct {
		request string
		status  int
		user    string
	}{
		{get("/token/1", token), 200, "alice"}, {get("/open/2", ""), 200, ""}, {get("/token/3", ""), 401, ""}, {get("/key/4", key), 200, "mobile"},
		{get("/token/5", key), 401, ""}, {get("/mixed/6", token), 200, "alice"}, {get("/mixed/7", ""), 401, ""}, {get("/nowhere", token), 404, ""},
		{get("/open/8", token), 200, ""}, {get("/key/9", token), 401, ""},
	}
	for pass, send := range []func(i int){
		func(i int) { c.send(steps[i].request) },
		func(i int) { // all at once, before the first answer
			if i == 0 {
				var all strings.Builder
				for _, step := range steps {
					all.WriteString(step.request)
				}
				c.send(all.String())
			}
		},
	} {
		for i, step := range steps {
			send(i)
			if r := c.receive("GET"); r.status != step.status {
				t.Errorf("pass %d, step %d: status %d, want %d", pass, i, r.status, step.status)
			}
		}
		var told []string
		for _, r := range up.take() {
			told = append(told, r.path[strings.LastIndexByte(r.path, '/')+1:]+r.fields.get("X-User-ID"))
		}
		if got, want := fmt.Sprint(told), "[1alice 2 4mobile 6alice 8]"; got != want {
			t.Errorf("pass %d: the upstream was told %s, want %s", pass, got, want)
		}
	}
}

// No spelling of a path opens a route without its credential.
func TestPathsDoNotEvadeAuthentication(t *testing.T) {
	t.Parallel()
	g, up, _ := startIdentity(t, "")
	for _, target := range []string{
		"/token/x", "/open/../token/x", "/open/%2e%2e/token/x", "/open/.%2e/token/x", "/open/..%2ftoken/x", "/open/..;/token/x", "/open/..%5ctoken/x",
		"/open/%252e%252e/token/x", "//token/x", "/./token/x", "/%74oken/x", "/token%2fx", "/token/", "/token", "/TOKEN/x", "/token;/x", "/token/x?/open/x",
		"/open/x/../../token/x", "/open/%2e%2e%2ftoken/x", "http://h/token/x", "http://h/open/../token/x", "http://alice@h/token/x", "/open\\..\\token/x",
		"/open/x%00/../token/x", "/token/x#/open/x", "*", "/open/..", "/open/../",
	} {
		mark := up.size()
		c, r := g.exchange(t, "GET "+target+" HTTP/1.1\r\nHost: h\r\nX-Original-URL: /open/x\r\nX-Rewrite-URL: /open/x\r\nX-Forwarded-Uri: /open/x\r\n\r\n")
		c.Close()
		if r.status == 200 {
			if got := up.one(t); !strings.HasPrefix(got.path, "/open/") || strings.Contains(strings.ToLower(got.path), "..") {
				t.Errorf("%s reached the upstream as %s", target, got.path)
			}
			continue
		}
		if r.status != 400 && r.status != 401 && r.status != 404 {
			t.Errorf("%s: status %d", target, r.status)
		}
		up.expectNothing(t, mark)
	}
}
