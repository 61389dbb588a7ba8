// Package router finds the route of a request: method, host and path in, the index of one route and
// the spans of its captures out. It knows nothing of HTTP servers or configuration files.
//
// The order of routes in one sentence: exact beats the longest pattern, compared segment by segment,
// which beats captures, which beat "*"; and a route of a specific host beats one of any host.
//
// In full: hosts are tried first to last as exact name, longest "*." suffix, shorter suffixes, any
// host. Inside one host, at the first segment where two patterns that match differ, a literal beats a
// capture and a capture beats "*". The method is a predicate, not a rank: a pattern that does not
// take the method is passed over for the next best, down to the routes of any host. Among routes with
// the same pattern and host, one that names the method beats one that takes any. Nothing depends on
// the order in which routes are written; two routes that this order cannot tell apart do not compile.
//
// # Patterns
//
//	/a/b        that path and no other; /a/b/ is another path
//	/a/{id}/b   {id} captures one whole segment, which is never empty
//	/a/*        /a, /a/ and everything below; never /ab
//
// # Use
//
// A path is brought into normal form once with [AppendNormalized]; the result is what is matched,
// authorised and forwarded, byte for byte. [Compile] turns routes into a [Table], which never changes
// and may be shared by any number of goroutines. [Table.Match] takes no lock and does not allocate.
//
// # How it is built
//
// Compile hangs every pattern into a tree of segments, one tree per host, where conflicts and routes
// that can never match show themselves (tree.go). Each tree is then frozen into flat arrays, in which
// the literals that may follow a node are found by a hash of the segment, mostly without a collision
// (freeze.go, node.go). Every node knows where the search goes on when it leads nowhere, so matching
// backtracks without a stack and goes down no branch twice: what a path can cost is bounded by the
// table (match.go).
package router
