package main

import (
	"fmt"
	"strings"
)

func setupHAProxy(p place) ([]string, error) {
	if _, err := p.write("keys.map", apiKey+" "+client+"\n"); err != nil {
		return nil, err
	}
	var m strings.Builder
	for i := range p.features.routes {
		fmt.Fprintf(&m, "/s%d/v1/things%d/ app\n", i%100, i)
	}
	if _, err := p.write("routes.map", m.String()); err != nil {
		return nil, err
	}
	path, err := p.write("haproxy.cfg", haproxyConfig(p))
	return []string{p.program, "-db", "-f", path}, err
}

func haproxyConfig(p place) string {
	f := p.features
	var front, back strings.Builder
	switch {
	case f.keys:
		fmt.Fprintf(&front, "  http-request set-var(txn.client) req.hdr(x-api-key),map_str(%s)\n", p.file("keys.map"))
		front.WriteString("  http-request deny deny_status 401 unless { var(txn.client) -m found }\n  http-request del-header x-api-key\n")
	case f.jwt:
		front.WriteString(haproxyToken(p.credentials.public))
	}
	if f.keys || f.jwt {
		front.WriteString("  http-request set-header x-user-id %[var(txn.client)]\n")
	}
	if f.limit > 0 {
		front.WriteString("  stick-table type string len 32 size 1m expire 30s store http_req_rate(1s)\n  http-request track-sc0 var(txn.client)\n")
		fmt.Fprintf(&front, "  http-request deny deny_status 429 if { sc_http_req_rate(0) gt %d }\n", f.limit)
	}
	if f.strip {
		back.WriteString("  http-request replace-path /api(/.*) \\1\n")
	}
	log := ""
	if f.log {
		log = "  log stdout format raw local0\n  option httplog\n"
	}
	if f.routes > 0 {
		fmt.Fprintf(&front, "  use_backend %%[path,map_beg(%s,app)]\n", p.file("routes.map"))
	}
	listen := p.listen
	if f.tls {
		listen += " ssl crt " + p.credentials.both + " ssl-min-ver TLSv1.3"
	}
	return fmt.Sprintf(`
global
  nbthread %d
  maxconn 9000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 2s
  timeout tunnel 60s
  option forwardfor
  http-reuse always
frontend f
  bind %s
%s%s  default_backend app
backend app
%s  server a %s pool-max-conn 4096
`, p.cores, listen, log, front.String(), back.String(), p.upstream)
}

// haproxyToken checks what Sluice checks of a token: algorithm, signature, issuer, audience and end.
func haproxyToken(public string) string {
	return fmt.Sprintf(`  http-request set-var(txn.alg) http_auth_bearer,jwt_header_query('$.alg')
  http-request deny deny_status 401 unless { var(txn.alg) -m str RS256 }
  http-request deny deny_status 401 unless { http_auth_bearer,jwt_verify(txn.alg,"%s") -m int 1 }
  http-request deny deny_status 401 unless { http_auth_bearer,jwt_payload_query('$.iss') -m str %s }
  http-request deny deny_status 401 unless { http_auth_bearer,jwt_payload_query('$.aud') -m str %s }
  http-request set-var(txn.exp) http_auth_bearer,jwt_payload_query('$.exp','int')
  http-request set-var(txn.now) date
  http-request deny deny_status 401 if { var(txn.exp),sub(txn.now) -m int lt 0 }
  http-request set-var(txn.client) http_auth_bearer,jwt_payload_query('$.sub')
  http-request del-header authorization
`, public, tokenIssuer, tokenAudience)
}
