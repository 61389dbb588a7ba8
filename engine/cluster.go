package engine

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-gateway/sluice/auth/revocation"
	"github.com/sluice-gateway/sluice/engine/config"
	"github.com/sluice-gateway/sluice/limiter"
	"github.com/sluice-gateway/sluice/limiter/gossip"
)

// cluster is the gateway's place among others: those that its limits with scope = "cluster" and its revocations
// are shared with. It is what the configuration said at the start; no reload changes it.
type cluster struct {
	worker
	config *config.Cluster // nil: the gateway is on its own
	gossip atomic.Pointer[gossip.Gossip]
}

// How long a start waits for the first peer to tell what there is to know, and how often it looks.
const (
	firstNews = 1500 * time.Millisecond
	newsPoll  = 10 * time.Millisecond
)

// socketsRetry is how often a gateway that succeeds another one asks for its sockets.
const socketsRetry = 10 * time.Millisecond

// bucketSecret is what the keys of buckets are hashed under: the same on all members of a cluster, and of no use
// to whoever knows it but not the cluster's secret.
func bucketSecret(c *config.Cluster) (secret [16]byte, err error) {
	derived, err := hkdf.Key(sha256.New, []byte(c.Secret.Reveal()), nil, "sluice buckets", len(secret))
	copy(secret[:], derived)
	return secret, err
}

// openCluster opens the sockets that peers send to. A gateway that is started in another's place does so later: its
// predecessor has them until it is told that it may go.
func (e *Engine) openCluster() error {
	if e.cluster.config == nil {
		return nil
	}
	err := e.listenToPeers()
	if err != nil && !(errors.Is(err, syscall.EADDRINUSE) && e.sockets.Succeeds()) {
		return fmt.Errorf("cannot join the cluster: %w", err)
	}
	return nil
}

// startCluster begins to be a member, and waits for what the first peer has to tell: a gateway that came back would else
// let pass what its peers have let pass already, or who is revoked.
func (e *Engine) startCluster() {
	if e.cluster.config == nil {
		return
	}
	e.cluster.start(e.life, e.runCluster)
	if len(e.cluster.config.Peers) == 0 {
		return
	}
	poll := time.NewTicker(newsPoll)
	defer poll.Stop()
	var stats gossip.Stats
	for end := time.After(firstNews); ; {
		select {
		case <-poll.C:
			if g := e.cluster.gossip.Load(); g != nil {
				stats = g.Stats()
			}
			if stats.Snapshots > 0 && stats.Compared {
				return
			}
		case <-end:
			e.warnOfPeers(stats)
			return
		case <-e.life.Done():
			return
		}
	}
}

// warnOfPeers says what a start has waited for in vain.
func (e *Engine) warnOfPeers(stats gossip.Stats) {
	if stats.Snapshots == 0 {
		e.log.Warn().Msg("cluster: no peer answers yet; it keeps to its part of shared limits")
		return
	}
	e.log.Warn().Msg("cluster: not all revocations are here yet; each is in force as it arrives")
}

// runCluster is a member until ctx ends, once it has sockets.
func (e *Engine) runCluster(ctx context.Context) {
	for e.cluster.gossip.Load() == nil {
		select {
		case <-ctx.Done():
			return
		case <-time.After(socketsRetry):
		}
		if err := e.listenToPeers(); err != nil && !errors.Is(err, syscall.EADDRINUSE) {
			e.log.Error().Err(err).Msg("cluster: the gateway stays on its own")
			return
		}
	}
	g := e.cluster.gossip.Load()
	e.log.Info().Str("name", g.Name()).Stringer("address", g.Address()).Msg("cluster: a member")
	if err := g.Run(ctx); err != nil {
		e.log.Error().Err(err).Msg("cluster: not a member any more")
	}
}

// listenToPeers opens the cluster's sockets.
func (e *Engine) listenToPeers() error {
	c := e.cluster.config
	config := gossip.Config{
		Listen: c.Listen, Advertise: c.Advertise, Peers: c.Peers, Secrets: clusterSecrets(c), Interval: c.Interval, Name: c.Name,
		Ledger: e.limiter, Clock: func() time.Duration { return time.Since(e.started) },
		Report: func(err error) { e.log.Warn().Err(err).Msg("cluster") },
	}
	if e.snapshot.Load().file.Auth.Revocation.Store != "redis" {
		config.Records = records{&e.revocations}
	}
	g, err := gossip.Listen(config)
	if err != nil {
		return err
	}
	e.cluster.gossip.Store(g)
	return nil
}

func clusterSecrets(c *config.Cluster) [][]byte {
	secrets := [][]byte{[]byte(c.Secret.Reveal())}
	if c.PreviousSecret.IsSet() {
		secrets = append(secrets, []byte(c.PreviousSecret.Reveal()))
	}
	return secrets
}

// records is the revocations, as members of a cluster tell each other.
type records struct{ revocations *revocations }

// All implements gossip.Records.
func (r records) All(yield func(record []byte) bool) {
	var b []byte
	for entry := range r.revocations.list.Entries(time.Now()) {
		var err error
		if b, err = entry.AppendBinary(b[:0]); err == nil && !yield(b) {
			return
		}
	}
}

// errRecord refuses what is no revocation.
var errRecord = errors.New("engine: a peer tells of a revocation that is none")

// Apply implements gossip.Records. Without a store, as nobody is authenticated yet, a revocation is in force all the
// same.
func (r records) Apply(record []byte) error {
	now := time.Now()
	entry, rest, err := revocation.DecodeEntry(record)
	if err != nil || len(rest) > 0 {
		return errors.Join(errRecord, err)
	}
	if err := entry.Check(now); err != nil {
		return err
	}
	store := r.revocations.opens()
	if store == nil {
		_, err := r.revocations.list.Add(entry, now)
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), recordTime)
	defer cancel()
	return store.Add(ctx, entry, now)
}

// recordTime is how long a store has to keep a revocation that a peer told.
const recordTime = 10 * time.Second

// tellPeers sends a new revocation to the other members.
func (e *Engine) tellPeers(entry revocation.Entry) {
	g := e.cluster.gossip.Load()
	if g == nil {
		return
	}
	if b, err := entry.AppendBinary(nil); err == nil {
		g.Publish(b)
	}
}

// clusterStatus tells how the gateway stands with its peers; nil if it is on its own. One that waits for its
// predecessor's sockets has none yet.
func (e *Engine) clusterStatus(file *config.File) *ClusterStatus {
	if e.cluster.config == nil {
		return nil
	}
	s := &ClusterStatus{Name: e.cluster.config.Name, Dropped: map[string]uint64{}, Peers: []PeerStatus{}, Rules: []string{}}
	for _, l := range file.Limit {
		if l.Scope == "cluster" {
			s.Rules = append(s.Rules, l.Name)
		}
	}
	g := e.cluster.gossip.Load()
	if g == nil {
		return s
	}
	stats, ledger := g.Stats(), e.limiter.LedgerStats()
	s.Name, s.Dropped = g.Name(), stats.Dropped
	s.FramesIn, s.FramesOut, s.BytesIn, s.BytesOut = stats.FramesIn, stats.FramesOut, stats.BytesIn, stats.BytesOut
	s.Excess, s.Strange, s.Repaired = ledger.Excess, ledger.Unknown, stats.Repaired
	for _, p := range stats.Peers {
		s.Peers = append(s.Peers, PeerStatus{
			Name: p.Name, Address: p.Address.String(), State: memberState(p.State), RTT: milliseconds(p.Trip), Loss: p.Loss, Lag: milliseconds(p.Lag),
		})
	}
	return s
}

func memberState(s limiter.MemberState) string {
	return [...]string{"alive", "silent", "gone"}[s]
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// peersTime is how long names of peers are looked up when a configuration is checked.
const peersTime = 2 * time.Second

// cluster checks what loading cannot: that peers can be found, and that a gateway which runs on its own is not asked
// to share limits. A name server that does not answer is no fault: peers are looked for as long as it takes.
func (c *compiler) cluster() {
	if c.file.Cluster == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), peersTime)
	defer cancel()
	for i, peer := range c.file.Cluster.Peers {
		host, _, err := net.SplitHostPort(peer)
		if err != nil {
			continue // said by the loader
		}
		var unknown *net.DNSError
		if _, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host); errors.As(err, &unknown) && unknown.IsNotFound {
			c.fault(fmt.Sprintf("cluster.peers[%d]", i), "there is no host %q", host)
		}
	}
	shares := slices.IndexFunc(c.file.Limit, func(l config.Limit) bool { return l.Scope == "cluster" })
	if c.last != nil && c.alone && shares >= 0 {
		c.fault(fmt.Sprintf("limit[%d].scope", shares), "\"cluster\" needs the gateway to be started with a [cluster] table; restart it")
	}
}
