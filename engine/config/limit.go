package config

import "time"

// Limit is one [[limit]]: a rate, and what it is counted by.
type Limit struct {
	Name         string          `toml:"name" kind:"name" required:"true" doc:"what routes call it; unique"`
	Key          []string        `toml:"key" enum:"client|ip|route|host|method|header:|claim:" doc:"requests that agree in all of these share a bucket; []: one bucket for all"`
	Algorithm    string          `toml:"algorithm" enum:"token_bucket|fixed_window|sliding_window|leaky_bucket" doc:"how requests are counted"`
	Rate         Rate            `toml:"rate" required:"true" doc:"requests per time"`
	Burst        int64           `toml:"burst" min:"1" doc:"token_bucket: its capacity; leaky_bucket: its longest queue; absent: one second of rate, at least 1"`
	Scope        string          `toml:"scope" enum:"local|cluster|redis" doc:"who shares the count: this process, the gossip cluster (approximate), or Redis (exact)"`
	Tiers        map[string]Rate `toml:"tiers" doc:"rate by the client's tier; an API key's own rate wins over both"`
	Cost         int64           `toml:"cost" min:"1" doc:"what one request counts for"`
	MaxWait      time.Duration   `toml:"max_wait" doc:"leaky_bucket: longest a request may queue"`
	Mode         string          `toml:"mode" enum:"enforce|shadow" doc:"shadow counts and never rejects"`
	OnStoreError string          `toml:"on_store_error" enum:"local|allow|deny" doc:"scope = \"redis\" while Redis is down: keep a share locally, let all pass, or none"`
	Hidden       bool            `toml:"hidden" doc:"clients are not told how much is left of it, nor its name"`
	BeforeAuth   bool            `toml:"before_auth" doc:"a guard that runs before authentication; its key cannot use client or claim:"`
}

// Limits is [limits]: what holds for all rate limits.
type Limits struct {
	Headers  []string `toml:"headers" enum:"x-ratelimit|ietf" doc:"what clients are told: X-RateLimit-*, RateLimit and RateLimit-Policy; 429 has Retry-After in any case"`
	Capacity int      `toml:"capacity" min:"1024" max:"100000000" doc:"most live buckets kept by this process; their memory is taken at start"`
}
