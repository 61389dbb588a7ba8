package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// shell does what a user's would with the lines of the tour, as far as they need it: variables, quotes, curl.
type shell struct {
	vars  map[string]string
	tried int // requests
}

// words splits a command line: nothing is special in single quotes, variables are in double ones.
func (s *shell) words(line string) (list []string) {
	for rest := line; ; {
		i := strings.IndexAny(rest, `'"`)
		if i < 0 {
			return append(list, strings.Fields(rest)...)
		}
		list = append(list, strings.Fields(rest[:i])...)
		inside, after, _ := strings.Cut(rest[i+1:], rest[i:i+1])
		if rest[i] == '"' {
			inside = os.Expand(inside, func(name string) string { return s.vars[name] })
		}
		list, rest = append(list, inside), after
	}
}

// command is a request as a command line of curl has it, to one URL or several.
type command struct {
	method   string
	urls     []string
	header   http.Header
	body     []string
	write    string // -w
	user     string // name:password
	trusted  *x509.CertPool
	discards bool
}

func (s *shell) parse(t *testing.T, line string) command {
	t.Helper()
	c := command{method: http.MethodGet, header: http.Header{}}
	for args := s.words(line)[1:]; len(args) > 0; args = args[1:] {
		switch args[0] {
		case "-i", "-N", "-s":
			continue
		case "-X", "-H", "-d", "-o", "-u", "-w", "--max-time", "--cacert":
		default:
			c.urls = expand(t, args[0])
			continue
		}
		value := args[1]
		switch args[0] {
		case "-X":
			c.method = value
		case "-H":
			name, text, _ := strings.Cut(value, ": ")
			c.header.Set(name, text)
		case "-o":
			c.discards = value == "/dev/null"
		case "-u":
			c.user = value
		case "-w":
			c.write = value
		case "-d":
			c.method = http.MethodPost
			if name, isFile := strings.CutPrefix(value, "@"); isFile {
				value = string(readFile(t, name))
			}
			c.body = append(c.body, value)
			c.header.Set("Content-Type", "application/x-www-form-urlencoded")
		case "--cacert":
			c.trusted = x509.NewCertPool()
			c.trusted.AppendCertsFromPEM(readFile(t, value))
		}
		args = args[1:]
	}
	return c
}

// expand makes as many URLs as a range such as [1-8] has numbers.
func expand(t *testing.T, url string) (urls []string) {
	t.Helper()
	spread := regexp.MustCompile(`\[([0-9]+)-([0-9]+)\]`).FindStringSubmatch(url)
	if spread == nil {
		return []string{url}
	}
	first, err := strconv.Atoi(spread[1])
	if err != nil {
		t.Fatal(err)
	}
	last, err := strconv.Atoi(spread[2])
	if err != nil {
		t.Fatal(err)
	}
	for n := first; n <= last; n++ {
		urls = append(urls, strings.Replace(url, spread[0], strconv.Itoa(n), 1))
	}
	return urls
}

// send sends the requests and returns the last one's status and all that curl would print of it, heads aside.
func (c command) send(t *testing.T) (status int, printed string) {
	t.Helper()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: c.trusted}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, url := range c.urls {
		request, err := http.NewRequestWithContext(ctx, c.method, url, strings.NewReader(strings.Join(c.body, "&")))
		if err != nil {
			t.Fatal(err)
		}
		request.Header = c.header
		request.Host = c.header.Get("Host")
		if name, password, ok := strings.Cut(c.user, ":"); ok {
			request.SetBasicAuth(name, password)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		status = response.StatusCode
		if status == http.StatusSwitchingProtocols {
			response.Body.Close() // what follows has no end
			return status, "101"
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if !c.discards {
			printed += string(body)
		}
		printed += strings.NewReplacer("%{http_code}", fmt.Sprint(status), "%{redirect_url}", response.Header.Get("Location")).Replace(c.write)
	}
	return status, printed
}

// try sends what one line of the tour says and compares the status with what its comment promises.
func (s *shell) try(t *testing.T, shows, line string) {
	s.tried++
	want := http.StatusOK
	if text, _, ok := strings.Cut(shows, ":"); ok && len(text) == 3 {
		want, _ = strconv.Atoi(text)
	}
	status, printed := s.parse(t, line).send(t)
	if status != want || printed == "" {
		t.Errorf("%s: want %d, have %d: %s", line, want, status, printed)
	}
}

// assign runs NAME=$(curl ... | FILTER).
func (s *shell) assign(t *testing.T, line string) {
	s.tried++
	name, rest, _ := strings.Cut(line, "=$(")
	request, filter, _ := strings.Cut(strings.TrimSuffix(rest, ")"), " | ")
	_, printed := s.parse(t, request).send(t)
	sed := exec.Command("sh", "-c", filter)
	sed.Stdin = bytes.NewBufferString(printed)
	value, err := sed.Output()
	if err != nil {
		t.Fatal(err)
	}
	if s.vars == nil {
		s.vars = map[string]string{}
	}
	s.vars[name] = strings.TrimSpace(string(value))
	if n := len(s.vars[name]); n < 40 || strings.ContainsAny(s.vars[name], "{}:") {
		t.Errorf("%s: took %q out of %q", line, s.vars[name], printed)
	}
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return content
}
