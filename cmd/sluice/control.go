package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
)

const (
	controlTime = 30 * time.Second // the longest that a gateway may take to answer
	dialTime    = 5 * time.Second
	maxAnswer   = 64 << 20
)

// control talks to the admin side of a running gateway.
type control struct {
	address string // as the configuration writes it
	token   string
	client  *http.Client
}

// newControl finds the admin side in the configuration at path. Faults elsewhere in it do not matter: the
// gateway may be running on an older one, and with secrets that only its own environment has.
func newControl(path string) (*control, error) {
	file, faults := config.Load(path)
	if file == nil {
		return nil, faults
	}
	var concern config.Faults
	for _, f := range faults {
		if f.Key == "admin" || strings.HasPrefix(f.Key, "admin.") {
			concern = append(concern, f)
		}
	}
	if err := concern.Err(); err != nil {
		return nil, err
	}
	network, address := "tcp", file.Admin.Listen
	if socket, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", socket
	}
	switch {
	case address == "":
		return nil, fmt.Errorf("%s: the gateway has no admin side: admin.listen is empty", path)
	case strings.HasPrefix(address, "systemd:"):
		return nil, fmt.Errorf("%s: admin.listen is %q, and only systemd knows where that is", path, address)
	}
	dialer := &net.Dialer{Timeout: dialTime}
	return &control{
		address: file.Admin.Listen, token: file.Admin.Token.Reveal(),
		client: &http.Client{
			Timeout:       controlTime,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			Transport: &http.Transport{ // without the environment's proxies: they are not to see the token
				DisableKeepAlives: true,
				DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
					return dialer.DialContext(ctx, network, address)
				},
			},
		},
	}, nil
}

// refusal is what the admin side says to a request that it does not carry out.
type refusal struct {
	address string
	status  int
	reason  string
	detail  string
}

func (r *refusal) Error() string {
	if r.status == http.StatusUnauthorized {
		return fmt.Sprintf("the gateway at %s does not take the admin.token of this configuration", r.address)
	}
	return fmt.Sprintf("the gateway at %s: %s", r.address, r.detail)
}

// ask sends a request and decodes the answer, which is JSON. Its error is a *refusal if the gateway is
// there, and does not do what it is asked.
func (c *control) ask(ctx context.Context, method, path string, query url.Values, answer any) error {
	return c.tell(ctx, method, path, query, nil, answer)
}

// tell is ask with a body; nil: none.
func (c *control) tell(ctx context.Context, method, path string, query url.Values, body io.Reader, answer any) error {
	target := url.URL{Scheme: "http", Host: "localhost", Path: path, RawQuery: query.Encode()}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return fmt.Errorf("cannot ask the gateway: %w", err)
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	response, err := c.client.Do(request)
	if err != nil {
		return c.unreachable(err)
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return c.unreachable(err)
	}
	if response.StatusCode >= 300 {
		return c.refused(response.StatusCode, text)
	}
	if err := json.Unmarshal(text, answer); err != nil {
		return fmt.Errorf("what answers at %s is no gateway's admin side: %w", c.address, err)
	}
	return nil
}

func (c *control) refused(status int, body []byte) error {
	var problem struct {
		Detail string `json:"detail"`
		Reason string `json:"reason"`
	}
	if json.Unmarshal(body, &problem) != nil || problem.Reason == "" {
		return fmt.Errorf("what answers at %s is no gateway's admin side: status %d", c.address, status)
	}
	return &refusal{c.address, status, problem.Reason, problem.Detail}
}

// unreachable says why there is no answer, less what net/http says of a URL that nobody wrote.
func (c *control) unreachable(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("no gateway is running at %s", c.address)
	}
	return fmt.Errorf("cannot reach the gateway at %s: %w", c.address, err)
}
