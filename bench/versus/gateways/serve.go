package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strconv"

	"github.com/valyala/fasthttp"
)

// smallBody is 70 bytes of JSON: the usual answer of a small service.
const smallBody = `{"id":42,"name":"Ada Lovelace","email":"ada@example.com","active":true}`

// serve is what the runner starts as processes of their own: the upstream of all gateways ("origin"), and the
// least that a proxy on fasthttp can do ("floor").
func serve(args []string) {
	flags := flag.NewFlagSet("serve", flag.ExitOnError)
	listen := flags.String("listen", "", "address")
	upstream := flags.String("upstream", "", "address that the floor forwards to; empty: be the origin")
	_ = flags.Parse(args)
	handler := origin
	if *upstream != "" {
		handler = floor(*upstream)
	}
	server := fasthttp.Server{Handler: handler, NoDefaultServerHeader: true, MaxRequestBodySize: 16 << 20}
	if err := server.ListenAndServe(*listen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// origin answers /bytes/N with so many bytes, and everything else with a small document.
func origin(ctx *fasthttp.RequestCtx) {
	if size, ok := bytes.CutPrefix(ctx.Path(), []byte("/bytes/")); ok {
		n, _ := strconv.Atoi(string(size))
		ctx.SetContentType("application/octet-stream")
		ctx.Response.SetBodyRaw(filler[:min(n, len(filler))])
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBodyString(smallBody)
}

var filler = bytes.Repeat([]byte("0123456789abcdef"), 1<<16)

func floor(upstream string) fasthttp.RequestHandler {
	client := fasthttp.HostClient{Addr: upstream, MaxConns: 4096, NoDefaultUserAgentHeader: true}
	return func(ctx *fasthttp.RequestCtx) {
		ctx.Request.Header.Del("Connection")
		if err := client.Do(&ctx.Request, &ctx.Response); err != nil {
			ctx.SetStatusCode(502)
			return
		}
		ctx.Response.Header.Del("Connection")
	}
}
