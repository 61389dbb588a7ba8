package main

import (
	"fmt"
	"strings"
)

// lacksOfTraefik is what Traefik has no middleware for.
func lacksOfTraefik(_ string, f features) string {
	if f.jwt {
		return "tokens are checked by its commercial version only"
	}
	return ""
}

func setupTraefik(p place) ([]string, error) {
	if _, err := p.write("dynamic.yml", traefikRoutes(p)); err != nil {
		return nil, err
	}
	path, err := p.write("traefik.yml", traefikConfig(p))
	return []string{p.program, "--configfile=" + path}, err
}

func traefikConfig(p place) string {
	var b strings.Builder
	fmt.Fprintf(&b, `global:
  checkNewVersion: false
  sendAnonymousUsage: false
log:
  level: FATAL
entryPoints:
  web:
    address: %q
    transport:
      keepAliveMaxRequests: 0
  told:
    address: %q
serversTransport:
  maxIdleConnsPerHost: 1024
providers:
  file:
    filename: %q
    watch: false
`, p.listen, p.admin, p.file("dynamic.yml"))
	if p.features.log {
		fmt.Fprintf(&b, "accessLog:\n  filePath: %q\n  bufferingSize: 1000\n", p.file("access.log"))
	}
	if p.features.metrics {
		b.WriteString("metrics:\n  prometheus:\n    entryPoint: told\n")
	}
	return b.String()
}

// traefikRoutes knows keys by its rules, as its free version has no check of keys: who shows none, finds no route.
func traefikRoutes(p place) string {
	f := p.features
	rule, tls := "PathPrefix(`/api/`)", ""
	var names []string
	var b strings.Builder
	if f.limit > 0 {
		names = append(names, "limit")
		fmt.Fprintf(&b, "    limit:\n      rateLimit:\n        average: %d\n        burst: %d\n        sourceCriterion:\n          requestHeaderName: X-API-Key\n", f.limit, max(f.limit/100, 1))
	}
	if f.keys {
		names = append(names, "identity")
		rule += " && Header(`X-API-Key`, `" + apiKey + "`)"
		fmt.Fprintf(&b, "    identity:\n      headers:\n        customRequestHeaders:\n          X-User-ID: %q\n          X-API-Key: \"\"\n", client)
	}
	if f.strip {
		names = append(names, "strip")
		b.WriteString("    strip:\n      stripPrefix:\n        prefixes: [\"/api\"]\n")
	}
	middlewares, used := "", ""
	if len(names) > 0 {
		middlewares, used = "  middlewares:\n"+b.String(), fmt.Sprintf("      middlewares: [%s]\n", strings.Join(names, ", "))
	}
	if f.tls {
		tls = "      tls: {}\n"
	}
	text := fmt.Sprintf("http:\n  routers:\n    api:\n      rule: %q\n      service: app\n%s%s%s  services:\n    app:\n      loadBalancer:\n        servers:\n          - url: \"http://%s\"\n",
		rule, used, tls, middlewares, p.upstream)
	if !f.keys { // what is not below /api
		text = strings.Replace(text, "  routers:\n", "  routers:\n    all:\n      rule: \"PathPrefix(`/`)\"\n      service: app\n"+tls, 1)
	}
	if f.tls {
		text += fmt.Sprintf("tls:\n  options:\n    default:\n      minVersion: VersionTLS13\n  stores:\n    default:\n      defaultCertificate:\n        certFile: %q\n        keyFile: %q\n", p.credentials.certificate, p.credentials.key)
	}
	return text
}
