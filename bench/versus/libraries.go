package versus

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/fasthttp/router/radix"
	"github.com/julienschmidt/httprouter"
	"github.com/sluice-gateway/sluice/router"
	"github.com/valyala/fasthttp"
)

// lookup finds the route of a request and its captures, and reports whether there is one. It is not
// safe for concurrent use.
type lookup func(*request) bool

// library is a router under test.
type library struct {
	name string
	most int // routes that it can be loaded with in reasonable time; 0: no limit
	load func([]route) (lookup, error)
}

// libraries are all libraries, ours first.
func libraries() []library {
	return []library{
		{name: "sluice", load: loadSluice},
		{name: "httprouter", load: loadHTTPRouter},
		{name: "fasthttprouter", load: loadFasthttpRouter, most: 10_000}, // sorts the whole tree for every route added
		{name: "servemux", load: loadServeMux},
	}
}

// holds reports whether the library can be timed with a set.
func (l library) holds(s set) bool { return l.most == 0 || len(s.routes) <= l.most }

func loadSluice(routes []route) (lookup, error) {
	compiled := make([]router.Route, len(routes))
	for i, r := range routes {
		compiled[i] = router.Route{Name: r.method + " " + r.pattern, Methods: []string{r.method}, Path: r.pattern}
	}
	table, err := router.Compile(compiled)
	if err != nil {
		return nil, err
	}
	host := []byte("api.example.com")
	captures := new(router.Captures)
	return func(r *request) bool {
		_, outcome := table.Match(r.methodBytes, host, r.pathBytes, captures)
		return outcome == router.Found
	}, nil
}

func loadHTTPRouter(routes []route) (lookup, error) {
	table := httprouter.New()
	for _, r := range routes {
		pattern := strings.NewReplacer("{", ":", "}", "").Replace(r.pattern)
		table.Handle(r.method, pattern, func(http.ResponseWriter, *http.Request, httprouter.Params) {})
	}
	return func(r *request) bool {
		handle, _, _ := table.Lookup(r.method, r.path)
		return handle != nil
	}, nil
}

// loadFasthttpRouter loads the radix trees of fasthttp/router, one for each method, as its Router does.
func loadFasthttpRouter(routes []route) (lookup, error) {
	trees := map[string]*radix.Tree{}
	for _, r := range routes {
		if trees[r.method] == nil {
			trees[r.method] = radix.New()
		}
		trees[r.method].Add(r.pattern, func(*fasthttp.RequestCtx) {})
	}
	ctx := new(fasthttp.RequestCtx)
	return func(r *request) bool {
		tree := trees[r.method]
		if tree == nil {
			return false
		}
		ctx.ResetUserValues()
		handler, _ := tree.Get(r.path, ctx)
		return handler != nil
	}, nil
}

func loadServeMux(routes []route) (l lookup, err error) {
	mux := http.NewServeMux()
	defer func() {
		if fault := recover(); fault != nil {
			err = fmt.Errorf("cannot load net/http ServeMux: %v", fault)
		}
	}()
	for _, r := range routes {
		mux.HandleFunc(r.method+" "+r.pattern, func(http.ResponseWriter, *http.Request) {})
	}
	req := &http.Request{Host: "api.example.com", URL: new(url.URL)}
	return func(r *request) bool {
		req.Method, req.URL.Path = r.method, r.path
		_, pattern := mux.Handler(req)
		return pattern != ""
	}, nil
}
