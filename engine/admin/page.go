package admin

import (
	"embed"
	"net/http"
	"path"
	"strings"
)

//go:embed page/*.html page/*.css page/*.js page/*.svg page/uplot/*
var pageFiles embed.FS

// pagePolicy lets the page run its own scripts and styles and talk to its own server, and nothing else. Nobody may
// frame it, for it has buttons; and text never becomes markup, whatever its scripts do.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// pageFile is the file of the status page that a path stands for.
func pageFile(p string) (name string, ok bool) {
	if p == "/" {
		return "page/index.html", true
	}
	name, ok = strings.CutPrefix(p, "/page/")
	if !ok || name != path.Clean(name) {
		return "", false
	}
	name = "page/" + name
	file, err := pageFiles.Open(name)
	if err != nil {
		return "", false
	}
	defer file.Close()
	info, err := file.Stat()
	return name, err == nil && !info.IsDir()
}

// page serves a file of the status page. There is no data in it, so it needs no token, and asks for it.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	name, _ := pageFile(r.URL.Path)
	content, err := pageFiles.ReadFile(name)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	header := w.Header()
	header.Set("Content-Type", contentType(name))
	header.Set("Content-Security-Policy", pagePolicy)
	header.Set("Referrer-Policy", "no-referrer")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	_, _ = w.Write(content)
}

// contentType is of our own making: the tables of the machine may say something else.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".svg":
		return "image/svg+xml"
	}
	return "text/plain; charset=utf-8"
}
