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

// The scripts share the way in which they read the clock and the bucket. ARGV[1] is the time in microseconds
// of Unix time; empty, as it is always but in tests, it is the server's.
//
// A state is kind:a:b:c:d:e. Of the two buckets (kind t or l), a and b are the time when the bucket is full again,
// in microseconds and parts of one, of which there are c, d is the microseconds of a token, and e of the size. Of the
// windows (f or s), a is a window's number, b and c are the counts of it and of the one before, d is its length, and e
// the limit.
const scriptClock = `
local now = tonumber(ARGV[1])
if not now then
  local t = redis.call('TIME')
  now = t[1] * 1000000 + t[2]
end
`

// takeScript decides on a request. KEYS are its buckets; ARGV[2] is "take" or "look", which changes nothing; then
// for each key follow nine arguments: whether the rule is a shadow (1 or 0), the field, the kind, and
//
//	t, l: increase in microseconds, its parts, size, its parts, parts in a microsecond, microseconds of a token
//	f, s: length of a window, limit, cost, how many windows a bucket may be ahead of the clock, two unused
//
// It returns the time, and for each key whether the rule admits the request (1 or 0) and the state, which is the one
// after the request if all agree, else the one that was found.
const takeScript = scriptClock + `
-- owed is how many tokens a bucket lacks that another version of the rule wrote.
local function owed(kind, a, b, c, d)
  if kind == 't' or kind == 'l' then
    return math.max(a - now + b / c, 0) / d
  end
  local number = (now - math.fmod(now, d)) / d
  if a == number then
    if kind == 's' then b = b + c * (d - math.fmod(now, d)) / d end
    return b
  end
  if kind == 's' and a == number - 1 then return b * (d - math.fmod(now, d)) / d end
  return 0
end

local function find(key, o)
  local text = redis.call('HGET', key, ARGV[o + 1])
  if not text then return nil end
  local kind, a, b, c, d, e = string.match(text, '^([tlfs]):(%d+):(%d+):(%d+):([^:]+):(%d+)$')
  if not kind then return nil end
  return kind, tonumber(a), tonumber(b), tonumber(c), tonumber(d), d, e
end

-- A bucket: GCRA. Times are pairs, of microseconds and parts.
local function bucket(key, o)
  local increase, incparts = tonumber(ARGV[o + 3]), tonumber(ARGV[o + 4])
  local size, sizeparts = tonumber(ARGV[o + 5]), tonumber(ARGV[o + 6])
  local parts = tonumber(ARGV[o + 7])
  local leaky = ARGV[o + 2] == 'l'
  local full, fullparts = now, 0
  local slack = 0
  local kind, a, b, c, d, each, held = find(key, o)
  if kind then
    if (kind == 't' or kind == 'l') and c == parts and each == ARGV[o + 8] then
      full, fullparts = a, b
      if held == ARGV[o + 5] then slack = 60000000 end
    else
      local lack = owed(kind, a, b, c, d) * tonumber(ARGV[o + 8])
      if lack < 2^53 - now then
        full = now + math.floor(lack)
        fullparts = math.ceil((lack - math.floor(lack)) * parts)
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
  return {
    ok = ok, found = {full, fullparts, 0}, new = {new, newparts, 0},
    text = string.format('%s:%.0f:%.0f:%s:%s:%s', ARGV[o + 2], new, newparts, ARGV[o + 7], ARGV[o + 8], ARGV[o + 5]),
    ends = math.floor(new / 1000) + 1,
  }
end

-- product is a * b as two digits of base 2^26; a is below 2^26, b below 2^52.
local function product(a, b)
  local low = math.fmod(b, 67108864)
  local high = (b - low) / 67108864
  low = low * a
  local digit = math.fmod(low, 67108864)
  return high * a + (low - digit) / 67108864, digit
end

local function window(key, o)
  local length, limit, cost = tonumber(ARGV[o + 3]), tonumber(ARGV[o + 4]), tonumber(ARGV[o + 5])
  local sliding = ARGV[o + 2] == 's'
  local passed = math.fmod(now, length)
  local number = (now - passed) / length
  local left, current, previous = length - passed, 0, 0
  local kind, a, b, c, d = find(key, o)
  if kind then
    local same = (kind == 'f' or kind == 's') and d == length
    if same and a >= number and a - number <= tonumber(ARGV[o + 6]) then
      if a > number then left = length end
      number, current = a, b
      if sliding and kind == 's' then previous = c end
      if not sliding and kind == 's' then current = math.ceil(b + c * left / length) end
    elseif same and sliding and kind == 's' and a == number - 1 then
      previous = b
    elseif not same then
      current = math.ceil(owed(kind, a, b, c, d))
    end
  end
  current, previous = math.min(current, limit), math.min(previous, limit)
  local room = limit - current - cost
  local ok = room >= 0
  if ok and sliding then
    local high, low = product(previous, left)
    local roomhigh, roomlow = product(room, length)
    ok = high < roomhigh or high == roomhigh and low <= roomlow
  end
  local lasts = number + 1
  if sliding then lasts = number + 2 end
  return {
    ok = ok, found = {number, current, previous}, new = {number, current + cost, previous},
    text = string.format('%s:%.0f:%.0f:%.0f:%s:%s', ARGV[o + 2], number, current + cost, previous, ARGV[o + 3], ARGV[o + 4]),
    ends = math.ceil(lasts * length / 1000) + 1,
  }
end

local steps, admitted = {}, true
for i = 1, #KEYS do
  local o = 3 + (i - 1) * 9
  local kind = ARGV[o + 2]
  if kind == 't' or kind == 'l' then
    steps[i] = bucket(KEYS[i], o)
  else
    steps[i] = window(KEYS[i], o)
  end
  admitted = admitted and (steps[i].ok or ARGV[o] == '1')
end
local reply = {now}
for i = 1, #KEYS do
  local s = steps[i]
  local state, ok = s.found, 0
  if s.ok then ok = 1 end
  if s.ok and admitted and ARGV[2] == 'take' then
    state = s.new
    redis.call('HSET', KEYS[i], ARGV[4 + (i - 1) * 9], s.text)
    local ttl = redis.call('PTTL', KEYS[i])
    if ttl < 0 or now / 1000 + ttl < s.ends then redis.call('PEXPIREAT', KEYS[i], s.ends) end
  end
  reply[#reply + 1] = ok
  for j = 1, 3 do reply[#reply + 1] = state[j] end
end
return reply
`

// undoScript gives back what a request took from one bucket. ARGV are the time, the field, the state that the
// request left behind as it is in Redis, and
//
//	t, l: increase in microseconds, its parts
//	f, s: cost
//
// What the rate has granted since is not given back a second time, a turn only while it is the last one, and nothing
// that another version of the rule has counted anew. It returns 1 if something was given back.
const undoScript = scriptClock + `
local text = redis.call('HGET', KEYS[1], ARGV[2])
if not text then return 0 end
local pattern = '^([tlfs]):(%d+):(%d+):(%d+):([^:]+):(%d+)$'
local kind, a, b, c, d, e = string.match(text, pattern)
local theirkind, x, y, z, w = string.match(ARGV[3], pattern)
if kind ~= theirkind or d ~= w then return 0 end
a, b, c, x, y, z = tonumber(a), tonumber(b), tonumber(c), tonumber(x), tonumber(y), tonumber(z)
if kind == 'f' or kind == 's' then
  local cost = tonumber(ARGV[4])
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
  local increase, incparts = tonumber(ARGV[4]), tonumber(ARGV[5])
  if refund > increase or refund == increase and parts > incparts then refund, parts = increase, incparts end
  a, b = a - refund, b - parts
  if b < 0 then a, b = a - 1, b + c end
  if a < 0 then return 0 end
end
redis.call('HSET', KEYS[1], ARGV[2], string.format('%s:%.0f:%.0f:%.0f:%s:%s', kind, a, b, c, d, e))
return 1
`
