package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

func setupSluice(p place) ([]string, error) {
	path, err := p.write("gateway.toml", sluiceConfig(p))
	if err == nil && p.features.keys {
		err = importKey(p, path)
	}
	return []string{p.program, "run", "--config", path}, err
}

func sluiceConfig(p place) string {
	f := p.features
	var b strings.Builder
	access := "off"
	if f.log {
		access = p.file("access.log")
	}
	if f.traces {
		fmt.Fprintf(&b, "[tracing]\notlp_endpoint = \"http://%s\"\nsample = 0.01\n", p.upstream)
	}
	if f.tls {
		fmt.Fprintf(&b, "[server]\nlisten = [%q]\n[server.tls]\nlisten = [%q]\ncertificates = [{ cert = %q, key = %q }]\nmin_version = \"1.3\"\n",
			p.spare, p.listen, p.credentials.certificate, p.credentials.key)
	} else {
		fmt.Fprintf(&b, "[server]\nlisten = [%q]\n", p.listen)
	}
	fmt.Fprintf(&b, "[admin]\nlisten = %q\n[log]\naccess = %q\n[upstream.app]\ntargets = [\"http://%s\"]\n%s", p.admin, access, p.upstream, laneLines(f))
	authWith, limits := `["none"]`, "[]"
	switch {
	case f.keys:
		authWith = `["keys"]`
		fmt.Fprintf(&b, "[auth.keys]\nfile = %q\n", p.file("keys.toml"))
	case f.jwt:
		authWith = `["jwt:bench"]`
		fmt.Fprintf(&b, "[auth.jwt.bench]\nissuer = %q\naudiences = [%q]\njwks = %q\n", tokenIssuer, tokenAudience, p.credentials.jwks)
	}
	if f.limit > 0 {
		limits = `["per-client"]`
		b.WriteString(limitLines(f))
	}
	for i := range f.routes {
		auth, limit := `["none"]`, "[]"
		if f.clients {
			auth, limit = authWith, limits
		}
		fmt.Fprintf(&b, "[[route]]\nname = \"r%d\"\npath = \"/s%d/v1/things%d/{id}\"\nauth = %s\nlimits = %s\nto = \"app\"\n", i, i%100, i, auth, limit)
	}
	fmt.Fprintf(&b, "[[route]]\nname = \"api\"\npath = \"/api/*\"\nstrip_prefix = %v\nauth = %s\nlimits = %s\nto = \"app\"\n", f.strip, authWith, limits)
	b.WriteString("[[route]]\nname = \"all\"\npath = \"/*\"\nauth = [\"none\"]\nto = \"app\"\nstrip_prefix = false\n")
	return b.String()
}

func limitLines(f features) string {
	if f.clients { // what is taken does not come back within the run, so every bucket that was used stays in the table
		return fmt.Sprintf("[limits]\ncapacity = %d\n[[limit]]\nname = \"per-client\"\nkey = [\"header:X-Client\"]\nrate = \"1000/d\"\nburst = 100000000\n", 2*allClients)
	}
	return fmt.Sprintf("[[limit]]\nname = \"per-client\"\nkey = [\"client\"]\nrate = \"%d/s\"\n", f.limit)
}

// laneLines go into [upstream.app].
func laneLines(f features) string {
	if f.lanes == 0 {
		return ""
	}
	return fmt.Sprintf("pipeline = %d\n", f.lanes)
}

// importKey puts the key that the load presents into Sluice's key file.
func importKey(p place, config string) error {
	c := exec.Command(p.program, "keys", "import", "--client", client, "--config", config)
	c.Stdin = strings.NewReader(apiKey + "\n")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("cannot import a key: %w\n%s", err, out)
	}
	return nil
}

// refuses tells why a binary of Sluice does not take lines of [upstream]; "" if it does.
func refuses(program, folder, lines string) (string, error) {
	p := place{folder: folder}
	path, err := p.write("probe.toml", "[upstream.app]\ntargets = [\"http://127.0.0.1:1\"]\n"+lines+
		"[[route]]\nname = \"all\"\npath = \"/*\"\nauth = [\"none\"]\nto = \"app\"\n")
	if err != nil {
		return "", err
	}
	out, err := exec.Command(program, "check", "--config", path).CombinedOutput()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return strings.TrimPrefix(first, path+":"), nil // line, column and fault
	}
	return "", err
}
