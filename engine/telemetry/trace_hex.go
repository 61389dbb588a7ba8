package telemetry

import "encoding/binary"

// Ids are read and written eight digits at a time, in one word: each byte of it a digit. A loop over digits
// would cost more than all else that a request without a span needs.
const (
	eachByte = 0x0101010101010101
	nibbles  = 0x0f * eachByte
)

// putHex writes n as 16 lower-case hexadecimal digits.
func putHex(dst []byte, n uint64) {
	binary.BigEndian.PutUint64(dst[8:16], digits(scatter(uint32(n)))) // #nosec G115 -- the low half
	binary.BigEndian.PutUint64(dst[:8], digits(scatter(uint32(n>>32))))
}

// AppendHex appends n as 16 lower-case hexadecimal digits.
func AppendHex(dst []byte, n uint64) []byte {
	dst = append(dst, "0123456789abcdef"...) // room for them
	putHex(dst[len(dst)-16:], n)
	return dst
}

// parseHex reads 16 lower-case hexadecimal digits.
func parseHex(b []byte) (n uint64, ok bool) {
	high, okHigh := values(binary.BigEndian.Uint64(b[:8]))
	low, okLow := values(binary.BigEndian.Uint64(b[8:16]))
	return uint64(gather(high))<<32 | uint64(gather(low)), okHigh && okLow
}

// scatter gives each of a number's eight nibbles a byte.
func scatter(n uint32) uint64 {
	x := uint64(n)
	x = x&0xffff0000<<16 | x&0x0000ffff
	x = x&0xff000000ff00<<8 | x&0x00ff000000ff
	return x&0x00f000f000f000f0<<4 | x&0x000f000f000f000f
}

// gather undoes scatter.
func gather(x uint64) uint32 {
	x = (x>>4 | x) & 0x00ff00ff00ff00ff
	x = (x>>8 | x) & 0x0000ffff0000ffff
	return uint32(x>>16 | x)
}

// digits turns nibbles into their digits: those above 9 are 39 further on.
func digits(x uint64) uint64 {
	letters := (x + 6*eachByte) >> 4 & eachByte
	return x + '0'*eachByte + letters*('a'-'0'-10)
}

// values turns digits into nibbles. Whatever does not come back when it is written again was no digit.
func values(d uint64) (x uint64, ok bool) {
	x = d&nibbles + d>>6&eachByte*9
	return x, x&^nibbles == 0 && digits(x) == d
}
