package engine

import "strconv"

const (
	pieceBuffer = 32 << 10
	// chunkRoom is what a chunk's size line and its end take beside the data.
	chunkRoom = len("ffffffff\r\n") + len("\r\n")
)

// piece is a buffer that a body passes through part by part: as it is, or each part as a chunk (RFC 9112 section 7.1).
type piece struct {
	buffer  []byte
	chunked bool
}

// space is where a part is read to: behind the room for a chunk's size line, if there is one.
func (p piece) space() []byte {
	if !p.chunked {
		return p.buffer
	}
	return p.buffer[chunkRoom-2 : len(p.buffer)-2]
}

// framed is what is sent for the n bytes in space; nothing for none.
func (p piece) framed(n int) []byte {
	if !p.chunked || n == 0 {
		return p.buffer[:n]
	}
	var digits [chunkRoom]byte
	size := strconv.AppendInt(digits[:0], int64(n), 16)
	start, end := chunkRoom-2-len(size)-2, chunkRoom-2+n
	copy(p.buffer[start:], size)
	copy(p.buffer[start+len(size):], "\r\n")
	copy(p.buffer[end:], "\r\n")
	return p.buffer[start : end+2]
}
