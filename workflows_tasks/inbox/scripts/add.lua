-- Put run ids in a shard's inbox and take its flush marker if that is free.
--
-- KEYS[1] pending    zset    run id -> ms (server clock) at which it was first announced
-- KEYS[2] scheduled  string  present while a flush message is under way; expires
-- KEYS[3] stats      hash    counters
-- ARGV[1] most ids the inbox may hold
-- ARGV[2] ms the marker lives; 0 takes no marker
-- ARGV[3] n, how many counters this process could not tell before
-- ARGV[4...] n pairs of counter and count; then run ids
-- Returns {1 if the caller must send the flush message, ids dropped because the inbox is full}.
--
-- An id that waits already keeps its first time: the lag shown is that of the oldest change, and saving a run twenty
-- times costs one entry.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local room = math.max(ARGV[1] - redis.call('ZCARD', KEYS[1]), 0)
local dropped = 0
local first = 4 + 2 * ARGV[3]
for i = first, #ARGV do
  if room > 0 then
    room = room - redis.call('ZADD', KEYS[1], 'NX', now, ARGV[i])
  elseif not redis.call('ZSCORE', KEYS[1], ARGV[i]) then
    dropped = dropped + 1
  end
end
-- A counter that somebody made no number must not keep anybody from announcing.
if dropped > 0 then redis.pcall('HINCRBY', KEYS[3], 'dropped', dropped) end
for i = 4, first - 2, 2 do redis.pcall('HINCRBY', KEYS[3], ARGV[i], ARGV[i + 1]) end
if ARGV[2] ~= '0' and redis.call('SET', KEYS[2], now, 'NX', 'PX', ARGV[2]) then
  return { 1, dropped }
end
return { 0, dropped }
