-- Put claims back in the inbox: failed ones, and those whose worker is gone.
--
-- KEYS[1] pending  zset  run id -> ms at which it was first announced
-- KEYS[2] claims   zset  claim token -> ms at which it was claimed
-- KEYS[3] stats    hash  counters
-- KEYS[4...] claim zsets, one for each token in ARGV
-- ARGV[1...] tokens
-- Returns how many claims were put back. An id keeps the earlier of its two times, so its lag is not hidden.
local released = 0
for i, token in ipairs(ARGV) do
  if redis.call('ZREM', KEYS[2], token) == 1 then
    local claim = KEYS[3 + i]
    redis.call('ZUNIONSTORE', KEYS[1], 2, KEYS[1], claim, 'AGGREGATE', 'MIN')
    redis.call('UNLINK', claim)
    released = released + 1
  end
end
if released > 0 then redis.call('HINCRBY', KEYS[3], 'released', released) end
return released
