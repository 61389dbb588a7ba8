package central

import (
	"crypto/sha1"
	"encoding/hex"
)

// script is a Lua script, and what Redis knows it by.
type script struct{ text, sha string }

func newScript(text string) script {
	sum := sha1.Sum([]byte(text))
	return script{text, hex.EncodeToString(sum[:])}
}

// The scripts share the way in which they read the clock and a bucket. ARGV[1] is the time in microseconds of Unix
// time; empty, as it is always but in tests, it is the server's.
//
// What is more than one number is packed: a letter and float64 numbers, big-endian, which costs Redis less than text does.
// A state is a kind and a, b, c, d, e, f. Of the two buckets (kind t or l), a and b are the time when the bucket is full again,
// in microseconds and parts of one, of which there are c, d is the microseconds of a token, and e of the size. Of the
// windows (f or s), a is a window's number, b and c are the counts of it and of the one before, d is its length, and e
// the limit. f is when the key ends, at the earliest, in milliseconds: later than there is need, so that the end need not
// be moved with every request.
//
// A policy is a kind, whether the rule is a shadow (y or n), and
//
//	t, l: increase in microseconds, its parts, size, its parts, parts in a microsecond, microseconds of a token
//	f, s: length of a window, limit, cost, how many windows a bucket may be ahead of the clock, 0, 0
const scriptClock = `
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
`

// takeScript decides on a request. KEYS are its buckets; ARGV[2] is "take" or "look", which changes nothing; then for each
// key follow the field and the policy. It returns the time, and for each key whether the rule admits the request (1 or 0)
// and the state, which is the one after the request if all agree, else the one that was found.
const takeScript = scriptClock + `
local pack, unpack = struct.pack, struct.unpack
local floor, ceil, fmod = math.floor, math.ceil, math.fmod

-- owed is how many tokens a bucket lacks that another version of the rule wrote.
local function owed(kind, a, b, c, d)
  if kind == 't' or kind == 'l' then
    return math.max(a - now + b / c, 0) / d
  end
  local number = (now - fmod(now, d)) / d
  if a == number then
    if kind == 's' then b = b + c * (d - fmod(now, d)) / d end
    return b
  end
  if kind == 's' and a == number - 1 then return b * (d - fmod(now, d)) / d end
  return 0
end

-- A bucket: GCRA. Times are pairs, of microseconds and parts.
local function bucket(text, mine, increase, incparts, size, sizeparts, parts, token)
  local leaky = mine == 'l'
  local full, fullparts = now, 0
  local slack = 0
  if text then
    local kind, a, b, c, d, e = unpack('>c1ddddd', text)
    if (kind == 't' or kind == 'l') and c == parts and d == token then
      full, fullparts = a, b
      if e == size then slack = 60000000 end
    else
      local lack = owed(kind, a, b, c, d) * token
      if lack < 2^53 - now then
        full = now + floor(lack)
        fullparts = ceil((lack - floor(lack)) * parts)
        if fullparts >= parts then full, fullparts = full + 1, 0 end
      else
        full = 2^53
      end
    end
  end
  local most, mostparts = size, sizeparts
  if leaky then
    most, mostparts = most + increase, mostparts + incparts
    if mostparts >= parts then most, mostparts = most + 1, mostparts - parts end
  end
  if full - now > most + slack or slack == 0 and full - now == most and fullparts > mostparts then
    full, fullparts = now + most, mostparts -- the rule holds less now, or the clock was set back by more than a minute
  end
  if full < now then full, fullparts = now, 0 end
  local new, newparts = full + increase, fullparts + incparts
  if newparts >= parts then new, newparts = new + 1, newparts - parts end
  local wait, waitparts = new - now, newparts
  if leaky then wait, waitparts = full - now, fullparts end
  local ok = wait < size or wait == size and waitparts <= sizeparts
  return ok, full, fullparts, 0, new, newparts, 0, parts, token, size, floor(new / 1000) + 1
end

-- product is a * b as two digits of base 2^26; a is below 2^26, b below 2^52.
local function product(a, b)
  local low = fmod(b, 67108864)
  local high = (b - low) / 67108864
  low = low * a
  local digit = fmod(low, 67108864)
  return high * a + (low - digit) / 67108864, digit
end

local function window(text, mine, length, limit, cost, ahead)
  local sliding = mine == 's'
  local passed = fmod(now, length)
  local number = (now - passed) / length
  local left, current, previous = length - passed, 0, 0
  if text then
    local kind, a, b, c, d = unpack('>c1ddddd', text)
    local same = (kind == 'f' or kind == 's') and d == length
    if same and a >= number and a - number <= ahead then
      if a > number then left = length end
      number, current = a, b
      if sliding and kind == 's' then previous = c end
      if not sliding and kind == 's' then current = ceil(b + c * left / length) end
    elseif same and sliding and kind == 's' and a == number - 1 then
      previous = b
    elseif not same then
      current = ceil(owed(kind, a, b, c, d))
    end
    current, previous = math.min(current, limit), math.min(previous, limit)
  end
  local room = limit - current - cost
  local ok = room >= 0
  if ok and previous > 0 then
    local high, low = product(previous, left)
    local roomhigh, roomlow = product(room, length)
    ok = high < roomhigh or high == roomhigh and low <= roomlow
  end
  local lasts = number + 1
  if sliding then lasts = number + 2 end
  return ok, number, current, previous, number, current + cost, previous, previous, length, limit, ceil(lasts * length / 1000) + 1
end

local reply, steps, admitted = {now}, {}, true
for i = 1, #KEYS do
  local key, field = KEYS[i], ARGV[1 + 2 * i]
  local kind, shadow, p1, p2, p3, p4, p5, p6 = unpack('>c1c1dddddd', ARGV[2 + 2 * i])
  local text = redis.call('HGET', key, field)
  if text and #text ~= 49 then text = nil end
  local decide = window
  if kind == 't' or kind == 'l' then decide = bucket end
  local ok, a, b, c, na, nb, nc, x, y, z, ends = decide(text, kind, p1, p2, p3, p4, p5, p6)
  local n = 4 * i
  reply[n - 2], reply[n - 1], reply[n], reply[n + 1] = 0, a, b, c
  if ok then
    reply[n - 2] = 1
    local lasts = text and unpack('>d', text, 42) or 0
    if lasts < ends then
      lasts = 2 * ends - floor(now / 1000) + 1000
      ends = lasts
    else
      ends = nil
    end
    steps[#steps + 1] = {n, key, field, na, nb, nc, pack('>c1dddddd', kind, na, nb, x, y, z, lasts), ends}
  elseif shadow == 'n' then
    admitted = false
  end
end
if admitted and ARGV[2] == 'take' then
  for _, s in ipairs(steps) do
    local n, key, ends = s[1], s[2], s[8]
    reply[n - 1], reply[n], reply[n + 1] = s[4], s[5], s[6]
    redis.call('HSET', key, s[3], s[7])
    if ends then
      local ttl = redis.call('PTTL', key)
      if ttl < 0 or now / 1000 + ttl < ends then redis.call('PEXPIREAT', key, ends) end
    end
  end
end
return reply
`

// undoScript gives back what a request took from one bucket. ARGV are the time, the field, the state that the request
// left behind, and the policy that it was counted by. What the rate has granted since is not given back a second time, a
// turn only while it is the last one, and nothing that another version of the rule has counted anew. It returns 1 if
// something was given back.
const undoScript = scriptClock + `
local text = redis.call('HGET', KEYS[1], ARGV[2])
if not text or #text ~= 49 then return 0 end
local kind, a, b, c, d, e, f = struct.unpack('>c1dddddd', text)
local mine, x, y, z, w = struct.unpack('>c1ddddd', ARGV[3])
local _, _, increase, incparts, cost = struct.unpack('>c1c1dddddd', ARGV[4])
if kind ~= mine or d ~= w then return 0 end
if kind == 'f' or kind == 's' then
  if a == x then
    b = math.max(b - cost, 0)
  elseif kind == 's' and a == x + 1 then
    c = math.max(c - cost, 0)
  else
    return 0
  end
else
  if c ~= z or kind == 'l' and (a ~= x or b ~= y) then return 0 end
  local refund, parts = x - now, y
  if refund < 0 then return 0 end
  if refund > increase or refund == increase and parts > incparts then refund, parts = increase, incparts end
  a, b = a - refund, b - parts
  if b < 0 then a, b = a - 1, b + c end
  if a < 0 then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[2], struct.pack('>c1dddddd', kind, a, b, c, d, e, f))
return 1
`
