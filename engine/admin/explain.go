package admin

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"

	"github.com/sluice-gateway/sluice/engine"
)

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	question, err := explainRequest(r)
	if err != nil {
		badRequest(err).write(w)
		return
	}
	answer, err := s.gateway.Explain(question)
	if err != nil {
		badRequest(err).write(w)
		return
	}
	writeJSON(w, http.StatusOK, answer)
}

// explainRequest reads what is asked about. Who does not say where it comes from asks for itself.
func explainRequest(r *http.Request) (engine.ExplainRequest, error) {
	var question engine.ExplainRequest
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return question, fmt.Errorf("cannot read the query: %w", err)
	}
	question.Header = query["header"]
	for name, values := range query {
		if name != "header" && len(values) > 1 {
			return question, fmt.Errorf("%s is there %d times", name, len(values))
		}
		switch name {
		case "method":
			question.Method = values[0]
		case "url":
			question.URL = values[0]
		case "client":
			question.Client, err = netip.ParseAddr(values[0])
		case "body_size":
			var size uint64
			size, err = strconv.ParseUint(values[0], 10, 63)
			question.BodySize = int64(size)
		case "header":
		default:
			return question, fmt.Errorf("there is no parameter %q: want method, url, header, client and body_size", name)
		}
		if err != nil {
			return question, fmt.Errorf("cannot read %s: %w", name, err)
		}
	}
	if !query.Has("client") {
		question.Client = peer(r)
	}
	return question, nil
}

// peer is the address of who asks; the zero value on a unix socket.
func peer(r *http.Request) netip.Addr {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return a.Unmap()
}
