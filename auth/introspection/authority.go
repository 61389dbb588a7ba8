package introspection

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
)

const answerMax = 64 << 10

var (
	errRequest     = errors.New("the authority calls the request wrong: status 400")
	errCredentials = errors.New("the authority refuses our own credentials")
	errTooLarge    = errors.New("the answer is larger than 64 KiB")
)

// authority is the server that knows the tokens.
type authority struct {
	url           string
	client        *http.Client
	authorization string
	own           *http.Transport // to be closed; nil: it is the caller's
}

func newAuthority(c Config) *authority {
	a := &authority{url: c.URL, client: &http.Client{}, authorization: basic(c.ClientID, c.ClientSecret)}
	if c.Client != nil {
		*a.client = *c.Client
	} else {
		// HTTP/1.1 only: a connection that has died unseen costs one request and is gone. With HTTP/2 it would
		// carry them all until the kernel gives it up.
		protocols := &http.Protocols{}
		protocols.SetHTTP1(true)
		a.own = &http.Transport{
			Protocols:              protocols,
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: c.Timeout}).DialContext,
			MaxIdleConnsPerHost:    requestsMax,
			IdleConnTimeout:        idleTimeout,
			TLSHandshakeTimeout:    c.Timeout,
			MaxResponseHeaderBytes: 64 << 10,
		}
		a.client.Transport = a.own
	}
	a.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return a
}

// basic is the Authorization of a client. Both parts are form-encoded first (RFC 6749 section 2.3.1).
func basic(id, secret string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(url.QueryEscape(id), url.QueryEscape(secret))
	return r.Header.Get("Authorization")
}

// ask returns what the authority says of token (RFC 7662 section 2). Errors hold neither token nor secret.
func (a *authority) ask(ctx context.Context, token string) (*answer, error) {
	form := "token=" + url.QueryEscape(token) + "&token_type_hint=access_token"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, a.url, strings.NewReader(form))
	if err != nil {
		return nil, withoutURL(err)
	}
	request.Header.Set("Authorization", a.authorization)
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	request.Header.Set("User-Agent", "sluice")
	request.Header["Idempotency-Key"] = nil // not sent; tells net/http to try again when an idle connection has died
	response, err := a.client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusOK:
	case http.StatusBadRequest:
		return nil, errRequest
	case http.StatusUnauthorized, http.StatusForbidden:
		return nil, fmt.Errorf("%w: status %d", errCredentials, response.StatusCode)
	default:
		return nil, fmt.Errorf("the authority answered with status %d", response.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(response.Body, answerMax+1))
	if err != nil {
		return nil, fmt.Errorf("cannot read the authority's answer: %w", err)
	}
	if len(data) > answerMax {
		return nil, errTooLarge
	}
	return decode(data)
}

func (a *authority) close() {
	if a.own != nil {
		a.own.CloseIdleConnections()
	}
}

// withoutURL takes the URL off an error of net/http: it is in the configuration.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
