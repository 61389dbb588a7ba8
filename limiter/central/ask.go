package central

import (
	"context"
	"sync/atomic"

	"github.com/redis/rueidis"
)

// Whose a question is.
const (
	waiting   int32 = iota // somebody waits for its answer
	answered               // it is his
	abandoned              // he does not wait any more: it is the lane's
)

// ask is a question to Redis: one run of a script. It is pooled.
type ask struct {
	script script
	keys   []string
	args   []string
	bets   []bet // what is given back if an answer comes too late; none: nobody waits for one
	waited bool  // somebody waits, or did
	undoes atomic.Bool
	state  atomic.Int32
	done   chan struct{} // gets one when reply or err is set
	reply  []int64
	err    error
}

// bet is a charge of a question.
type bet struct {
	rule   *Rule
	policy *policy
	bucket Bucket
	passes bool
}

func (s *Store) newAsk(of script) *ask {
	a, ok := s.free.Get().(*ask)
	if !ok {
		a = &ask{done: make(chan struct{}, 1)}
	}
	now := ""
	if s.config.now != nil {
		now = s.config.now()
	}
	a.script, a.keys, a.args, a.bets, a.err, a.waited = of, a.keys[:0], append(a.args[:0], now), a.bets[:0], nil, false
	a.undoes.Store(false)
	a.state.Store(waiting)
	return a
}

// addTake makes it the question whether charges are admitted.
func (a *ask) addTake(s *Store, charges []Charge, verdicts []Verdict) {
	a.waited = true
	a.args = append(a.args, "take")
	for i := range charges {
		c, p := &charges[i], verdicts[i].policy
		a.addBucket(s, c.Rule, p, c.Bucket)
		a.bets = append(a.bets, bet{c.Rule, p, c.Bucket, c.Passes})
	}
}

// addBucket adds what takeScript wants to know of a bucket.
func (a *ask) addBucket(s *Store, r *Rule, p *policy, b Bucket) {
	a.keys = append(a.keys, r.key(s.config.Prefix, b))
	a.args = append(a.args, p.field, p.packed)
}

// addUndo makes it the wish to give back what left a state behind.
func (a *ask) addUndo(s *Store, r *Rule, p *policy, b Bucket, left state) {
	a.keys = append(a.keys, r.key(s.config.Prefix, b))
	a.args = append(a.args, p.field, p.packState(left), p.packed)
}

// decide fills in the verdicts of an answer, and says whether it is one. Nothing of another form gets in.
func (a *ask) decide(verdicts []Verdict) (admitted, ok bool) {
	if len(a.reply) != 1+4*len(verdicts) || a.reply[0] < 0 || a.reply[0] > 1<<53-century {
		return false, false
	}
	now := a.reply[0]
	admitted = true
	for i := range verdicts {
		v, r := &verdicts[i], a.reply[1+4*i:]
		s := state{r[1], r[2], r[3]}
		if r[0] != 0 && r[0] != 1 || !v.policy.sound(s, now) {
			return false, false
		}
		v.Refused, v.known, v.now, v.state = r[0] == 0, true, now, s
		admitted = admitted && (!v.Refused || v.rule.spec.Shadow)
	}
	for i := range verdicts {
		verdicts[i].taken = admitted && !verdicts[i].Refused
	}
	return admitted, true
}

// settle ends a question in a lane. Who waited gets the answer; if nobody does any more, what was taken is undone.
func (a *ask) settle(err error) (orphan bool) {
	a.err = err
	if !a.waited || !a.state.CompareAndSwap(waiting, answered) {
		return true
	}
	a.done <- struct{}{}
	return false
}

// lane sends questions in batches until ctx is done. Several batches share the connection, one behind the other.
func (s *Store) lane(ctx context.Context, client rueidis.Client) {
	batch := make([]*ask, 0, maxBatch)
	commands := make(rueidis.Commands, 0, maxBatch)
	for {
		select {
		case a := <-s.queue:
			batch = append(batch[:0], a)
		case <-ctx.Done():
			return
		}
		batch = s.gather(batch)
		commands = commands[:0]
		for _, a := range batch {
			commands = append(commands, client.B().Evalsha().Sha1(a.script.sha).Numkeys(int64(len(a.keys))).Key(a.keys...).Arg(a.args...).Build())
		}
		s.exchange(ctx, client, batch, commands)
		clear(batch)
	}
}

// gather adds what else is asked. Of those that nobody waits for any more, none has been asked yet.
func (s *Store) gather(batch []*ask) []*ask {
	for len(batch) < maxBatch {
		select {
		case a := <-s.queue:
			batch = append(batch, a)
			continue
		default:
		}
		break
	}
	kept := batch[:0]
	for _, a := range batch {
		if a.state.Load() == abandoned {
			s.free.Put(a)
			continue
		}
		kept = append(kept, a)
	}
	return kept
}

// exchange sends a batch and hands out the answers. Those for whom Redis did not know the script send it along.
func (s *Store) exchange(ctx context.Context, client rueidis.Client, batch []*ask, commands rueidis.Commands) {
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, longestLane)
	defer cancel()
	var unknown []*ask
	for i, reply := range client.DoMulti(ctx, commands...) {
		if e, ok := rueidis.IsRedisErr(reply.Error()); ok && e.IsNoScript() {
			unknown = append(unknown, batch[i])
			continue
		}
		s.land(batch[i], reply)
	}
	if len(unknown) == 0 {
		return
	}
	commands = commands[:0]
	for _, a := range unknown {
		commands = append(commands, client.B().Eval().Script(a.script.text).Numkeys(int64(len(a.keys))).Key(a.keys...).Arg(a.args...).Build())
	}
	for i, reply := range client.DoMulti(ctx, commands...) {
		s.land(unknown[i], reply)
	}
}

// land reads the answer to a question.
func (s *Store) land(a *ask, reply rueidis.RedisResult) {
	err := a.read(reply)
	if !a.waited {
		if err == nil {
			s.counts.returned.Add(1)
		} else {
			s.counts.lost.Add(1)
		}
		s.free.Put(a)
		return
	}
	if a.settle(err) {
		s.counts.late.Add(1)
		s.undoLate(a)
		s.free.Put(a)
	}
}

// read takes whole numbers, as many as there can be, or an error.
func (a *ask) read(reply rueidis.RedisResult) error {
	a.reply = a.reply[:0]
	if !a.waited {
		_, err := reply.AsInt64()
		return err
	}
	values, err := reply.ToArray()
	if err != nil {
		return err
	}
	if len(values) > 1+4*mostRules {
		return errReply
	}
	for i := range values {
		n, err := values[i].ToInt64()
		if err != nil {
			return err
		}
		a.reply = append(a.reply, n)
	}
	return nil
}

// undoLate gives back what an answer took that nobody waits for any more, but for requests that have passed meanwhile.
func (s *Store) undoLate(a *ask) {
	if a.err != nil {
		return
	}
	var verdicts [mostRules]Verdict
	for i, b := range a.bets {
		verdicts[i] = Verdict{policy: b.policy, rule: b.rule, bucket: b.bucket}
	}
	if admitted, ok := a.decide(verdicts[:len(a.bets)]); !ok || !admitted {
		return
	}
	for i, b := range a.bets {
		if b.passes && !a.undoes.Load() {
			verdicts[i].taken = false
		}
	}
	s.GiveBack(verdicts[:len(a.bets)])
}
