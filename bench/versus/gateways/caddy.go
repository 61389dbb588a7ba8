package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

// lacksOfCaddy is what this build of Caddy has no module for. Without one for limits it still takes part where no
// limit is met, with less to do than the others.
func lacksOfCaddy(program string, f features) string {
	switch {
	case f.jwt:
		return "it has no module for tokens"
	case f.limit == 1 && !caddyLimits(program):
		return "this build has no module for limits"
	}
	return ""
}

// caddyLimits tells whether the program was built with the module for limits.
func caddyLimits(program string) bool {
	out, err := exec.Command(program, "list-modules").Output()
	return err == nil && bytes.Contains(out, []byte("http.handlers.rate_limit"))
}

func setupCaddy(p place) ([]string, error) {
	path, err := p.write("Caddyfile", caddyConfig(p, caddyLimits(p.program)))
	return []string{p.program, "run", "--config", path, "--adapter", "caddyfile"}, err
}

func caddyConfig(p place, limits bool) string {
	f := p.features
	var site, api strings.Builder
	if f.log {
		fmt.Fprintf(&site, "  log {\n    output file %s\n  }\n", p.file("access.log"))
	}
	if f.tls {
		fmt.Fprintf(&site, "  tls %s %s {\n    protocols tls1.3\n  }\n", p.credentials.certificate, p.credentials.key)
	}
	const kept = "transport http {\n        keepalive_idle_conns_per_host 1024\n      }\n"
	proxy := "reverse_proxy " + p.upstream + " {\n      " + kept
	if f.keys {
		fmt.Fprintf(&site, "  map {header.X-API-Key} {client} {\n    %q %s\n    default \"\"\n  }\n", apiKey, client)
		api.WriteString("    @unknown vars {client} \"\"\n    respond @unknown 401\n")
		proxy += "      header_up -X-API-Key\n      header_up X-User-ID {client}\n"
	}
	if f.limit > 0 && limits {
		fmt.Fprintf(&api, "    rate_limit {\n      zone per {\n        key {client}\n        events %d\n        window 1s\n      }\n    }\n", f.limit)
	}
	if f.strip {
		api.WriteString("    uri strip_prefix /api\n")
	}
	scheme, metrics := "http", ""
	if f.tls {
		scheme = "https"
	}
	if f.metrics {
		metrics = "  metrics\n"
	}
	return fmt.Sprintf(`{
  admin off
  auto_https off
  storage file_system %s
  log {
    level ERROR
  }
%s}
%s://%s {
%s  route /api/* {
%s    %s    }
  }
  reverse_proxy %s {
      %s  }
}
`, p.file("storage"), metrics, scheme, p.listen, site.String(), api.String(), proxy, p.upstream, kept)
}
