package engine

import (
	"math/bits"
	"strconv"
	"time"

	"github.com/sluice-gateway/sluice/engine/wire"
)

// quotaFields says which fields tell clients how much they have left.
type quotaFields struct {
	legacy bool // X-RateLimit-Limit, -Remaining, -Reset
	ietf   bool // RateLimit-Policy, RateLimit: draft-ietf-httpapi-ratelimit-headers-10
}

// visible says whether clients are told of the i-th limit: nobody knows how one stands that was not asked.
func (m *metering) visible(i int) bool {
	return m.known(i) && !m.meters[i].hidden && !m.meters[i].rule.Shadow()
}

// known says whether the i-th limit was decided on: Redis may not have answered.
func (m *metering) known(i int) bool {
	v := m.remote.verdict(i)
	return v == nil || v.Known()
}

// closest is the limit that the client will reach first, or has reached; nil if there is none to tell of.
func (m *metering) closest() verdict {
	var closest verdict
	for i := range m.verdicts {
		v := m.verdict(i)
		switch {
		case !m.visible(i):
		case m.meters[i] == m.refused:
			return v
		case closest == nil || nearer(v, closest):
			closest = v
		}
	}
	return closest
}

// nearer compares what is left as shares of the limits.
func nearer(a, b verdict) bool {
	aHi, aLo := bits.Mul64(uint64(a.Remaining()), uint64(b.Limit()))
	bHi, bLo := bits.Mul64(uint64(b.Remaining()), uint64(a.Limit()))
	return aHi < bHi || aHi == bHi && aLo < bLo
}

// appendQuota appends the fields that tell how the request was counted.
func (x *exchange) appendQuota(dst []byte, legacy bool) []byte {
	m := &x.metering
	closest := m.closest()
	if closest == nil {
		return dst
	}
	if legacy && x.snap.quota.legacy {
		dst = append(dst, "X-RateLimit-Limit: "...)
		dst = strconv.AppendInt(dst, closest.Limit(), 10)
		dst = append(dst, "\r\nX-RateLimit-Remaining: "...)
		dst = strconv.AppendInt(dst, closest.Remaining(), 10)
		dst = append(dst, "\r\nX-RateLimit-Reset: "...)
		dst = strconv.AppendInt(dst, wholeSeconds(restored(closest)), 10)
		dst = append(dst, "\r\n"...)
	}
	if !x.snap.quota.ietf {
		return dst
	}
	dst = append(dst, "RateLimit-Policy: "...)
	dst = m.appendList(dst, func(dst []byte, v verdict) []byte {
		dst = append(dst, ";q="...)
		dst = strconv.AppendInt(dst, v.Limit(), 10)
		dst = append(dst, ";w="...)
		return strconv.AppendInt(dst, max(wholeSeconds(v.Window()), 1), 10)
	})
	dst = append(dst, "RateLimit: "...)
	return m.appendList(dst, func(dst []byte, v verdict) []byte {
		dst = append(dst, ";r="...)
		dst = strconv.AppendInt(dst, v.Remaining(), 10)
		dst = append(dst, ";t="...)
		return strconv.AppendInt(dst, wholeSeconds(restored(v)), 10)
	})
}

// appendList appends a List of Strings with parameters (RFC 9651), one for each visible limit. Names of
// limits need no escaping.
func (m *metering) appendList(dst []byte, parameters func([]byte, verdict) []byte) []byte {
	separator := ""
	for i := range m.verdicts {
		if !m.visible(i) {
			continue
		}
		dst = append(dst, separator...)
		dst = append(dst, '"')
		dst = append(dst, m.meters[i].rule.Name()...)
		dst = append(dst, '"')
		dst = parameters(dst, m.verdict(i))
		separator = ", "
	}
	return append(dst, "\r\n"...)
}

// restored is when more is to be had: all of the limit, or, after a refusal, what was refused.
func restored(v verdict) time.Duration {
	if wait := v.RetryAfter(); wait > 0 {
		return wait
	}
	return v.Reset()
}

// appendRetryAfter appends how long a refused client shall wait: never less than it must, and a little more
// at random, so that those who were refused together do not come back together.
func (x *exchange) appendRetryAfter(dst []byte) []byte {
	var wait time.Duration
	for i := range x.metering.verdicts {
		if !x.metering.meters[i].rule.Shadow() && x.metering.refuses(i) {
			wait = max(wait, x.metering.verdict(i).RetryAfter())
		}
	}
	seconds := max(wholeSeconds(wait), 1)
	spread, _ := bits.Mul64(x.conn.engine.random(), uint64(seconds/10+2))
	dst = append(dst, "Retry-After: "...)
	dst = strconv.AppendInt(dst, seconds+int64(spread), 10)
	return append(dst, "\r\n"...)
}

func wholeSeconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

// stricter says whether the target's own X-RateLimit fields leave less than ours do: then they stay, and
// ours are not sent. Two sets in one answer would tell nobody anything.
func (x *exchange) stricter(fields []wire.Field) bool {
	closest := x.metering.closest()
	if closest == nil || !x.snap.quota.legacy {
		return true
	}
	for _, f := range fields {
		if wire.EqualFold(f.Name, "x-ratelimit-remaining") {
			theirs, err := strconv.ParseInt(string(f.Value), 10, 64)
			return err == nil && theirs >= 0 && theirs < closest.Remaining()
		}
	}
	return false
}
