package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/coder/websocket"
)

// check holds a gateway's answers against those of the upstream, and what it does beside forwarding against what it
// was told to do: a gateway that does less is not measured.
func (r *runner) check(g *running) error {
	if g.traffic.features.upgrade {
		return checkEcho(g.listen)
	}
	t := g.traffic
	var body []byte
	status := 0
	for range 5 { // a limit of one a second refuses the second or the third
		var err error
		if status, body, err = t.ask(g.listen, t.path, true); err != nil {
			return err
		}
		if status == t.status {
			break
		}
	}
	if status != t.status {
		return fmt.Errorf("answered %d, expected %d", status, t.status)
	}
	if status != http.StatusOK {
		return nil
	}
	_, want, err := bareTraffic().ask(r.upstream, t.path, false)
	if err != nil {
		return err
	}
	if !bytes.Equal(body, want) {
		return fmt.Errorf("answered %d bytes that are not the upstream's %d", len(body), len(want))
	}
	if g.rival == direct {
		return nil
	}
	return t.checkIdentity(g.listen)
}

// checkIdentity finds out whether a gateway lets somebody in who shows nothing, and what it tells the upstream.
func (t traffic) checkIdentity(address string) error {
	f := t.features
	if f.keys || f.jwt {
		if status, _, err := t.ask(address, t.path, false); err != nil || status < 400 {
			return errors.Join(err, fmt.Errorf("answered %d to a client without credentials", status))
		}
	}
	t.body = 0
	_, head, err := t.ask(address, path.Join(path.Dir(t.path), "heads"), true)
	if err != nil {
		return err
	}
	lower := strings.ToLower(string(head))
	switch {
	case (f.keys || f.jwt) && !strings.Contains(lower, "x-user-id: "+client):
		return fmt.Errorf("the upstream is not told the client's name:\n%s", head)
	case f.keys && strings.Contains(string(head), apiKey), f.jwt && strings.Contains(lower, "authorization:"):
		return fmt.Errorf("the upstream gets the credential:\n%s", head)
	case f.strip && !strings.HasPrefix(lower, "get /users/heads"):
		return fmt.Errorf("the upstream gets the whole path:\n%s", head)
	}
	return nil
}

// ask makes one request on a connection of its own.
func (t traffic) ask(address, path string, credentials bool) (status int, body []byte, err error) {
	method, sent, scheme := http.MethodGet, io.Reader(nil), "http://"
	if t.body > 0 {
		method, sent = http.MethodPost, strings.NewReader(strings.Repeat("x", t.body))
	}
	if t.features.tls {
		scheme = "https://"
	}
	request, err := http.NewRequest(method, scheme+address+path, sent)
	if err != nil {
		return 0, nil, err
	}
	for _, h := range t.headers {
		name, value, _ := strings.Cut(h, ": ")
		if credentials || name != "X-API-Key" && name != "Authorization" {
			request.Header.Set(name, value)
		}
	}
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true,
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13}}}
	response, err := c.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	return response.StatusCode, body, err
}

func checkEcho(address string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, _, err := websocket.Dial(ctx, "ws://"+address+"/api/echo", nil)
	if err != nil {
		return err
	}
	defer func() { _ = c.CloseNow() }()
	if err := c.Write(ctx, websocket.MessageText, []byte(smallBody)); err != nil {
		return err
	}
	_, message, err := c.Read(ctx)
	if err == nil && string(message) != smallBody {
		err = fmt.Errorf("echoed %q", message)
	}
	return err
}
