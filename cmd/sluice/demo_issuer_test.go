package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

// issuerClient talks to a demo issuer and follows no redirects.
type issuerClient struct {
	t *testing.T
	*demoIssuer
}

func startIssuer(t *testing.T) issuerClient {
	t.Helper()
	i, err := newDemoIssuer()
	if err != nil {
		t.Fatal(err)
	}
	s, err := startDemoServer(i.handler)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.close() })
	return issuerClient{t, i}
}

// post sends a form, with name and password unless they are empty.
func (c issuerClient) post(path, name, password string, form url.Values) (status int, body string, header http.Header) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), http.MethodPost, c.url+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if name != "" {
		r.SetBasicAuth(name, password)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return response.StatusCode, string(text), response.Header
}

// code logs a user in.
func (c issuerClient) code(user, verifier string) string {
	c.t.Helper()
	status, body, header := c.post(strings.TrimPrefix(c.authorizeURL(verifier), c.url), "", "", url.Values{"user": {user}})
	to, err := url.Parse(header.Get("Location"))
	if status != http.StatusSeeOther || err != nil || to.Query().Get("iss") != c.url || to.Query().Get("state") != "1" {
		c.t.Fatalf("status %d, Location %q, %s", status, header.Get("Location"), body)
	}
	return to.Query().Get("code")
}

func (c issuerClient) exchange(code, verifier string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "client_id": {demoWebApp}, "redirect_uri": {c.redirect()}, "code": {code}, "code_verifier": {verifier},
	}
}

func TestDemoIssuerRefuses(t *testing.T) {
	c := startIssuer(t)
	const verifier = "a-verifier-that-has-forty-three-characters--"
	with := func(form url.Values, name, value string) url.Values {
		form.Set(name, value)
		return form
	}
	used := c.exchange(c.code("ada", verifier), verifier)
	if status, body, _ := c.post("/token", "", "", used); status != http.StatusOK {
		t.Fatalf("a good code: status %d, %s", status, body)
	}
	cases := []struct {
		intent, path, name, password string
		form                         url.Values
		status                       int
		want                         string
	}{
		{"a code twice", "/token", "", "", used, 400, "invalid_grant"},
		{"another verifier", "/token", "", "", c.exchange(c.code("ada", verifier), verifier+"x"), 400, "invalid_grant"},
		{"no verifier", "/token", "", "", c.exchange(c.code("ada", verifier), ""), 400, "invalid_grant"},
		{"another redirect_uri", "/token", "", "", with(c.exchange(c.code("ada", verifier), verifier), "redirect_uri", "http://127.0.0.1/"), 400, "invalid_grant"},
		{"another client", "/token", "", "", with(c.exchange(c.code("ada", verifier), verifier), "client_id", demoRobot), 400, "invalid_grant"},
		{"no code at all", "/token", "", "", url.Values{"grant_type": {"authorization_code"}}, 400, "invalid_grant"},
		{"no secret", "/token", "", "", url.Values{"grant_type": {"client_credentials"}}, 401, "invalid_client"},
		{"another's secret", "/token", demoRobot, c.partner, url.Values{"grant_type": {"client_credentials"}}, 401, "invalid_client"},
		{"a scope that is not its own", "/token", demoRobot, c.robot, url.Values{"grant_type": {"client_credentials"}, "scope": {"write:orders"}}, 400, "invalid_scope"},
		{"passwords of users", "/token", demoRobot, c.robot, url.Values{"grant_type": {"password"}}, 400, "unsupported_grant_type"},
		{"a client that asks about tokens", "/introspect", demoRobot, c.robot, url.Values{"token": {"x"}}, 401, "invalid_client"},
		{"an unknown token", "/introspect", demoGateway, c.gateway, url.Values{"token": {"x"}}, 200, `"active":false`},
		{"a login for nobody's application", "/authorize?client_id=x", "", "", nil, 400, "no such client"},
		{"a login that would lead elsewhere", "/authorize?client_id=webapp&redirect_uri=http://evil.example/", "", "", nil, 400, "not its redirect_uri"},
	}
	for _, test := range cases {
		status, body, _ := c.post(test.path, test.name, test.password, test.form)
		if status != test.status || !strings.Contains(body, test.want) {
			t.Errorf("%s: status %d, %s; want %d, %s", test.intent, status, body, test.status, test.want)
		}
	}
	unproven := strings.Replace(strings.TrimPrefix(c.authorizeURL(verifier), c.url), "S256", "plain", 1)
	if _, _, header := c.post(unproven, "", "", url.Values{"user": {"ada"}}); !strings.Contains(header.Get("Location"), "error=invalid_request") {
		t.Errorf("a login without S256: Location %q", header.Get("Location"))
	}
}

// Whoever makes a browser believe that its name stands for the issuer's address gets nothing.
func TestDemoIssuerKnowsItsName(t *testing.T) {
	c := startIssuer(t)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.url+"/jwks.json", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = "evil.example"
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	response, err := transport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("status %d", response.StatusCode)
	}
}

// What is kept does not grow with the number of clients.
func TestDemoIssuerIsBounded(t *testing.T) {
	c := startIssuer(t)
	for n := range demoMost {
		if _, ok := c.keep(c.codes, demoGrant{expires: time.Now().Add(time.Hour)}); !ok {
			t.Fatalf("there is room for %d only", n)
		}
	}
	status, _, header := c.post(strings.TrimPrefix(c.authorizeURL(""), c.url), "", "", url.Values{"user": {"bob"}})
	if status != http.StatusSeeOther || !strings.Contains(header.Get("Location"), "error=temporarily_unavailable") {
		t.Errorf("status %d, Location %q", status, header.Get("Location"))
	}
	c.mu.Lock()
	for name, g := range c.codes {
		g.expires = time.Now()
		c.codes[name] = g
	}
	c.mu.Unlock()
	if c.code("bob", ""); len(c.codes) != 1 {
		t.Errorf("%d codes are kept though all but one have ended", len(c.codes))
	}
}

// Opaque tokens say to the gateway what they are worth, and to nobody else.
func TestDemoIssuerIntrospects(t *testing.T) {
	c := startIssuer(t)
	var got struct {
		Token  string `json:"access_token"`
		Active bool
		Sub    string
		Scope  string
	}
	_, body, _ := c.post("/token", demoPartner, c.partner, url.Values{"grant_type": {"client_credentials"}})
	if err := json.Unmarshal([]byte(body), &got); err != nil || strings.Contains(got.Token, ".") {
		t.Fatalf("%s: %v", body, err)
	}
	_, body, _ = c.post("/introspect", demoGateway, c.gateway, url.Values{"token": {got.Token}})
	if err := json.Unmarshal([]byte(body), &got); err != nil || !got.Active || got.Sub != demoPartner || got.Scope != "read:orders" {
		t.Errorf("%s: %v", body, err)
	}
}
