package limiter

// Delta is what one node has let pass on one bucket, and its peers have not been told.
type Delta struct {
	Key  Key    // of the bucket; the same on all nodes that share Options.Secret
	Rule uint64 // hash of the rule's name and content: buckets under other rules are other buckets
	// Units is how many tokens were taken since the last delta of this bucket. It may be zero, where only the
	// demand is told.
	Units  uint32
	Demand uint32 // tokens a minute that clients ask of the node here, admitted or not; 0: not told; 1: none any more
	Window uint32 // of the two windows: the number of the window that the units belong to, by the wall clock
	Own    Rate   // of buckets of credentials with a rate of their own: that rate

	// Where the one who drained it finds the bucket when it is acknowledged. They do not travel.
	slot  uint32
	mark  uint16
	round uint16
}
