package keystore

import "github.com/redis/rueidis"

// Options reads a Redis URL into the options of a client: see the README for its forms. It serves others
// that keep what they know beside the keys.
func Options(url string) (rueidis.ClientOption, error) { return parseURL(url) }
