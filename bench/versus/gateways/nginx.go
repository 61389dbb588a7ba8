package main

import (
	"fmt"
	"strings"
)

// lacksOfNginx is what Debian's nginx has no module for.
func lacksOfNginx(_ string, f features) string {
	if f.jwt {
		return "auth_jwt is not in the open-source version"
	}
	return ""
}

func setupNginx(p place) ([]string, error) {
	path, err := p.write("nginx.conf", nginxConfig(p))
	return []string{p.program, "-e", p.file("error.log"), "-c", path}, err
}

func nginxConfig(p place) string {
	f := p.features
	// A location that sets one header for the upstream inherits none.
	kept := "proxy_set_header Connection \"\";\n  proxy_set_header Host $host;\n  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n"
	if f.upgrade {
		kept += "  proxy_set_header Upgrade $http_upgrade;\n"
		kept = strings.Replace(kept, `Connection ""`, "Connection upgrade", 1)
	}
	var http, location strings.Builder
	if f.keys {
		fmt.Fprintf(&http, "map $http_x_api_key $client { default \"\"; %q %s; }\n", apiKey, client)
		location.WriteString("if ($client = \"\") { return 401; }\n" + kept + "proxy_set_header X-API-Key \"\";\nproxy_set_header X-User-ID $client;\n")
	}
	if f.limit > 0 {
		fmt.Fprintf(&http, "limit_req_zone $client zone=per:10m rate=%dr/s;\nlimit_req_status 429;\n", f.limit)
		fmt.Fprintf(&location, "limit_req zone=per burst=%d nodelay;\n", max(f.limit/100, 1))
	}
	access := "access_log off;"
	if f.log {
		access = fmt.Sprintf("access_log %s combined buffer=64k flush=1s;", p.file("access.log"))
	}
	listen := fmt.Sprintf("listen %s backlog=4096;", p.listen)
	if f.tls {
		listen = fmt.Sprintf("listen %s ssl backlog=4096; ssl_certificate %s; ssl_certificate_key %s; ssl_protocols TLSv1.3; ssl_session_cache shared:s:10m;",
			p.listen, p.credentials.certificate, p.credentials.key)
	}
	var routes strings.Builder
	for i := range f.routes {
		fmt.Fprintf(&routes, "location /s%d/v1/things%d/ { proxy_pass http://app; }\n", i%100, i)
	}
	to := "http://app"
	if f.strip {
		to = "http://app/"
	}
	return fmt.Sprintf(`
worker_processes %[10]d; daemon off; pid %[1]s/nginx.pid; error_log %[1]s/error.log crit; worker_rlimit_nofile 20000;
events { worker_connections 16384; }
http {
  %[2]s keepalive_requests 1000000000; keepalive_timeout 300s; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p;
  fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; variables_hash_max_size 4096;
  limit_req_log_level info;
  upstream app { server %[3]s; keepalive 1024; keepalive_requests 1000000000; }
  proxy_http_version 1.1; %[9]s
  %[4]s
  server { %[5]s %[6]s
    location /api/ { %[7]s proxy_pass %[8]s; }
    location / { proxy_pass http://app; } }
}`, p.folder, access, p.upstream, http.String(), listen, routes.String(), location.String(), to, kept, p.cores)
}
