package central

import (
	"errors"
	"net"
	"sync/atomic"
)

// Bounds of what is read from a Redis. A decision is a hundred bytes; the map of a large cluster, some hundred thousand.
const (
	maxBlob     = 1 << 20
	maxElements = 1 << 16
	maxDepth    = 8
	maxLine     = 1 << 16
)

var errWire = errors.New("central: what answers is no Redis, or answers what nobody asked")

// wire is a connection that ends when what is on it is not RESP3 within bounds, or answers a question that was not asked:
// the client library would end the process. It looks at both directions, and changes nothing.
type wire struct {
	net.Conn
	pushes   bool // messages that are no answers may come, as from a sentinel
	in, out  values
	awaiting atomic.Int64 // answers
}

func (w *wire) Write(p []byte) (int, error) {
	answers, _, err := w.out.feed(p)
	if err != nil {
		return 0, err
	}
	w.awaiting.Add(int64(answers)) // before the server can know of them
	return w.Conn.Write(p)
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	answers, pushes, bad := w.in.feed(p[:n])
	if bad != nil || pushes > 0 && !w.pushes || w.awaiting.Add(-int64(answers)) < 0 {
		_ = w.Conn.Close()
		return 0, errWire
	}
	return n, err
}

// values counts the values in a stream of RESP3, as they end. It keeps nothing of them.
type values struct {
	kind  byte // of the value whose first line is being read; zero: none
	size  int  // the number in that line, as far as it is read; -1: there is none
	minus bool
	line  int   // how long it is so far
	skip  int   // bytes of a blob that are to come, with its end
	open  []int // elements that are to come, of the aggregates that are open
	push  bool  // the outermost is one
}

// feed reads on, and says how many values have ended that are answers, and how many that are pushed.
func (v *values) feed(p []byte) (answers, pushes int, err error) {
	for len(p) > 0 {
		if v.skip > 0 {
			n := min(v.skip, len(p))
			p, v.skip = p[n:], v.skip-n
			if v.skip > 0 {
				return answers, pushes, nil
			}
		} else {
			b := p[0]
			p = p[1:]
			whole, err := v.header(b)
			if err != nil {
				return answers, pushes, err
			}
			if !whole {
				continue
			}
		}
		for len(v.open) > 0 { // a value has ended, and perhaps what it is in
			last := len(v.open) - 1
			if v.open[last]--; v.open[last] > 0 {
				break
			}
			v.open = v.open[:last]
		}
		if len(v.open) == 0 {
			if v.push {
				pushes++
			} else {
				answers++
			}
			v.push = false
		}
	}
	return answers, pushes, nil
}

// header reads a byte of a value's first line, and says whether the value ends with it.
func (v *values) header(b byte) (whole bool, err error) {
	v.line++
	switch {
	case v.line > maxLine:
		return false, errWire
	case v.kind == 0:
		v.kind, v.size, v.minus, v.line = b, -1, false, 0
		if b == '>' && len(v.open) == 0 {
			v.push = true
		}
		return false, nil
	case b == '\n':
		return v.begin()
	case v.counted() && '0' <= b && b <= '9':
		if v.size = max(v.size, 0)*10 + int(b-'0'); v.size > maxBlob {
			return false, errWire
		}
	case v.counted() && b == '-' && v.size < 0:
		v.minus = true
	case v.counted() && b != '\r':
		return false, errWire
	}
	return false, nil
}

// counted says whether the line holds a number of bytes or elements.
func (v *values) counted() bool {
	switch v.kind {
	case '$', '!', '=', '*', '~', '>', '%':
		return true
	}
	return false
}

// begin is at the end of a value's first line.
func (v *values) begin() (whole bool, err error) {
	kind, n := v.kind, v.size
	v.kind = 0
	switch kind {
	case '+', '-', ':', '_', '#', ',', '(':
		return true, nil
	case '$', '!', '=':
		if v.minus {
			return true, nil
		}
		v.skip = n + len("\r\n")
		if n < 0 {
			return false, errWire
		}
		return false, nil
	case '%':
		n *= 2
		fallthrough
	case '*', '~', '>':
		if v.minus || n == 0 {
			return true, nil
		}
		if n < 0 || n > maxElements || len(v.open) == maxDepth {
			return false, errWire
		}
		v.open = append(v.open, n)
		return false, nil
	}
	return false, errWire
}
