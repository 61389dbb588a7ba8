package revocation

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sluice-gateway/sluice/auth"
)

// The binary form of an entry, integers big-endian:
//
//	kind:1 before:8 expires:8 created:8 len(id):2 len(issuer):2 id issuer
//
// Times are Unix nanoseconds; before is 2^63-1 for a zero Before, created is 0 for a zero Created. It is also how
// a List holds its entries.
const header = 1 + 3*8 + 2*2

// MaxEntrySize is the longest binary form of an entry in bytes.
const MaxEntrySize = header + MaxID + MaxIssuer

// AppendBinary appends the binary form. It fails with ErrInvalid.
func (e Entry) AppendBinary(b []byte) ([]byte, error) {
	f, err := e.fact()
	if err != nil {
		return b, err
	}
	return f.append(b), nil
}

// DecodeEntry reads an entry from the front of b and returns what follows it. It accepts what AppendBinary
// writes and nothing else; it fails with ErrInvalid. It does not look at the current time: see Check.
func DecodeEntry(b []byte) (e Entry, rest []byte, err error) {
	if len(b) < header {
		return Entry{}, b, fmt.Errorf("%w: %d bytes are too few", ErrInvalid, len(b))
	}
	r := record(b)
	if len(b) < r.size() {
		return Entry{}, b, fmt.Errorf("%w: %d bytes are too few for names of %d", ErrInvalid, len(b), r.size()-header)
	}
	f := r.fact()
	if f.before <= 0 || f.expires <= 0 || f.created < 0 {
		return Entry{}, b, fmt.Errorf("%w: it has a time before 1970", ErrInvalid)
	}
	e = f.entry()
	if again, err := e.fact(); err != nil {
		return Entry{}, b, err
	} else if again != f {
		return Entry{}, b, fmt.Errorf("%w: it has a time after 2200", ErrInvalid)
	}
	return e, b[r.size():], nil
}

func (f fact) size() int { return header + len(f.id) + len(f.issuer) }

func (f fact) append(b []byte) []byte {
	b = append(b, byte(f.kind))
	b = binary.BigEndian.AppendUint64(b, uint64(f.before))
	b = binary.BigEndian.AppendUint64(b, uint64(f.expires))
	b = binary.BigEndian.AppendUint64(b, uint64(f.created))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.id)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(f.issuer)))
	b = append(b, f.id...)
	return append(b, f.issuer...)
}

// record is memory that begins with an entry's binary form.
type record []byte

func (r record) before() int64  { return int64(binary.BigEndian.Uint64(r[1:])) }
func (r record) expires() int64 { return int64(binary.BigEndian.Uint64(r[9:])) }
func (r record) size() int {
	return header + int(binary.BigEndian.Uint16(r[25:])) + int(binary.BigEndian.Uint16(r[27:]))
}

// id and issuer are only valid as long as nobody writes to the memory; comparing them allocates nothing.
func (r record) id() []byte { return r[header : header+int(binary.BigEndian.Uint16(r[25:]))] }
func (r record) issuer() []byte {
	return r[header+int(binary.BigEndian.Uint16(r[25:])) : r.size()]
}

func (r record) fact() fact {
	return fact{
		kind: Kind(r[0]), id: string(r.id()), issuer: string(r.issuer()),
		before: r.before(), expires: r.expires(), created: int64(binary.BigEndian.Uint64(r[17:])),
	}
}

// names tells whether a record is of the id, for the issuer.
func (r record) names(id, issuer string) bool {
	return string(r.id()) == id && string(r.issuer()) == issuer
}

// covers tells whether a record revokes all that a fact does which differs in its times only.
func (r record) covers(f *fact) bool { return r.before() >= f.before && r.expires() >= f.expires }

// within is the reverse of covers.
func (r record) within(f *fact) bool { return r.before() <= f.before && r.expires() <= f.expires }

// revokes tells whether a record, of the kind and id that p has, revokes p's credential.
func (r record) revokes(id string, p *auth.Principal, now time.Time) bool {
	if string(r.id()) != id || now.UnixNano() >= r.expires() {
		return false
	}
	if issuer := r.issuer(); len(issuer) > 0 && string(issuer) != p.Method && string(issuer) != p.Issuer {
		return false
	}
	before := r.before()
	return before == everything || p.IssuedAt.IsZero() || p.IssuedAt.Before(time.Unix(0, before))
}
