-- Move everything that was set aside back to pending.
--
-- KEYS[1] aside    hash  run id -> JSON: why it was set aside
-- KEYS[2] pending  zset  run id -> ms at which it was first announced
-- Returns how many ids were moved.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local runs = redis.call('HKEYS', KEYS[1])
for _, run in ipairs(runs) do redis.call('ZADD', KEYS[2], 'NX', now, run) end
redis.call('DEL', KEYS[1])
return #runs
