-- Pop the next job of several queues and claim it, in one step: nothing is
-- between the queue and its owner that a crash could lose.
-- KEYS: the queues' lists, the most urgent first. ARGV: worker, owner, lease ms.
-- Returns nil (all are empty), {'suspended'} (by `rq suspend`), {'stale', id} (an
-- entry that must not run), or {'claimed', id, now, the state as HGETALL gives
-- it, the journal's entries}.
local worker, owner, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
if redis.call('EXISTS', 'rq:suspended') == 1 then return {'suspended'} end
for _, queue in ipairs(KEYS) do
  local id = redis.call('LPOP', queue)
  if id then
    local gen = gen_key(id)
    if redis.call('HGET', gen, 'status') ~= 'queued' then return {'stale', id} end
    local now = now_ms()
    redis.call('HINCRBY', gen, 'attempt', 1)
    redis.call('HSET', gen, 'status', 'running', 'owner', owner, 'worker', worker)
    redis.call('HSETNX', gen, 'claimed_ms', now)
    redis.call('ZADD', 'miao:leases', now + lease, id)
    redis.call('ZREM', 'miao:waiting', id)
    return {'claimed', id, now, redis.call('HGETALL', gen),
            redis.call('XRANGE', journal_key(id), '-', '+')}
  end
end
return nil
