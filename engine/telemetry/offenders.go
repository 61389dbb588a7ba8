package telemetry

import (
	"cmp"
	"hash/maphash"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// offenderWindow is how long offences are gathered before they begin to fade: what is told is of this window
	// and the one before.
	offenderWindow = 5 * time.Minute
	// offenderStripes is how many goroutines can write at once.
	offenderStripes = 4
	// slowRequest is what makes a request slow: some ten times what one that nobody complains about takes.
	slowRequest = 250 * time.Millisecond
	// slowestRequest bounds what one request counts for, or a stream that lasts for hours would hide all others.
	slowestRequest = 30 * time.Second
	// longestClient is how much of a client's name is kept.
	longestClient = 64
)

// Offender is a client, or the address of somebody whom nobody knows.
type Offender struct {
	Client  string `json:"client,omitempty"`
	Address string `json:"address,omitempty"`
	Count   uint64 `json:"count"`           // of the last five to ten minutes, at least
	Limit   string `json:"limit,omitempty"` // that it met last
}

// Offenders finds out who is most limited, refused and slow. Its memory is fixed, whoever comes: about 200 KB. It is
// safe for concurrent use; Observe never waits, and allocates nothing.
//
// Each list is a sketch after Metwally, Agrawal and El Abbadi, "Efficient Computation of Frequent and Top-k Elements
// in Data Streams" (ICDT 2005): of N offences, whoever committed more than N/64 is in it. What is told of somebody is
// never more than he did, and short of it by N/64 at most: so that who sends from many addresses cannot make others
// look worse than they are.
type Offenders struct {
	begun  time.Time
	seed   maphash.Seed // secret: nobody can choose names that meet
	lists  [offenceKinds]offences
	missed atomic.Uint64
}

// offence is what somebody is listed for.
type offence int

const (
	offenceLimited offence = iota
	offenceRefused
	offenceSlow
	offenceKinds
)

// NewOffenders begins with nobody, at now.
func NewOffenders(now time.Time) *Offenders {
	return &Offenders{begun: now, seed: maphash.MakeSeed()}
}

// Observe takes note of an exchange that has ended, if it was limited, refused or slow. address is the client's, as
// far as it identifies somebody: of IPv6, a network.
func (o *Offenders) Observe(r *Record, address netip.Addr) {
	spent := r.Duration - r.Waited
	isSlow := spent >= slowRequest && !r.Tunnel
	if !r.Refused && !isSlow || r.Client == "" && !address.IsValid() {
		return
	}
	switch {
	case !r.Refused:
	case r.Status == 429:
		o.add(offenceLimited, r, address, 1)
	case r.Status == 401 || r.Status == 403:
		o.add(offenceRefused, r, address, 1)
	}
	if isSlow {
		o.add(offenceSlow, r, address, uint64(min(spent, slowestRequest).Milliseconds())) // #nosec G115 -- positive
	}
}

// Missed is how many offences were not taken note of, because others were being written down at that moment.
func (o *Offenders) Missed() uint64 { return o.missed.Load() }

// Limited lists who was refused by limits, worst first, up to n.
func (o *Offenders) Limited(now time.Time, n int) []Offender { return o.worst(offenceLimited, now, n) }

// Refused lists whose credentials were refused, or did not suffice, worst first, up to n.
func (o *Offenders) Refused(now time.Time, n int) []Offender { return o.worst(offenceRefused, now, n) }

// Slow lists whose slow requests took most time, in milliseconds, worst first, up to n.
func (o *Offenders) Slow(now time.Time, n int) []Offender { return o.worst(offenceSlow, now, n) }

func (o *Offenders) window(at time.Time) int64 { return int64(at.Sub(o.begun) / offenderWindow) }

// add counts an offence in the first stripe that nobody holds. A flood of them must not wait in line: what finds no
// stripe is a sample that was not taken.
func (o *Offenders) add(kind offence, r *Record, address netip.Addr, weight uint64) {
	hash := o.identify(r.Client, address)
	window := o.window(r.Time.Add(r.Duration))
	stripes := &o.lists[kind].stripes
	for i := range uint32(offenderStripes) {
		s := &stripes[(r.Stripe+i)%offenderStripes]
		if !s.mu.TryLock() {
			continue
		}
		s.turn(window)
		s.now.add(hash, weight).set(r, address)
		s.mu.Unlock()
		return
	}
	o.missed.Add(1)
}

func (o *Offenders) identify(client string, address netip.Addr) uint64 {
	if client != "" {
		return maphash.String(o.seed, client)
	}
	bytes := address.As16()
	return ^maphash.Bytes(o.seed, bytes[:])
}

// worst adds up what the stripes know of everybody.
func (o *Offenders) worst(kind offence, now time.Time, n int) []Offender {
	sums := map[uint64]*Offender{}
	for i := range o.lists[kind].stripes {
		s := &o.lists[kind].stripes[i]
		s.mu.Lock()
		s.turn(o.window(now))
		s.before.tell(sums)
		s.now.tell(sums) // last, as its limits are newer
		s.mu.Unlock()
	}
	all := make([]Offender, 0, len(sums))
	for _, offender := range sums {
		all = append(all, *offender)
	}
	slices.SortFunc(all, func(a, b Offender) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Client, b.Client), cmp.Compare(a.Address, b.Address))
	})
	return all[:min(n, len(all))]
}

// offences is one list, striped.
type offences struct {
	stripes [offenderStripes]offenceStripe
}

// offenceStripe is what one writer at a time writes to.
type offenceStripe struct {
	mu          sync.Mutex
	window      int64 // of now
	now, before sketch
	_           [64]byte // what follows in memory is another's
}

// turn begins a new window if it is time to, and forgets what is older than the last.
func (s *offenceStripe) turn(window int64) {
	switch {
	case window <= s.window:
		return
	case window == s.window+1:
		s.before = s.now
	default:
		s.before.n = 0
	}
	s.window, s.now.n = window, 0
}

// tell adds what the sketch is sure of to sums.
func (s *sketch) tell(sums map[uint64]*Offender) {
	for i := range s.n {
		who := &s.who[i]
		offender := sums[s.keys[i]]
		if offender == nil {
			offender = &Offender{Client: who.name()}
			if who.length == 0 {
				offender.Address = who.address.String()
			}
			sums[s.keys[i]] = offender
		}
		offender.Count += s.counts[i] - s.excess[i]
		if who.limit != "" {
			offender.Limit = who.limit
		}
	}
}

// identity is who a counter of a sketch is for. Names are what clients make of them: only so much is kept.
type identity struct {
	client  [longestClient]byte
	length  uint8 // of the name kept; 0: only the address is known
	cut     bool
	address netip.Addr
	limit   string // of the configuration
}

func (i *identity) set(r *Record, address netip.Addr) {
	i.length = uint8(copy(i.client[:], r.Client)) // #nosec G115 -- longestClient at most
	i.cut = len(r.Client) > longestClient
	i.address = address
	i.limit = ""
	if r.Status == 429 {
		i.limit = r.Limit
	}
}

func (i *identity) name() string {
	name := strings.ToValidUTF8(string(i.client[:i.length]), "\uFFFD")
	if i.cut {
		name += "…"
	}
	return name
}
