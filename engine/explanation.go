package engine

// Explanation is what the gateway would do with a request. Names and notations are the configuration's.
//
// Nobody is asked about credentials, and nothing is counted: Provided says what else has to be so. Who the client
// is stays open too; where that would be told, there are words in parentheses. If all that is wrong with a request
// are its credentials, Refusal says so and the rest tells of the same request with good ones.
type Explanation struct {
	Refusal    *ExplainedRefusal   `json:"refusal,omitempty"` // nil: the request is forwarded
	Provided   []string            `json:"provided"`          // what that takes, beyond what is seen here
	Method     string              `json:"method"`
	Host       string              `json:"host"`
	Path       string              `json:"path"` // normalised: what is matched and forwarded; empty if that failed
	Query      string              `json:"query,omitempty"`
	Client     string              `json:"client"` // behind the trusted proxies; empty on a unix socket
	Route      *ExplainedRoute     `json:"route,omitempty"`
	NearMisses []NearMiss          `json:"near_misses"` // closest first
	Methods    []ExplainedMethod   `json:"methods"`     // ways to authenticate here, in the route's order; none: it is public
	Preflight  bool                `json:"preflight"`   // of a browser, which is let through without them
	Limits     []ExplainedLimit    `json:"limits"`      // in the order they are asked: guards first
	Choices    []Choice            `json:"choices"`     // in the order they are made
	Upstreams  []ExplainedUpstream `json:"upstreams"`   // likeliest first
	Forwarded  []string            `json:"forwarded"`   // lines of the head that the likeliest upstream gets
	Withheld   []string            `json:"withheld"`    // the request's fields with credentials, which it does not get
}

// ExplainedRefusal is the answer that a client gets from the gateway itself.
type ExplainedRefusal struct {
	Status int    `json:"status"`
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	Allow  string `json:"allow,omitempty"` // with status 405
}

// ExplainedRoute is the route that takes the request, and what it asks of it.
type ExplainedRoute struct {
	Name         string    `json:"name"`
	Pattern      string    `json:"pattern"`
	Captures     []Capture `json:"captures,omitempty"`
	Auth         []string  `json:"auth"`
	Scopes       []string  `json:"scopes,omitempty"`
	Limits       []string  `json:"limits,omitempty"`
	Timeout      string    `json:"timeout"`
	MaxBodyBytes string    `json:"max_body_bytes"` // "0": no limit
	To           string    `json:"to"`
}

// Capture is what a {name} of the pattern stands for, or its "*".
type Capture struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// NearMiss is a route that does not take the request.
type NearMiss struct {
	Route   string `json:"route"`
	Pattern string `json:"pattern"`
	Reason  string `json:"reason"`
}

// Choice is a switch or split on the way. To is empty when it is random, when it depends on who the client
// is, or when a switch leads nowhere.
type Choice struct {
	Name  string  `json:"name"`
	By    string  `json:"by"`              // such as "header X-API-Version", "cookie session" or "random"
	Value string  `json:"value,omitempty"` // what that is in this request
	To    string  `json:"to,omitempty"`
	Share float64 `json:"share"` // of such requests, those that come to this choice
}

// ExplainedUpstream is where the request may go. Without a name it goes nowhere: 404.
type ExplainedUpstream struct {
	Name    string            `json:"name"`
	Share   float64           `json:"share"` // of requests like this one, up to 1
	Targets []ExplainedTarget `json:"targets"`
}

// ExplainedTarget is one of an upstream's servers and its weight against the others'.
type ExplainedTarget struct {
	URL    string `json:"url"`
	Weight int    `json:"weight"`
}

// ExplainedMethod is a way to authenticate.
type ExplainedMethod struct {
	Name     string `json:"name"`             // as the route names it
	Header   string `json:"header"`           // that carries the credential
	Scheme   string `json:"scheme,omitempty"` // a word before it
	Shown    Shown  `json:"shown"`            // what this request has there
	Upstream bool   `json:"upstream"`         // the upstream gets it too
}

// Shown says what a request shows where a credential should be.
type Shown string

// A request may show one of these.
const (
	ShownNothing    Shown = "nothing"
	ShownCredential Shown = "a credential"  // whether it is good is not asked
	ShownOther      Shown = "no credential" // it has another form
	ShownSeveral    Shown = "several"       // which is refused
)

// ExplainedLimit is a limit that the request is charged to.
type ExplainedLimit struct {
	Name      string            `json:"name"`
	Guard     bool              `json:"guard"` // asked before authentication
	Algorithm string            `json:"algorithm"`
	Key       []ExplainedPart   `json:"key"`  // what its bucket is found by; empty: there is one for all requests
	Rate      string            `json:"rate"` // of clients without a tier that has another
	Tiers     map[string]string `json:"tiers,omitempty"`
	OwnRate   bool              `json:"own_rate"`        // an API key may have a rate of its own, which wins over both: where clients have buckets of their own
	Burst     int64             `json:"burst,omitempty"` // 0: not configured
	Cost      int64             `json:"cost"`
	MaxWait   string            `json:"max_wait,omitempty"` // longest time in the queue
	Mode      string            `json:"mode"`               // enforce or shadow
	Hidden    bool              `json:"hidden"`
	// Scope is empty for a limit of this process alone; else it says who decides, and OnStoreError what holds if it
	// does not.
	Scope        string `json:"scope,omitempty"`
	OnStoreError string `json:"on_store_error,omitempty"`
}

// ExplainedPart is a part of a bucket's key.
type ExplainedPart struct {
	Part  string `json:"part"`           // as the configuration writes it
	Value string `json:"value"`          // what that is in this request
	Note  string `json:"note,omitempty"` // why there is no value, or none that can be told
}
