package keystore

import (
	"crypto/tls"
	"errors"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"
)

// The messages do not repeat the URL, which may hold a password.
var (
	errURL      = errors.New("want a URL such as redis://USER:PASSWORD@HOST:PORT/0, with redis, rediss, redis-sentinel or redis-cluster")
	errHosts    = errors.New("every host is HOST or HOST:PORT, separated by commas")
	errHost     = errors.New("redis:// and rediss:// have one host; several need redis-sentinel:// or redis-cluster://")
	errDatabase = errors.New("the database is a number from 0, as in redis://HOST:PORT/0")
	errMaster   = errors.New("redis-sentinel:// names the master behind the hosts, as in redis-sentinel://HOST:PORT,HOST:PORT/mymaster/0")
	errCluster  = errors.New("redis-cluster:// has no database")
	errOption   = errors.New("the only options are addr, tls, sentinel_user and sentinel_password, the last two for redis-sentinel://")
)

// parseURL reads the four forms of the address of a Redis:
//
//	redis://[USER:PASSWORD@]HOST[:6379][/DB]
//	rediss://...                                                     the same over TLS
//	redis-sentinel://[USER:PASSWORD@]HOST[:26379][,HOST...]/MASTER[/DB]   USER is the data nodes' user
//	redis-cluster://[USER:PASSWORD@]HOST[:6379][,HOST...]
//
// More hosts may also stand in ?addr=HOST:PORT, as often as needed; ?tls=true is TLS for the latter two;
// ?sentinel_user= and ?sentinel_password= are for the sentinels themselves.
func parseURL(text string) (rueidis.ClientOption, error) {
	var option rueidis.ClientOption
	text, more := firstHost(text)
	u, err := url.Parse(text)
	if err != nil || u.Opaque != "" || u.Host == "" || u.Fragment != "" {
		return option, errURL
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return option, errOption
	}
	port := "6379"
	if u.Scheme == "redis-sentinel" {
		port = "26379"
	}
	for _, host := range slices.Concat([]string{u.Host}, more, query["addr"]) {
		address, ok := address(host, port)
		if !ok {
			return option, errHosts
		}
		option.InitAddress = append(option.InitAddress, address)
	}
	if u.User != nil {
		option.Username = u.User.Username()
		option.Password, _ = u.User.Password()
	}
	if err := setTLS(&option, u, query); err != nil {
		return option, err
	}
	return option, setMode(&option, u, query)
}

// firstHost takes all hosts but the first out of a URL, as net/url has no notion of several.
func firstHost(text string) (one string, more []string) {
	scheme, rest, _ := strings.Cut(text, "://")
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	begin := strings.LastIndexByte(rest[:end], '@') + 1
	hosts := strings.Split(rest[begin:end], ",")
	if len(hosts) == 1 {
		return text, nil
	}
	return scheme + "://" + rest[:begin] + hosts[0] + rest[end:], hosts[1:]
}

// address gives HOST:PORT.
func address(text, port string) (string, bool) {
	u, err := url.Parse("redis://" + text)
	if err != nil || u.Host != text || u.Hostname() == "" {
		return "", false
	}
	if u.Port() != "" {
		port = u.Port()
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return net.JoinHostPort(u.Hostname(), port), err == nil && n > 0
}

// setTLS verifies a server by the name it is dialled by, which the connection fills in.
func setTLS(option *rueidis.ClientOption, u *url.URL, query url.Values) error {
	secure := u.Scheme == "rediss"
	for name, values := range query {
		sentinel := u.Scheme == "redis-sentinel" && (name == "sentinel_user" || name == "sentinel_password")
		switch {
		case name == "addr":
		case sentinel && len(values) == 1:
		case name == "tls" && len(values) == 1 && (values[0] == "true" || values[0] == "false"):
			secure = secure || values[0] == "true"
		default:
			return errOption
		}
	}
	if secure {
		option.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	return nil
}

func setMode(option *rueidis.ClientOption, u *url.URL, query url.Values) error {
	path := strings.TrimPrefix(strings.TrimSuffix(u.Path, "/"), "/")
	switch u.Scheme {
	case "redis", "rediss":
		option.ForceSingleClient = true
		if len(option.InitAddress) > 1 {
			return errHost
		}
		return setDatabase(option, path)
	case "redis-sentinel":
		master, database, _ := strings.Cut(path, "/")
		if master == "" {
			return errMaster
		}
		option.Sentinel = rueidis.SentinelOption{
			MasterSet: master,
			Username:  query.Get("sentinel_user"),
			Password:  query.Get("sentinel_password"),
			TLSConfig: option.TLSConfig,
		}
		return setDatabase(option, database)
	case "redis-cluster":
		if path != "" {
			return errCluster
		}
		option.ShuffleInit = true // so that not every gateway asks the first node
		return nil
	}
	return errURL
}

func setDatabase(option *rueidis.ClientOption, text string) error {
	if text == "" {
		return nil
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return errDatabase
	}
	option.SelectDB = int(n)
	return nil
}
