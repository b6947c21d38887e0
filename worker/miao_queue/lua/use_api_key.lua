-- Note when an API key was last used, unless it is gone.
-- KEYS: the key's hash. ARGV: the time, ms.
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], 'used_ms', ARGV[1]) end
return 0
