package main

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net/http"
	"os"
	"strconv"

	"github.com/coder/websocket"
	"github.com/valyala/fasthttp"
)

// smallBody is 70 bytes of JSON: the usual answer of a small service.
const smallBody = `{"id":42,"name":"Ada Lovelace","email":"ada@example.com","active":true}`

// serve is what the runner starts as processes of their own: the upstream of all gateways ("origin"), the least that a
// proxy on fasthttp can do ("floor"), and an upstream that sends WebSocket messages back ("echo").
func serve(args []string) error {
	flags := flag.NewFlagSet("serve", flag.ContinueOnError)
	listen := flags.String("listen", "", "address")
	upstream := flags.String("upstream", "", "address that the floor forwards to; empty: be the origin")
	echoes := flags.Bool("echo", false, "be the echo")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *echoes {
		return http.ListenAndServe(*listen, http.HandlerFunc(echo))
	}
	handler := origin(bytes.Repeat([]byte("0123456789abcdef"), 1<<16))
	if *upstream != "" {
		handler = floor(*upstream)
	}
	server := fasthttp.Server{Handler: handler, NoDefaultServerHeader: true, MaxRequestBodySize: 16 << 20}
	return server.ListenAndServe(*listen)
}

// origin answers /bytes/N with so many bytes, /heads with the head that it got, and everything else with a small
// document.
func origin(filler []byte) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		if size, ok := bytes.CutPrefix(ctx.Path(), []byte("/bytes/")); ok {
			n, _ := strconv.Atoi(string(size))
			ctx.SetContentType("application/octet-stream")
			ctx.Response.SetBodyRaw(filler[:min(max(n, 0), len(filler))])
			return
		}
		if bytes.HasSuffix(ctx.Path(), []byte("/heads")) {
			_, _ = fmt.Fprintf(ctx, "%s %s\n%s", ctx.Method(), ctx.RequestURI(), ctx.Request.Header.RawHeaders())
			return
		}
		ctx.SetContentType("application/json")
		ctx.SetBodyString(smallBody)
	}
}

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

func echo(w http.ResponseWriter, r *http.Request) {
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{InsecureSkipVerify: true, CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		return
	}
	defer func() { _ = c.CloseNow() }()
	for {
		kind, message, err := c.Read(context.Background())
		if err != nil {
			return
		}
		if err := c.Write(context.Background(), kind, message); err != nil {
			return
		}
	}
}

// fail ends a process that was started by this one.
func fail(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "gateways:", err)
		os.Exit(1)
	}
}
