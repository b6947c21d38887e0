-- Pop the next job of several queues and claim it, in one step: nothing is
-- between the queue and its owner that a crash could lose.
-- KEYS: the queues' lists, the most urgent first. ARGV: worker, owner, lease ms,
-- then for each list: its model, and the digests of the vocabulary and of the
-- weights that the worker has of it, empty where it does not care.
-- What another live worker alone can go on with, since its tokens are of another
-- vocabulary or its output was begun with other weights, is left to that one.
-- Returns nil (all are empty), {'suspended'} (by `rq suspend`), {'stale', id} (an
-- entry that must not run), or {'claimed', id, now, the state as HGETALL gives
-- it, the journal's entries}.
local worker, owner, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local most_looked_at = 100
local now = now_ms()
if redis.call('EXISTS', 'rq:suspended') == 1 then return {'suspended'} end

local function is_left_to_another(id, model, vocabulary, weights)
  if not model then return false end
  local needs = redis.call('HMGET', gen_key(id), 'vocabulary', 'weights', 'tokens')
  local function lacks(needed, have)
    return needed and needed ~= '' and have ~= '' and needed ~= have
  end
  if lacks(needs[1], vocabulary) then return is_held(model, needs[1], now) end
  return needs[3] ~= '0' and lacks(needs[2], weights) and is_held(model, needs[2], now)
end

-- Pop the first of a list that this worker may run; the others keep their places.
local function pop(queue, model, vocabulary, weights)
  local left, id = {}, nil
  while #left < most_looked_at do
    id = redis.call('LPOP', queue)
    if not id or not is_left_to_another(id, model, vocabulary, weights) then break end
    left[#left + 1], id = id, nil
  end
  for i = #left, 1, -1 do redis.call('LPUSH', queue, left[i]) end
  return id
end

for i, queue in ipairs(KEYS) do
  local model, vocabulary, weights = unpack(ARGV, 3 * i + 1, 3 * i + 3)
  local id = pop(queue, model, vocabulary, weights)
  if id then
    local gen = gen_key(id)
    if redis.call('HGET', gen, 'status') ~= 'queued' then return {'stale', id} end
    if weights and redis.call('HGET', gen, 'tokens') == '0' then
      redis.call('HSET', gen, 'weights', weights)  -- what its output is begun with
    end
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
