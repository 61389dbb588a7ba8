package wire

import "bytes"

// Field is one header line. Both slices point into the block that was parsed, live as long as it, and
// have no spare capacity. Value is trimmed of whitespace at both ends; it may be empty but is not nil.
type Field struct{ Name, Value []byte }

// ParseFields validates a header block, which is everything after the start line through the final empty
// line, and appends its fields to dst in their order. It allocates only when dst is too small.
//
// It fails with ErrLine, ErrFold, ErrName or ErrValue, and then returns dst as it was. Bytes behind the
// empty line are ErrLine. See RFC 9112, section 5.
func ParseFields(dst []Field, block []byte) ([]Field, error) {
	fields := dst
	for {
		colon := tokenPrefix(block)
		if colon == 0 && string(block) == "\r\n" {
			return fields, nil
		}
		if colon == 0 || colon >= len(block) || block[colon] != ':' {
			return dst, fieldFault(block)
		}
		end := valueEnd(block, colon+1)
		if end < 0 {
			return dst, fieldFault(block)
		}
		fields = append(fields, Field{}) // filled in place: a composite would be built elsewhere and copied
		f := &fields[len(fields)-1]
		f.Name, f.Value = block[:colon:colon], trimOWS(block[colon+1:end:end])
		block = block[end+2:]
	}
}

// valueEnd is the index of the CRLF behind the value that begins at from, or -1 if the first control
// other than HTAB is not that.
func valueEnd(b []byte, from int) int {
	for {
		from = firstControl(b, from)
		switch {
		case from+1 >= len(b):
			return -1
		case b[from] == '\r' && b[from+1] == '\n':
			return from
		case b[from] != '\t':
			return -1
		}
		from++
	}
}

// fieldFault names the first fault of the line at the front of a header block that has one.
func fieldFault(block []byte) error {
	line := block[:bytes.IndexByte(block, '\n')+1]
	switch {
	case len(block) > 0 && isOWS(block[0]):
		return ErrFold
	case bytes.IndexByte(line, '\r') != len(line)-2, len(line) <= 2:
		return ErrLine
	}
	name, _, found := bytes.Cut(line, []byte{':'})
	if !found || !Token(name) {
		return ErrName
	}
	return ErrValue
}
