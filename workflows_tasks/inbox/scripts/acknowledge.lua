-- Forget the part of a claim that has been written, and count it.
--
-- KEYS[1] claim   zset  the claim's run ids
-- KEYS[2] claims  zset  claim token -> ms at which it was claimed
-- KEYS[3] aside   hash  run id -> JSON: why it was set aside
-- KEYS[4] stats   hash  counters
-- ARGV[1] the claim's token
-- ARGV[2] how many (id, reason) pairs to set aside; they follow
-- ARGV[.] how many (counter, increment) pairs follow
-- ARGV[.] the remaining arguments are the ids to forget
-- Returns the ids the claim still has. A claim that another took over in the meantime is gone: then nothing happens to
-- its ids, which is right, for they are in that other's hands.
--
-- Redis without memory refuses a script's first write unless it is one that frees some, and none after that. So the
-- ids go first: an inbox that fills Redis must still drain.
local at = 2
local function pairs_at()
  local n = tonumber(ARGV[at])
  local first = at + 1
  at = first + 2 * n
  return first, at - 1
end
local first_aside, last_aside = pairs_at()
local first_counter, last_counter = pairs_at()
-- A thousand at a time: one call for each takes twice as long, and Lua's stack holds no more than some thousands.
for i = at, #ARGV, 1000 do redis.call('ZREM', KEYS[1], unpack(ARGV, i, math.min(i + 999, #ARGV))) end
for i = first_aside, last_aside, 2 do
  redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('HSET', KEYS[3], ARGV[i], ARGV[i + 1])
end
for i = first_counter, last_counter, 2 do redis.call('HINCRBYFLOAT', KEYS[4], ARGV[i], ARGV[i + 1]) end
if at <= #ARGV then
  local time = redis.call('TIME')
  redis.call('HSET', KEYS[4], 'last_flush_ms', time[1] * 1000 + math.floor(time[2] / 1000))
end
local left = redis.call('ZCARD', KEYS[1])
if left == 0 then redis.call('ZREM', KEYS[2], ARGV[1]) end
return left
