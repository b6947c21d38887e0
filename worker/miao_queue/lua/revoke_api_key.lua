-- Revoke an API key, once and for all; it is remembered for a while.
-- KEYS: the key's hash. ARGV: the time, ms; for how long to remember it, ms.
-- Returns 1 if there is such a key.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('HSETNX', KEYS[1], 'revoked_ms', ARGV[1]) == 1 then
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 or left > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
end
return 1
