// Package central decides on rate limits in Redis, so that all gateways that share one enforce the same
// limit, exactly: what it refuses and admits is what package limiter would, had it seen the requests of all.
//
// A decision is one run of a script, which reads, decides and writes by the server's clock while nobody else
// does. It takes from the buckets of several rules or from none. In a Redis Cluster, where keys of different
// slots do not meet in a script, rules are asked one after the other, and what was taken is given back if a
// later one refuses.
//
// # The arithmetic
//
// Lua in Redis counts in float64. All numbers of the script are whole and below 2^53, so that none is ever
// rounded. A bucket's time (the theoretical arrival time of GCRA, ITU-T I.371) is microseconds and a fraction
// of one, in parts of which a token has a whole number: 333/s is 1000000/333 µs a token, counted in parts of a 333rd.
// Windows are numbered from the Unix epoch, and counts are tokens. Only what a changed rule takes over from
// the one before is rounded, up.
//
// # What Redis holds
//
//	<prefix>limit:<rule>:{<digest of the key's parts>}   a hash
//	    rule | tier:<tier> | own:<rate>                  a field for each rate that was used, and how it stands
//
// A key lives as long as it tells something, until the last of its buckets is full again, and at most twice as long. The
// braces are the
// hash tag of Redis Cluster. Names of clients, addresses and headers are not in Redis, only their digest.
//
// It needs Redis 6 or later, and a user that may use EVAL, EVALSHA, TIME, HGET, HSET, HKEYS, PTTL, PEXPIREAT and DEL.
//
// # When Redis does not answer
//
// Take fails with ErrUnavailable after the timeout; after several failures in a row it fails at once, and one
// request twice a second finds out whether Redis is back. Its caller says what is to happen then. An admission
// that comes too late is given back, if it comes within a second, unless the caller lets the request pass.
//
// What Redis answers is believed only as far as it can be so; else it has not decided. A connection with anything else on
// it than answers of a bounded size, to what was asked, is closed.
//
// # What Redis is spared
//
// A refusal is remembered until the bucket has what was asked for, but not longer than a second, for another
// gateway may give back or reset meanwhile. So a client that floods a gateway costs Redis one question a
// second. The memory is a fixed table.
package central
