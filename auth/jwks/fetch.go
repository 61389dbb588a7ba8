package jwks

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"time"
)

const (
	fetchTimeout = 5 * time.Second
	bodyMax      = 1 << 20
	redirectsMax = 3
)

var (
	errTooLarge  = errors.New("larger than 1 MiB")
	errRedirect  = errors.New("redirected to another host, or too often")
	errIrregular = errors.New("not a regular file")
)

// source is where a set is read from: a remote or a file. Its text is fit for logs.
type source interface {
	fmt.Stringer
	read(ctx context.Context) ([]byte, error)
}

// remote is a set behind a URL.
type remote struct {
	url    *url.URL
	client *http.Client
}

// newRemote copies the client, whose redirects it restricts unless the client has its own rule.
func newRemote(u *url.URL, client *http.Client) *remote {
	own := http.Client{}
	if client != nil {
		own = *client
	} else {
		// Fetches are minutes apart: a connection kept open would only be one that breaks unseen.
		own.Transport = &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			DisableKeepAlives:      true,
			DisableCompression:     true,
			TLSHandshakeTimeout:    fetchTimeout,
			MaxResponseHeaderBytes: 64 << 10,
			ForceAttemptHTTP2:      true,
		}
	}
	if own.CheckRedirect == nil {
		own.CheckRedirect = stayHome
	}
	return &remote{url: u, client: &own}
}

// stayHome lets a server move a set to another of its paths, or from http to https, and nowhere else: who
// may choose the host may choose the keys.
func stayHome(next *http.Request, via []*http.Request) error {
	from, to := via[0].URL, next.URL
	upgrade := from.Scheme == "http" && to.Scheme == "https" && from.Hostname() == to.Hostname() && from.Port() == "" && to.Port() == ""
	if len(via) > redirectsMax || !upgrade && (from.Scheme != to.Scheme || from.Host != to.Host) {
		return errRedirect
	}
	return nil
}

func (r *remote) String() string { return r.url.Redacted() }

func (r *remote) read(ctx context.Context) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url.String(), nil)
	if err != nil {
		return nil, withoutURL(err)
	}
	request.Header.Set("Accept", "application/jwk-set+json, application/json;q=0.9")
	request.Header.Set("User-Agent", "sluice")
	response, err := r.client.Do(request)
	if err != nil {
		return nil, withoutURL(err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the server answered with status %d", response.StatusCode)
	}
	return readBounded(response.Body)
}

// withoutURL takes the URL off an error of net/http: the caller names it already.
func withoutURL(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}

// file is a set in a file.
type file string

func (f file) String() string { return string(f) }

func (f file) read(context.Context) ([]byte, error) {
	info, err := os.Stat(string(f))
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // to open a pipe would wait for its writer
		return nil, errIrregular
	}
	opened, err := os.Open(string(f))
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	return readBounded(opened)
}

func readBounded(r io.Reader) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, bodyMax+1))
	if err != nil {
		return nil, err
	}
	if len(data) > bodyMax {
		return nil, errTooLarge
	}
	return data, nil
}
