-- Take everything a shard's inbox holds.
--
-- KEYS[1] pending    zset    run id -> ms at which it was first announced
-- KEYS[2] scheduled  string  the flush marker
-- KEYS[3] claims     zset    claim token -> ms at which it was claimed
-- KEYS[4] claim      zset    what pending becomes: a name nobody else has, so no earlier claim is overwritten
-- ARGV[1] the claim's token
-- Returns {now in ms, id, ms, id, ms, ...}; only the time where nothing was pending.
--
-- The marker goes in the same step that empties the inbox: whoever announces afterwards finds it free and sends the
-- next flush message, so no id is left without one.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[2])
if redis.call('EXISTS', KEYS[1]) == 0 then return { now } end
redis.call('RENAME', KEYS[1], KEYS[4])
redis.call('ZADD', KEYS[3], now, ARGV[1])
local claimed = redis.call('ZRANGE', KEYS[4], 0, -1, 'WITHSCORES')
table.insert(claimed, 1, now)
return claimed
