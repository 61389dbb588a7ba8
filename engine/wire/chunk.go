package wire

import "math"

const (
	// maxSizeDigits holds every size below 2^63 and the zeros that some senders pad with.
	maxSizeDigits = 16
	// maxChunkLine bounds one size line with its extensions; nobody is known to send more than a
	// signature there.
	maxChunkLine = 1 << 10
	// freeFraming is what a chunk may spend on framing besides twice its data before it counts as
	// excess; maxExcess is how much excess a body may build up. The numbers are those of net/http.
	freeFraming = 16
	maxExcess   = 16 << 10
	// maxTrailer bounds the trailer section, its final CRLF included.
	maxTrailer = 8 << 10
	// keepBuffer is the largest scratch buffer that is kept from one message to the next.
	keepBuffer = 4 << 10
)

// chunkState is what the next byte of a chunked body must be.
type chunkState uint8

const (
	sizeStart    chunkState = iota // the first digit of a size
	sizeRest                       // another digit, an extension, or the end of the line
	extension                      // any byte of an extension, or the end of the line
	sizeLF                         // the LF of a size line
	data                           // payload: the reader's business, see chunked.take
	dataCR                         // the CR behind payload
	dataLF                         // the LF behind payload
	trailerStart                   // the first byte of a trailer line
	trailerRest                    // another byte of a trailer line
	trailerLF                      // the LF of a trailer line
	finalLF                        // the LF of the empty line that ends the body
	ended
)

// chunked walks the framing of one chunked body (RFC 9112, section 7.1) byte by byte; it never sees the
// payload. The zero value stands before the first chunk. Only the trailer section is buffered, and of it
// only the line ends are judged.
type chunked struct {
	state   chunkState
	digits  int   // of the current size
	left    int64 // payload bytes to come; in a size line, the size so far
	line    int   // bytes of the current size line
	excess  int64 // framing beyond what the payload excuses
	trailer []byte
}

func (c *chunked) reset() {
	trailer := c.trailer[:0]
	if cap(trailer) > keepBuffer {
		trailer = nil
	}
	*c = chunked{trailer: trailer}
}

// frame consumes framing from p until payload begins, the body ends or p is used up. When it fails, n
// counts the bytes before the offending one.
func (c *chunked) frame(p []byte) (n int, err error) {
	for n < len(p) && c.state != data && c.state != ended {
		if err := c.step(p[n]); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// take notes that n bytes of payload went by; n is at most c.left.
func (c *chunked) take(n int) {
	c.left -= int64(n)
	if c.left == 0 {
		c.state = dataCR
	}
}

func (c *chunked) step(b byte) error {
	switch c.state {
	case sizeStart, sizeRest, extension, sizeLF:
		return c.stepSize(b)
	case dataCR:
		return c.expect(b, '\r', dataLF)
	case dataLF:
		return c.expect(b, '\n', sizeStart)
	}
	return c.stepTrailer(b)
}

func (c *chunked) expect(b, want byte, next chunkState) error {
	if b != want {
		return ErrChunk
	}
	c.state = next
	return nil
}

func (c *chunked) stepSize(b byte) error {
	c.line++
	if c.line > maxChunkLine {
		return ErrChunk
	}
	if c.state == sizeLF {
		if b != '\n' {
			return ErrChunk
		}
		return c.endSize()
	}
	switch digit, ok := hexValue(b); {
	case ok && c.state != extension:
		return c.addDigit(digit)
	case c.state == sizeStart:
		return ErrChunk
	case b == '\r':
		c.state = sizeLF
	case c.state == sizeRest && b == ';':
		c.state = extension
	case c.state == sizeRest, isControl(b) && b != '\t':
		return ErrChunk
	}
	return nil
}

func (c *chunked) addDigit(digit int64) error {
	if c.digits == maxSizeDigits || c.left > math.MaxInt64>>4 {
		return ErrChunk
	}
	c.digits++
	c.left = c.left<<4 | digit
	c.state = sizeRest
	return nil
}

// endSize settles what the size line cost: tiny chunks with long lines would let a client make the
// gateway parse far more than it forwards.
func (c *chunked) endSize() error {
	payload := min(c.left, maxExcess)
	c.excess = max(0, c.excess+int64(c.line)+2-freeFraming-2*payload)
	if c.excess > maxExcess {
		return ErrChunk
	}
	c.line, c.digits = 0, 0
	c.state = data
	if c.left == 0 {
		c.state = trailerStart
	}
	return nil
}

func (c *chunked) stepTrailer(b byte) error {
	if len(c.trailer) == maxTrailer {
		return ErrTrailer
	}
	c.trailer = append(c.trailer, b)

	switch c.state {
	case trailerStart:
		c.state = trailerRest
		if b == '\r' {
			c.state = finalLF
		} else if !tokenBytes[b] {
			return ErrTrailer
		}
	case trailerRest:
		if b == '\r' {
			c.state = trailerLF
		} else if b == '\n' {
			return ErrTrailer
		}
	case trailerLF:
		c.state = trailerStart
		if b != '\n' {
			return ErrTrailer
		}
	case finalLF:
		if b != '\n' {
			return ErrTrailer
		}
		c.state = ended
	}
	return nil
}

// forbiddenTrailer reports whether a field may not come after the body, because by then the message has
// been framed, routed, authenticated or understood without it (RFC 9110, section 6.5.1).
func forbiddenTrailer(f Field) bool {
	name := f.Name
	if len(name) > 3 && EqualFold(name[:3], "if-") {
		return true
	}
	for _, forbidden := range [...]string{
		"content-length", "transfer-encoding", "trailer", "te", "connection", "keep-alive", "proxy-connection",
		"upgrade", "host", "expect", "max-forwards", "range", "cache-control", "pragma",
		"authorization", "proxy-authorization", "www-authenticate", "proxy-authenticate", "cookie", "set-cookie",
		"content-encoding", "content-type", "content-range",
	} {
		if EqualFold(name, forbidden) {
			return true
		}
	}
	return false
}

func hexValue(c byte) (value int64, ok bool) {
	switch {
	case isDigit(c):
		return int64(c - '0'), true
	case 'a' <= c && c <= 'f':
		return int64(c-'a') + 10, true
	case 'A' <= c && c <= 'F':
		return int64(c-'A') + 10, true
	}
	return 0, false
}
