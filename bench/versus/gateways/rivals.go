package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// rival is a gateway that can be set up for scenarios.
type rival struct {
	name    string
	program string // that must be installed; empty: it is our own
	does    func(features) bool
	// setup writes a configuration into a folder and gives the command that starts the gateway on it.
	setup func(place) ([]string, error)
}

func (r rival) label() string { return r.name }

// place is where a gateway is set up.
type place struct {
	folder, listen, upstream string
	admin                    string // a second address, for those that need one
	self, sluice             string // our own binaries
	features                 features
}

func (p place) write(name, text string) (string, error) {
	path := filepath.Join(p.folder, name)
	return path, os.WriteFile(path, []byte(text), 0o600)
}

func anything(features) bool { return true }

func allRivals() []rival {
	forwards := func(f features) bool { return f == features{} }
	return []rival{
		{"sluice", "", anything, setupSluice},
		{"nginx", "nginx", anything, setupNginx},
		{"haproxy", "haproxy", anything, setupHAProxy},
		{"fasthttp", "", forwards, func(p place) ([]string, error) {
			return []string{p.self, "serve", "-listen", p.listen, "-upstream", p.upstream}, nil
		}},
	}
}

func (r rival) installed() bool {
	if r.program == "" {
		return true
	}
	_, err := exec.LookPath(r.program)
	return err == nil
}

func setupSluice(p place) ([]string, error) {
	f := p.features
	var b strings.Builder
	access := "off"
	if f.log {
		access = filepath.Join(p.folder, "access.log")
	}
	if f.traces {
		fmt.Fprintf(&b, "[tracing]\notlp_endpoint = \"http://%s\"\nsample = 0.01\n", p.upstream)
	}
	fmt.Fprintf(&b, "[server]\nlisten = [%q]\n[admin]\nlisten = %q\n[log]\naccess = %q\n[upstream.app]\ntargets = [\"http://%s\"]\n", p.listen, p.admin, access, p.upstream)
	authWith, limits := `["none"]`, "[]"
	if f.keys {
		authWith = `["keys"]`
		fmt.Fprintf(&b, "[auth.keys]\nfile = %q\n", filepath.Join(p.folder, "keys.toml"))
	}
	if f.limit > 0 {
		limits = `["per-client"]`
		fmt.Fprintf(&b, "[[limit]]\nname = \"per-client\"\nkey = [\"client\"]\nrate = \"%d/s\"\n", f.limit)
	}
	for i := range f.routes {
		fmt.Fprintf(&b, "[[route]]\nname = \"r%d\"\npath = \"/s%d/v1/things%d/{id}\"\nauth = [\"none\"]\nto = \"app\"\n", i, i%100, i)
	}
	strip := "/api/*"
	fmt.Fprintf(&b, "[[route]]\nname = \"api\"\npath = %q\nstrip_prefix = %v\nauth = %s\nlimits = %s\nto = \"app\"\n", strip, f.strip, authWith, limits)
	fmt.Fprintf(&b, "[[route]]\nname = \"all\"\npath = \"/*\"\nauth = [\"none\"]\nto = \"app\"\nstrip_prefix = false\n")
	path, err := p.write("gateway.toml", b.String())
	if err == nil && f.keys {
		err = importKey(p, path)
	}
	return []string{p.sluice, "run", "--config", path}, err
}

// importKey puts the key that the load presents into Sluice's key file.
func importKey(p place, config string) error {
	c := exec.Command(p.sluice, "keys", "import", "--client", "bench", "--config", config)
	c.Stdin = strings.NewReader(apiKey + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot import a key: %w\n%s", err, out)
	}
	return nil
}

func setupNginx(p place) ([]string, error) {
	f := p.features
	// A location that sets one header for the upstream inherits none.
	const kept = "proxy_set_header Connection \"\";\nproxy_set_header Host $host;\nproxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
	var http, location strings.Builder
	if f.keys {
		fmt.Fprintf(&http, "map $http_x_api_key $client { default \"\"; %q bench; }\n", apiKey)
		location.WriteString("if ($client = \"\") { return 401; }\n" + kept + "proxy_set_header X-API-Key \"\";\nproxy_set_header X-User-ID $client;\n")
	}
	if f.limit > 0 {
		fmt.Fprintf(&http, "limit_req_zone $client zone=per:10m rate=%dr/s;\nlimit_req_status 429;\n", f.limit)
		fmt.Fprintf(&location, "limit_req zone=per burst=%d nodelay;\n", max(f.limit/100, 1))
	}
	access := "access_log off;"
	if f.log {
		access = fmt.Sprintf("access_log %s combined buffer=64k flush=1s;", filepath.Join(p.folder, "access.log"))
	}
	var routes strings.Builder
	for i := range f.routes {
		fmt.Fprintf(&routes, "location /s%d/v1/things%d/ { proxy_pass http://app; }\n", i%100, i)
	}
	to := "http://app"
	if f.strip {
		to = "http://app/"
	}
	path, err := p.write("nginx.conf", fmt.Sprintf(`
worker_processes 1; daemon off; pid %[1]s/nginx.pid; error_log %[1]s/error.log crit; worker_rlimit_nofile 65536;
events { worker_connections 16384; }
http {
  %[2]s keepalive_requests 1000000000; keepalive_timeout 300s; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; variables_hash_max_size 4096;
  limit_req_log_level info;
  upstream app { server %[3]s; keepalive 1024; keepalive_requests 1000000000; }
  proxy_http_version 1.1; %[9]s
  %[4]s
  server { listen %[5]s backlog=4096; %[6]s
    location /api/ { %[7]s proxy_pass %[8]s; }
    location / { proxy_pass http://app; } }
}`, p.folder, access, p.upstream, http.String(), p.listen, routes.String(), location.String(), to, kept))
	return []string{"nginx", "-e", filepath.Join(p.folder, "error.log"), "-c", path}, err
}

func setupHAProxy(p place) ([]string, error) {
	f := p.features
	var front, back strings.Builder
	if f.keys {
		if _, err := p.write("keys.map", apiKey+" bench\n"); err != nil {
			return nil, err
		}
		fmt.Fprintf(&front, "  http-request set-var(txn.client) req.hdr(x-api-key),map_str(%s)\n", filepath.Join(p.folder, "keys.map"))
		front.WriteString("  http-request deny deny_status 401 unless { var(txn.client) -m found }\n")
		front.WriteString("  http-request del-header x-api-key\n  http-request set-header x-user-id %[var(txn.client)]\n")
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
		var m strings.Builder
		for i := range f.routes {
			fmt.Fprintf(&m, "/s%d/v1/things%d/ app\n", i%100, i)
		}
		if _, err := p.write("routes.map", m.String()); err != nil {
			return nil, err
		}
		fmt.Fprintf(&front, "  use_backend %%[path,map_beg(%s,app)]\n", filepath.Join(p.folder, "routes.map"))
	}
	path, err := p.write("haproxy.cfg", fmt.Sprintf(`
global
  nbthread 1
  maxconn 8000
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 2s
  option forwardfor
  http-reuse always
frontend f
  bind %s
%s%s  default_backend app
backend app
%s  server a %s pool-max-conn 4096
`, p.listen, log, front.String(), back.String(), p.upstream))
	return []string{"haproxy", "-db", "-f", path}, err
}
