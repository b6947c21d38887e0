-- Say that a worker lives; forget those that have not for a while.
-- ARGV: model, worker, ttl ms.
ignore_memory_limit()
local key, now, ttl = 'miao:workers:' .. ARGV[1], now_ms(), tonumber(ARGV[3])
redis.call('ZADD', key, now + ttl, ARGV[2])
redis.call('ZREMRANGEBYSCORE', key, '-inf', now - ttl)
return 0
