-- Add ids to a claim, and begin its lease anew.
--
-- KEYS[1] claim   zset  the claim's run ids -> ms at which they were announced
-- KEYS[2] claims  zset  claim token -> ms at which it was claimed or last extended
-- ARGV[1] the claim's token
-- ARGV[2...] ids
-- Returns 1, or 0 if the claim was put back meanwhile: its flush has outlived its lease and must not write.
local claimed = redis.call('ZSCORE', KEYS[2], ARGV[1])
if not claimed then return 0 end
-- Removed and added, not only updated: Redis without memory takes no first write but one that frees some, and a flush
-- that cannot extend its claim could never acknowledge it, which is what frees memory.
redis.call('ZREM', KEYS[2], ARGV[1])
for i = 2, #ARGV do redis.call('ZADD', KEYS[1], 'NX', claimed, ARGV[i]) end
local time = redis.call('TIME')
redis.call('ZADD', KEYS[2], time[1] * 1000 + math.floor(time[2] / 1000), ARGV[1])
return 1
