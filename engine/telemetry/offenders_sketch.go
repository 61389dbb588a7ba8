package telemetry

// sketchSize is how many keys a sketch keeps apart.
const sketchSize = 64

// sketch counts the heavy ones among any number of keys (Space-Saving, weighted). With it, of weights that add up to
// N: counts[i]-excess[i] <= what keys[i] weighs <= counts[i], excess[i] <= N/sketchSize, and each key that weighs more
// than N/sketchSize is there. So few are searched faster one by one than through an index, which would have to be
// kept. The zero value has counted nothing. It is for one goroutine.
type sketch struct {
	n      int
	keys   [sketchSize]uint64
	counts [sketchSize]uint64
	excess [sketchSize]uint64 // of a count: what it inherited from the keys that were there before
	who    [sketchSize]identity
}

// add counts a key, and returns who it is, to be filled. A key that is not there takes the place of the lightest.
func (s *sketch) add(key, weight uint64) *identity {
	for i, k := range s.keys[:s.n] {
		if k == key {
			s.counts[i] += weight
			return &s.who[i]
		}
	}
	i := s.n
	if i < sketchSize {
		s.n++
		s.counts[i] = 0
	} else {
		i = s.lightest()
	}
	s.keys[i], s.excess[i] = key, s.counts[i]
	s.counts[i] += weight
	return &s.who[i]
}

func (s *sketch) lightest() int {
	least := 0
	for i, count := range s.counts {
		if count < s.counts[least] {
			least = i
		}
	}
	return least
}
