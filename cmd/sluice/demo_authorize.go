package main

import (
	"crypto/sha256"
	"encoding/base64"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// demoUser is someone who can log in, without a password: nothing here is worth one.
type demoUser struct {
	Name, Tier string
	Scopes     []string
}

func demoUsers() []demoUser {
	return []demoUser{
		{"ada", "gold", []string{"read:orders", "write:orders"}},
		{"bob", "", []string{"read:orders"}},
	}
}

const loginPage = `<!doctype html><title>Demo issuer</title><h1>Demo issuer</h1>
<p>The application <b>{{.Client}}</b> wants to act for you. Who are you?
<form method="post">{{range .Users}}<p><button name="user" value="{{.Name}}">{{.Name}}</button> may {{range .Scopes}} {{.}}{{end}}{{end}}</form>`

const callbackPage = `<!doctype html><title>Demo application</title><h1>Back at the application</h1>
{{if .Code}}<p>It got the code <code>{{.Code}}</code> and exchanges it for a token; or do it yourself, within a minute,
with the line that the demo has printed.{{else}}<p>It got no code: {{.Error}}.{{end}}`

// challengeOf is the S256 challenge of a PKCE verifier (RFC 7636 section 4.2).
func challengeOf(verifier string) string {
	sum := sha256.Sum256([]byte(verifier))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// authorizeURL is where the application sends its user to log in.
func (i *demoIssuer) authorizeURL(verifier string) string {
	return i.url + "/authorize?" + url.Values{
		"response_type": {"code"}, "client_id": {demoWebApp}, "redirect_uri": {i.redirect()}, "state": {"1"},
		"code_challenge": {challengeOf(verifier)}, "code_challenge_method": {"S256"},
	}.Encode()
}

// redirect is the only place where codes are sent to.
func (i *demoIssuer) redirect() string { return i.url + "/callback" }

// login asks who the user is.
func (i *demoIssuer) login(w http.ResponseWriter, r *http.Request) {
	if i.checkAuthorize(w, r) {
		showPage(w, loginPage, map[string]any{"Client": demoWebApp, "Users": demoUsers()})
	}
}

// checkAuthorize answers a request that no user should be asked about. Nobody is sent to a place that is not
// the client's (RFC 9700 section 4.1); what else is wrong, the client is told there.
func (i *demoIssuer) checkAuthorize(w http.ResponseWriter, r *http.Request) bool {
	q := r.URL.Query()
	reason := ""
	switch {
	case q.Get("client_id") != demoWebApp || q.Get("redirect_uri") != i.redirect():
		http.Error(w, "no such client, or not its redirect_uri", http.StatusBadRequest)
		return false
	case q.Get("response_type") != "code":
		reason = "unsupported_response_type"
	case q.Get("code_challenge_method") != "S256" || len(q.Get("code_challenge")) != len(challengeOf("")):
		reason = "invalid_request"
	default:
		return true
	}
	i.sendBack(w, r, "error", reason)
	return false
}

// authorize gives the client a code for the user.
func (i *demoIssuer) authorize(w http.ResponseWriter, r *http.Request) {
	if !i.checkAuthorize(w, r) {
		return
	}
	for _, u := range demoUsers() {
		if u.Name != r.PostFormValue("user") {
			continue
		}
		scopes, ok := chooseScopes(r.URL.Query().Get("scope"), u.Scopes)
		if !ok {
			i.sendBack(w, r, "error", "invalid_scope")
			return
		}
		code, ok := i.keep(i.codes, demoGrant{
			subject: u.Name, client: demoWebApp, tier: u.Tier, scopes: scopes, expires: time.Now().Add(demoCodeTime),
			challenge: r.URL.Query().Get("code_challenge"), redirect: r.URL.Query().Get("redirect_uri"),
		})
		if !ok {
			i.sendBack(w, r, "error", "temporarily_unavailable")
			return
		}
		i.sendBack(w, r, "code", code)
		return
	}
	i.sendBack(w, r, "error", "access_denied")
}

// sendBack sends the user back to the client. The client sees by iss whose answer it is (RFC 9207).
func (i *demoIssuer) sendBack(w http.ResponseWriter, r *http.Request, name, value string) {
	answer := url.Values{name: {value}, "iss": {i.url}}
	if state := r.URL.Query().Get("state"); state != "" {
		answer.Set("state", state)
	}
	http.Redirect(w, r, i.redirect()+"?"+answer.Encode(), http.StatusSeeOther)
}

// callback stands for the page of the application that gets the code.
func (i *demoIssuer) callback(w http.ResponseWriter, r *http.Request) {
	showPage(w, callbackPage, map[string]any{"Code": r.URL.Query().Get("code"), "Error": r.URL.Query().Get("error")})
}

// grantCode gives the client a token for a code, once, if it is the client that began (RFC 7636).
func (i *demoIssuer) grantCode(w http.ResponseWriter, r *http.Request) {
	code := r.PostFormValue("code")
	i.mu.Lock()
	g, found := i.codes[code]
	delete(i.codes, code)
	i.mu.Unlock()
	if !found || !time.Now().Before(g.expires) || r.PostFormValue("client_id") != g.client ||
		r.PostFormValue("redirect_uri") != g.redirect || challengeOf(r.PostFormValue("code_verifier")) != g.challenge {
		refuseToken(w, http.StatusBadRequest, "invalid_grant")
		return
	}
	g.expires = time.Now().Add(demoTokenTime)
	i.giveToken(w, g, i.sign(g))
}

func showPage(w http.ResponseWriter, page string, data any) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'; form-action 'self'")
	w.Header().Set("Referrer-Policy", "no-referrer") // the address has a code in it
	var text strings.Builder
	if err := template.Must(template.New("page").Parse(page)).Execute(&text, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = w.Write([]byte(text.String()))
}
