package upstream

import (
	"bufio"
	"io"
	"sync"
)

// readers lends the buffers through which responses are read. It belongs to a target, so that no
// state is shared between pools.
type readers struct{ free sync.Pool }

func (r *readers) acquire(src io.Reader) *bufio.Reader {
	if br, ok := r.free.Get().(*bufio.Reader); ok {
		br.Reset(src)
		return br
	}
	return bufio.NewReaderSize(src, readBuffer)
}

func (r *readers) release(br *bufio.Reader) {
	br.Reset(nil)
	r.free.Put(br)
}
