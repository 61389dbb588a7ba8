package wire

import (
	"bufio"
	"bytes"
)

// ReadRequestHead is [ReadHead] for requests: it passes over one empty line in front of the start line,
// which some clients send behind a body (RFC 9112, section 2.2). That line is not part of the head and
// does not count towards limit.
func ReadRequestHead(br *bufio.Reader, dst []byte, limit int) ([]byte, error) {
	skipped, err := skipEmptyLine(br)
	if err != nil {
		return dst, err
	}
	head, err := ReadHead(br, dst, limit)
	if skipped {
		err = cutShort(err)
	}
	return head, err
}

// ReadHead appends the next message's head to dst: the start line and the header block through its empty
// line. It waits for no more than that, and allocates only when dst is too small.
//
// It judges the shape of lines and leaves the rest to the Parse functions. What it refuses, it refuses as
// soon as the line is there, so that a peer which never sends the end of a head is not waited for:
//
//   - [ErrLine]: a line that ends in a bare LF;
//   - [ErrFold]: a field line that begins with whitespace;
//   - [ErrStart]: an empty start line, or one that begins with whitespace;
//   - [ErrTargetTooLong], [ErrHeadTooLarge]: limit bytes without the end of the head, or a line that the
//     buffer of br cannot hold, be it the start line or a later one;
//   - io.EOF: the connection ended before the first byte; io.ErrUnexpectedEOF: it ended within the head;
//   - anything else is the connection's own error, as it came.
//
// After an error it returns dst with the lines that were good; the bad one is still in br.
func ReadHead(br *bufio.Reader, dst []byte, limit int) ([]byte, error) {
	size, part := 0, 0 // bytes of whole lines, and of the line that has only begun
	for {
		if br.Buffered() <= part {
			if _, err := br.Peek(part + 1); err != nil {
				return dst, headError(err, size, part)
			}
		}
		window, _ := br.Peek(br.Buffered())
		window = window[:min(len(window), limit-size)]
		n, complete, err := cutLines(window, part, size == 0)
		dst = append(dst, window[:n]...)
		_, _ = br.Discard(n)
		if complete || err != nil {
			return dst, err
		}
		size += n
		part = len(window) - n
		if size+part >= limit {
			return dst, tooLarge(size)
		}
	}
}

// cutLines measures the whole lines at the front of window, up to the empty one that completes a head.
// The first seen bytes are known to hold no LF; atStart tells that the first line is a start line.
func cutLines(window []byte, seen int, atStart bool) (n int, complete bool, err error) {
	for {
		lf := bytes.IndexByte(window[n+seen:], '\n')
		if lf < 0 {
			return n, false, nil
		}
		line := window[n : n+seen+lf+1]
		switch {
		case isOWS(line[0]) && atStart:
			return n, false, ErrStart
		case isOWS(line[0]):
			return n, false, ErrFold
		case len(line) < 2 || line[len(line)-2] != '\r':
			return n, false, ErrLine
		case len(line) == 2 && atStart:
			return n, false, ErrStart
		}
		n += len(line)
		if len(line) == 2 {
			return n, true, nil
		}
		seen, atStart = 0, false
	}
}

func skipEmptyLine(br *bufio.Reader) (skipped bool, err error) {
	first, err := br.Peek(1)
	if err != nil || first[0] != '\r' {
		return false, err
	}
	two, err := br.Peek(2)
	if err != nil {
		return false, cutShort(err)
	}
	if two[1] != '\n' {
		return false, nil
	}
	_, _ = br.Discard(2)
	return true, nil
}

func headError(err error, size, part int) error {
	switch {
	case err == bufio.ErrBufferFull:
		return tooLarge(size)
	case size+part > 0:
		return cutShort(err)
	}
	return err
}

// tooLarge is the error for a head of which size bytes came in whole lines.
func tooLarge(size int) error {
	if size == 0 {
		return ErrTargetTooLong
	}
	return ErrHeadTooLarge
}

// CutStartLine splits a head into its start line, without the CRLF, and its header block. Both point into
// head. It fails with ErrLine if the first LF is missing or stands alone.
func CutStartLine(head []byte) (line, block []byte, err error) {
	i := bytes.IndexByte(head, '\n')
	if i < 1 || head[i-1] != '\r' {
		return nil, nil, ErrLine
	}
	return head[:i-1], head[i+1:], nil
}
