package engine

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/engine/wire"
	"github.com/sluice-gateway/sluice/router"
)

// ExplainRequest is a request as a client would send it. Nothing of it is tidied up on the way: what is
// wrong with it is for the gateway to judge.
type ExplainRequest struct {
	Method   string
	URL      string     // http://HOST/PATH, https://HOST/PATH or /PATH, whose Host is localhost; HOST:PORT for CONNECT
	Header   []string   // "Name: value", in this order; a Host takes the place of the URL's
	Client   netip.Addr // the peer of the connection; the zero value stands for a unix socket
	BodySize int64      // announced by Content-Length; 0: no body
}

// Explain tells what a gateway with the configuration at path would do with a request. It drives the
// code that a live request takes, up to the head that is sent upstream. It opens no connection, so it asks
// neither issuers nor stores whether a credential is good, and counts nothing against a limit. The error is a config.Faults if the configuration is at fault; else no client could send such a request.
func Explain(path string, r ExplainRequest) (*Explanation, error) {
	if _, _, err := r.head(); err != nil {
		return nil, err
	}
	file, faults := config.Load(path)
	if file == nil {
		return nil, faults
	}
	snap, faults := compile(file, faults, lookedAt(), time.Now())
	if err := faults.Err(); err != nil {
		return nil, err
	}
	return r.explain(snap)
}

// Explain is the function of that name for the live configuration. It counts nothing and changes nothing.
func (e *Engine) Explain(r ExplainRequest) (*Explanation, error) { return r.explain(e.snapshot.Load()) }

func (r ExplainRequest) explain(snap *snapshot) (*Explanation, error) {
	head, secure, err := r.head()
	if err != nil {
		return nil, err
	}
	o := newOffline(snap, r.Client, secure)
	o.explanation.Method = r.Method
	if fault := o.follow(head); fault != nil {
		o.refuse(fault)
	}
	return &o.explanation, nil
}

// head writes the request as it would come over the wire.
func (r ExplainRequest) head() (head []byte, secure bool, err error) {
	if !wire.Token([]byte(r.Method)) {
		return nil, false, fmt.Errorf("cannot send method %q: it is not a token", r.Method)
	}
	host, target, secure, err := r.cutURL()
	if err != nil {
		return nil, false, fmt.Errorf("cannot send a request to %q: %w", r.URL, err)
	}
	var lines []byte
	hosts := 0
	for _, line := range r.Header {
		fields, err := wire.ParseFields(nil, []byte(line+"\r\n\r\n"))
		if err != nil || len(fields) != 1 {
			return nil, false, fmt.Errorf(`cannot send header %q: want "Name: value"`, line)
		}
		if wire.EqualFold(fields[0].Name, "host") {
			hosts++
		}
		lines = appendField(lines, fields[0].Name, fields[0].Value)
	}
	head = append(head, r.Method+" "+target+" HTTP/1.1\r\n"...)
	if hosts == 0 {
		head = appendField(head, []byte("Host"), []byte(host))
	}
	head = append(head, lines...)
	if r.BodySize > 0 {
		head = appendField(head, []byte("Content-Length"), strconv.AppendInt(nil, r.BodySize, 10))
	}
	return append(head, "\r\n"...), secure, nil
}

// cutURL splits the URL where a client does, and leaves the parts as they are: package url would refuse
// what the gateway is to judge.
func (r ExplainRequest) cutURL() (host, target string, secure bool, err error) {
	if strings.ContainsAny(r.URL, "\r\n") {
		return "", "", false, errors.New("it holds a line break")
	}
	scheme, rest, absolute := strings.Cut(r.URL, "://")
	switch {
	case r.Method == "CONNECT" && absolute:
		return "", "", false, errors.New("CONNECT goes to HOST:PORT")
	case r.Method == "CONNECT":
		return r.URL, r.URL, false, nil
	case strings.HasPrefix(r.URL, "/"):
		host, rest = "localhost", r.URL
	case absolute && (scheme == "http" || scheme == "https"):
		end := strings.IndexAny(rest+"/", "/?#")
		host, rest = rest[:end], rest[end:]
	default:
		return "", "", false, errors.New("want http://HOST/PATH, https://HOST/PATH or /PATH")
	}
	switch {
	case host == "":
		return "", "", false, errors.New("it names no host")
	case strings.Contains(host, "@"):
		return "", "", false, errors.New("user and password go into an Authorization header")
	}
	target, _, _ = strings.Cut(rest, "#")
	if !strings.HasPrefix(target, "/") {
		target = "/" + target
	}
	return host, target, scheme == "https" && absolute, nil
}

// offline is an exchange without a connection, and what is learned of it.
type offline struct {
	x           *exchange
	engine      *Engine
	explanation Explanation
}

func newOffline(snap *snapshot, peer netip.Addr, secure bool) *offline {
	o := &offline{}
	o.explanation = Explanation{ // [] in JSON, not null
		Provided: []string{}, NearMisses: []NearMiss{}, Methods: []ExplainedMethod{}, Limits: []ExplainedLimit{},
		Choices: []Choice{}, Upstreams: []ExplainedUpstream{}, Forwarded: []string{}, Withheld: []string{},
	}
	o.engine = &Engine{faults: newFaults(), random: func() uint64 { return 0 }}
	o.engine.snapshot.Store(snap)
	c := &conn{engine: o.engine, peer: peer.Unmap()}
	if secure {
		c.secure = new(tls.Conn)
	}
	o.x = o.engine.acquireExchange(c)
	o.x.snap = snap
	return o
}

// follow goes the way of serve and handle, and notes what it sees.
func (o *offline) follow(head []byte) *Fault {
	x, e := o.x, &o.explanation
	limit := x.snap.server.maxHeaderBytes
	broken := x.readHead(bufio.NewReaderSize(bytes.NewReader(head), limit), limit)
	x.open(broken)
	x.identify()
	if broken != nil {
		return o.engine.faults.ofHead(broken)
	}
	fault := x.parse()
	e.Host, e.Path, e.Query = string(x.host), string(x.path), string(x.query)
	if fault != nil {
		return fault
	}
	x.locate()
	if x.client.IsValid() {
		e.Client = x.client.String()
	}

	index, outcome := x.snap.table.Match(x.method, x.host, x.path, &x.captures)
	o.noteNearMisses(index)
	switch outcome {
	case router.NotFound:
		return o.engine.faults.noRoute
	case router.MethodNotAllowed:
		return o.engine.faults.method
	}
	x.route = x.snap.routes[index]
	o.noteRoute(index)
	if x.framing.Kind == wire.Length && x.route.tooLarge(x.framing.Length) {
		return o.engine.faults.tooLarge
	}

	refused := o.noteAccess(index)
	likeliest := o.noteUpstreams(o.outcomes(x.route.to, 1))
	if likeliest == nil {
		return cmp.Or(refused, o.engine.faults.noVariant)
	}
	x.pool = likeliest.pool
	return cmp.Or(refused, o.noteForwarded())
}

func (o *offline) refuse(f *Fault) {
	x := o.x
	o.explanation.Refusal = &ExplainedRefusal{Status: f.Status, Reason: f.Reason, Detail: f.Detail}
	if f == o.engine.faults.method {
		o.explanation.Refusal.Allow = string(x.snap.table.AppendAllow(nil, x.host, x.path))
	}
}

func (o *offline) noteNearMisses(taken int) {
	x := o.x
	for _, c := range x.snap.table.Explain(x.method, x.host, x.path) {
		if c.Route == taken {
			continue
		}
		r := x.snap.file.Route[c.Route]
		o.explanation.NearMisses = append(o.explanation.NearMisses, NearMiss{Route: r.Name, Pattern: r.Path, Reason: c.Reason})
	}
}

func (o *offline) noteRoute(index int) {
	x := o.x
	r := x.snap.file.Route[index]
	explained := &ExplainedRoute{
		Name: r.Name, Pattern: r.Path, Auth: r.Auth, Scopes: r.Scopes, Limits: r.Limits, To: r.To,
		Timeout: r.Timeout.String(), MaxBodyBytes: r.MaxBodyBytes.String(),
	}
	for i, name := range x.snap.table.Params(index) {
		explained.Captures = append(explained.Captures, Capture{name, string(x.captures.Value(x.path, i))})
	}
	if rest := x.captures.Rest(x.path); rest != nil {
		explained.Captures = append(explained.Captures, Capture{"*", string(rest)})
	}
	o.explanation.Route = explained
}

// outcome is one way that the request may go.
type outcome struct {
	to    *destination // an upstream; nil: a switch that leads nowhere
	share float64      // of such requests
}

func (o outcome) name() string {
	if o.to == nil {
		return ""
	}
	return o.to.name
}

// outcomes follows every way from d on, which is reached by a share of such requests, and notes the choices
// as it meets them.
func (o *offline) outcomes(d *destination, share float64) []outcome {
	switch {
	case d == nil || d.pool != nil:
		return []outcome{{d, share}}
	case d.split == nil:
		to := d.headerSwitch.pick(o.x.value(d.headerSwitch.header))
		o.noteChoice(d, to, share)
		return o.outcomes(to, share)
	case d.split.sticky != stickyNot && !o.dependsOnClient(d):
		to := d.split.pick(o.x.draw(d.split))
		o.noteChoice(d, to, share)
		return o.outcomes(to, share)
	}
	o.noteChoice(d, nil, share)
	var all []outcome
	from := uint64(0)
	for _, part := range d.split.parts {
		all = append(all, o.outcomes(part.to, share*float64(part.below-from)/float64(d.split.total))...)
		from = part.below
	}
	return all
}

// dependsOnClient says whether a split's side depends on who the client is, which nobody knows here.
func (o *offline) dependsOnClient(d *destination) bool {
	return d.split != nil && d.split.sticky == stickyClient && o.x.principal != nil
}

func (o *offline) noteChoice(d, to *destination, share float64) {
	x := o.x
	c := Choice{Name: d.name, By: "random", Share: share}
	if to != nil {
		c.To = to.name
	}
	if d.split == nil {
		c.By, c.Value = "header "+x.snap.file.Switch[d.name].Header, string(x.value(d.headerSwitch.header))
	} else if o.dependsOnClient(d) {
		c.By = "client"
	} else if d.split.sticky != stickyNot {
		kind, name, _ := strings.Cut(x.snap.file.Split[d.name].Sticky, ":")
		c.By = strings.TrimSpace(kind + " " + name)
		c.Value = string(cmp.Or(string(x.value(d.split.header)), string(x.cookie(d.split.cookie))))
		if c.Value == "" {
			c.By, c.Value = "client", x.clientKey().String()
		}
	}
	o.explanation.Choices = append(o.explanation.Choices, c)
}

// noteUpstreams adds up the ways that lead to the same upstream, and returns the likeliest of them.
func (o *offline) noteUpstreams(ways []outcome) *destination {
	shares := map[string]float64{}
	for _, way := range ways {
		shares[way.name()] += way.share
	}
	slices.SortStableFunc(ways, func(a, b outcome) int {
		return cmp.Or(cmp.Compare(shares[b.name()], shares[a.name()]), cmp.Compare(a.name(), b.name()))
	})
	for _, way := range slices.CompactFunc(ways, func(a, b outcome) bool { return a.name() == b.name() }) {
		u := ExplainedUpstream{Name: way.name(), Share: shares[way.name()], Targets: []ExplainedTarget{}}
		if configured := o.x.snap.file.Upstream[u.Name]; configured != nil {
			for _, t := range configured.Targets {
				u.Targets = append(u.Targets, ExplainedTarget{URL: t.URL.String(), Weight: t.Weight})
			}
		}
		o.explanation.Upstreams = append(o.explanation.Upstreams, u)
	}
	return ways[0].to
}

func (o *offline) noteForwarded() *Fault {
	o.x.target = o.x.pool.Example()
	head := strings.TrimSuffix(string(o.x.appendHead(nil)), "\r\n\r\n")
	o.explanation.Forwarded = strings.Split(head, "\r\n")
	o.noteWithheld()
	return nil
}
