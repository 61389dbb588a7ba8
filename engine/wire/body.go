package wire

import (
	"bufio"
	"io"
	"slices"
)

const (
	// maxEmptyReads is how often a reader may return nothing without an error, as in bufio.
	maxEmptyReads = 100
	// keepTrailers is the largest list of trailer fields that is kept from one message to the next.
	keepTrailers = 64
)

// Body pulls the body of one message from a buffered reader. [Body.Reset] arms it again for the next
// message without allocating; the zero value is an empty body. It is not safe for concurrent use.
//
// It never reads past the end of the message: the bytes that follow stay in the reader.
type Body struct {
	br       *bufio.Reader
	kind     Kind
	left     int64 // payload to come, when kind is Length
	chunks   chunked
	trailers []Field
	err      error // what every further Read returns; io.EOF once the message is complete
}

// Reset makes b the body that f frames and br holds next. It ends the life of the fields that
// [Body.Trailers] returned.
func (b *Body) Reset(br *bufio.Reader, f Framing) {
	trailers := b.trailers[:0]
	if cap(trailers) > keepTrailers {
		trailers = nil
	}
	b.br, b.kind, b.left, b.trailers, b.err = br, f.Kind, f.Length, trailers, nil
	b.chunks.reset()
	if f.empty() {
		b.err = io.EOF
	}
}

// Read gives what is there: it waits only while it has no byte to give, and then reads the connection
// once. Any error ends the body, and every later Read returns it:
//
//   - io.EOF: the message is complete. Body never says so for one that was cut short;
//   - io.ErrUnexpectedEOF: the connection ended first, be it in payload, in a chunk's framing or in the
//     trailer section (RFC 9112, section 8);
//   - [ErrChunk], [ErrTrailer]: the framing is malformed;
//   - anything else is the connection's own error.
//
// Read does not return bytes and an error together. When it gives the last bytes of a body, [Body.Done]
// may be true already.
func (b *Body) Read(p []byte) (int, error) {
	if b.err == nil && b.kind == NoBody {
		b.err = io.EOF
	}
	if b.err != nil || len(p) == 0 {
		return 0, b.err
	}
	var n int
	switch b.kind {
	case Chunked:
		n, b.err = b.readChunks(p)
	case Length:
		n, b.err = b.readLength(p)
	default:
		n, b.err = b.readSome(p)
	}
	if n > 0 {
		return n, nil
	}
	return 0, b.err
}

// Done reports whether the message ended cleanly, so that what follows in the reader belongs to the next
// one. Nothing follows a body that runs until close: its connection is spent.
func (b *Body) Done() bool { return b.err == io.EOF }

// Ready reports whether Read has something to say without waiting: bytes, the end, or an error.
func (b *Body) Ready() bool {
	if b.err != nil || b.kind == NoBody || b.kind == Length && b.left == 0 {
		return true
	}
	for b.kind == Chunked && b.chunks.state != data && b.br.Buffered() > 0 {
		if b.err = b.readFraming(); b.err != nil {
			return true
		}
	}
	return b.br.Buffered() > 0
}

// Trailers returns the trailer fields of a chunked body after io.EOF, else nothing. They are valid until
// Reset.
func (b *Body) Trailers() []Field { return b.trailers }

// Len is how many bytes are still to come when the framing is [Length], else -1.
func (b *Body) Len() int64 {
	if b.kind != Length {
		return -1
	}
	return b.left
}

func (b *Body) readLength(p []byte) (int, error) {
	n, err := b.readSome(p[:min(b.left, int64(len(p)))])
	b.left -= int64(n)
	if b.left == 0 {
		return n, io.EOF
	}
	return n, cutShort(err)
}

func (b *Body) readChunks(p []byte) (n int, err error) {
	for {
		// Only a call that has nothing to give may wait. One that has goes on through what is
		// buffered, and so finds the end of the body at once if it is there.
		if n > 0 && b.br.Buffered() == 0 {
			return n, nil
		}
		if b.chunks.state != data {
			if err := b.readFraming(); err != nil {
				return n, err
			}
			continue
		}
		if n == len(p) {
			return n, nil
		}
		m, err := b.readSome(p[n:][:min(b.chunks.left, int64(len(p)-n))])
		b.chunks.take(m)
		n += m
		if err != nil {
			return n, cutShort(err)
		}
	}
}

// readFraming consumes the framing that is buffered, after waiting for some if there is none. It returns
// io.EOF at the end of the body.
func (b *Body) readFraming() error {
	if b.br.Buffered() == 0 {
		if _, err := b.br.Peek(1); err != nil {
			return cutShort(err)
		}
	}
	window, _ := b.br.Peek(b.br.Buffered())
	n, err := b.chunks.frame(window)
	_, _ = b.br.Discard(n)
	if err != nil || b.chunks.state != ended {
		return err
	}
	trailers, err := ParseFields(b.trailers, b.chunks.trailer)
	if err != nil || slices.ContainsFunc(trailers, forbiddenTrailer) {
		return ErrTrailer
	}
	b.trailers = trailers
	return io.EOF
}

// readSome reads at least one byte or fails; both may happen at once.
func (b *Body) readSome(p []byte) (int, error) {
	for range maxEmptyReads {
		if n, err := b.br.Read(p); n > 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// cutShort is what the end of the connection means before the end of the message.
func cutShort(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
