package config

import "time"

// Defaults is [defaults]: what a route gets when it does not say otherwise.
type Defaults struct {
	Auth   []string `toml:"auth" enum:"none|keys|jwt:|introspection:" doc:"empty: every route must say its own"`
	Limits []string `toml:"limits" doc:"names of rate limits"`
}

// Route is one [[route]]: which requests it takes, who may send them and where they go.
//
// After Load, Auth, Limits and MaxBodyBytes hold what applies: the route's own, or else what
// [defaults] and [server] say.
type Route struct {
	Name            string        `toml:"name" kind:"name" required:"true" doc:"unique; the label in logs, metrics and traces"`
	Hosts           []string      `toml:"hosts" doc:"api.example.com or *.example.com; empty: any"`
	Methods         []string      `toml:"methods" kind:"method" doc:"empty: any; a path that matches with another method gets 405 and Allow"`
	Path            string        `toml:"path" kind:"route-path" required:"true" doc:"/a/b: exactly; /a/{id}/b: any one segment; /a/*: the rest"`
	StripPrefix     bool          `toml:"strip_prefix" doc:"forward only what * stands for, and add X-Forwarded-Prefix"`
	Rewrite         string        `toml:"rewrite" kind:"route-path" doc:"the path to forward instead, such as /v2/{id}; empty: the path as it came"`
	Auth            []string      `toml:"auth" enum:"none|keys|jwt:|introspection:" doc:"any one of them lets a client in; [\"none\"], alone: public"`
	Scopes          []string      `toml:"scopes" doc:"all are needed, else 403"`
	Limits          []string      `toml:"limits" doc:"names of rate limits; all must admit a request"`
	To              string        `toml:"to" required:"true" doc:"name of an upstream, split or switch"`
	Timeout         time.Duration `toml:"timeout" min:"1ms" doc:"for the whole exchange, streams excepted; 504"`
	MaxBodyBytes    Size          `toml:"max_body_bytes" doc:"largest request body; else 413; \"0\": no limit; absent: what [server] says"`
	RequestHeaders  HeaderEdit    `toml:"request_headers" doc:"changes to what the upstream gets"`
	ResponseHeaders HeaderEdit    `toml:"response_headers" doc:"changes to what the client gets"`
	CORS            *CORS         `toml:"cors" doc:"present: answers to browsers of other origins"`
	Compress        bool          `toml:"compress" doc:"compress responses for clients that accept it"`
}

// HeaderEdit is a change to the headers of a message: Remove first, then Set.
type HeaderEdit struct {
	Set    map[string]string `toml:"set" kind:"own-header" doc:"headers and the value each gets in place of any it had"`
	Remove []string          `toml:"remove" kind:"own-header" doc:"headers to drop"`
}

// CORS is a route's cors table: what browsers of other origins may do.
type CORS struct {
	Origins     []string      `toml:"origins" kind:"origin" doc:"https://app.example.com; \"*\": any, without credentials"`
	Methods     []string      `toml:"methods" kind:"method" doc:"methods allowed; empty: the route's"`
	Headers     []string      `toml:"headers" kind:"header" doc:"request headers allowed"`
	Credentials bool          `toml:"credentials" doc:"cookies and Authorization may be sent"`
	MaxAge      time.Duration `toml:"max_age" doc:"how long a browser may remember the answer"`
}
