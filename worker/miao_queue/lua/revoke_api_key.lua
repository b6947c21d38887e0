-- Revoke an API key, once and for all; it is remembered for a while.
-- KEYS: the key's hash. ARGV: the time, ms; for how long to remember it, ms; how many records the
-- audit keeps, 0 for none; who revokes, what, and the key's id. The audit is not among the KEYS,
-- which a script must be allowed to read: who runs this may only write it.
-- Returns 1 if there is such a key.
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if redis.call('HSETNX', KEYS[1], 'revoked_ms', ARGV[1]) == 1 then
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 or left > tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
  if tonumber(ARGV[3]) > 0 then
    local tenant = redis.call('HGET', KEYS[1], 'tenant')
    redis.call('XADD', 'miao:audit', 'MAXLEN', '~', ARGV[3], '*', 't', ARGV[1], 'tenant', tenant,
      'credential', ARGV[4], 'action', ARGV[5], 'outcome', 'OK', 'target', ARGV[6])
  end
end
return 1
