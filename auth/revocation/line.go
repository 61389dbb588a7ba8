package revocation

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"strings"
	"time"
)

// A line of the log is an entry as text:
//
//	CHECKSUM KIND EXPIRES BEFORE CREATED "ID" "ISSUER"
//
// The checksum is CRC-32C, in hexadecimal, of what follows the space after it. Times are RFC 3339 in UTC with
// nanoseconds; a dash stands for a zero one. Names are quoted as in Go, in ASCII.
//
// maxLine is more than the longest line: quoting makes four bytes of one at worst.
const maxLine = 4*(MaxID+MaxIssuer) + 256

func appendLine(b []byte, e Entry) []byte {
	start := len(b)
	b = append(b, "00000000 "...)
	b = append(b, e.Kind.String()...)
	for _, t := range []time.Time{e.Expires, e.Before, e.Created} {
		b = append(b, ' ')
		if t.IsZero() {
			b = append(b, '-')
			continue
		}
		b = t.UTC().AppendFormat(b, time.RFC3339Nano)
	}
	b = strconv.AppendQuoteToASCII(append(b, ' '), e.ID)
	b = strconv.AppendQuoteToASCII(append(b, ' '), e.Issuer)
	sum := checksum(b[start+9:])
	copy(b[start:], sum[:])
	return append(b, '\n')
}

func checksum(b []byte) (text [8]byte) {
	sum := binary.BigEndian.AppendUint32(nil, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	hex.Encode(text[:], sum)
	return text
}

// parseLine reads a line without its end. It accepts what appendLine writes and nothing else.
func parseLine(line []byte) (Entry, error) {
	if len(line) < 9 || line[8] != ' ' {
		return Entry{}, errors.New("it has no checksum")
	}
	if sum := checksum(line[9:]); string(sum[:]) != string(line[:8]) {
		return Entry{}, fmt.Errorf("its checksum is %s, not %.8q", sum, line)
	}
	fields := strings.SplitN(string(line[9:]), " ", 5)
	if len(fields) != 5 {
		return Entry{}, errors.New("it has too few fields")
	}
	var e Entry
	var err error
	if e.Kind, err = ParseKind(fields[0]); err != nil {
		return Entry{}, err
	}
	for i, t := range []*time.Time{&e.Expires, &e.Before, &e.Created} {
		if fields[1+i] == "-" {
			continue
		}
		if *t, err = time.Parse(time.RFC3339Nano, fields[1+i]); err != nil {
			return Entry{}, err
		}
	}
	id, err := strconv.QuotedPrefix(fields[4])
	if err != nil {
		return Entry{}, errors.New("its id is not quoted")
	}
	issuer, _ := strings.CutPrefix(fields[4][len(id):], " ")
	if e.ID, err = strconv.Unquote(id); err != nil {
		return Entry{}, errors.New("its id is not quoted")
	}
	if e.Issuer, err = strconv.Unquote(issuer); err != nil {
		return Entry{}, errors.New("its issuer is not quoted")
	}
	if again := appendLine(make([]byte, 0, len(line)+1), e); !bytes.Equal(again[:len(again)-1], line) {
		return Entry{}, errors.New("it is not written as it should be")
	}
	_, err = e.fact()
	return e, err
}

// readLines calls f with every complete line, without its end; one that is too long is cut. It returns the bytes of
// complete lines, and what follows the last, cut too.
func readLines(r io.Reader, f func(line []byte)) (complete int64, rest []byte, err error) {
	lines := bufio.NewReaderSize(r, maxLine)
	var long []byte // the beginning of a line that is too long
	var skipped int64
	for {
		line, err := lines.ReadSlice('\n')
		switch {
		case err == nil:
			complete += skipped + int64(len(line))
			if long != nil {
				line = long
			}
			f(bytes.TrimSuffix(line, []byte("\n")))
			long, skipped = nil, 0
		case errors.Is(err, bufio.ErrBufferFull):
			skipped += int64(len(line))
			if long == nil {
				long = bytes.Clone(line)
			}
		case errors.Is(err, io.EOF):
			if long != nil {
				line = long
			}
			return complete, bytes.Clone(line), nil
		default:
			return complete, nil, err
		}
	}
}
