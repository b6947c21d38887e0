-- Pop the next job of several queues and claim it, in one step: nothing is
-- between the queue and its owner that a crash could lose.
-- KEYS: the queues' lists, the most urgent first. ARGV: worker, owner, lease ms,
-- how long something less urgent waits before it may go first, ms (empty: it may not, this
-- time), the count of tenants that get nothing this time and their names, then for each
-- list: its queue, its model, and the digests of the vocabulary and of the weights that
-- the worker has of it, empty where it does not care.
-- Within a queue the tenant comes first that was served the fewest virtual tokens, with
-- its oldest generation. What another live worker alone can go on with, since its tokens
-- are of another vocabulary or its output was begun with other weights, is left to that one.
-- Returns nil (there is nothing for it), {'suspended'} (by `rq suspend`), {'stale', id} (an
-- entry that must not run), or {'claimed', id, now, the state as HGETALL gives
-- it, the journal's entries, whether it went before something more urgent}.
local worker, owner, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local aging_ms = tonumber(ARGV[4])
local most_looked_at, most_tenants = 100, 64
local now = now_ms()
if redis.call('EXISTS', 'rq:suspended') == 1 then return {'suspended'} end
ignore_memory_limit()

local barred, at = {}, 6 + tonumber(ARGV[5])
for i = 6, at - 1 do barred[ARGV[i]] = true end
local sources = {}
for i, list in ipairs(KEYS) do
  local queue, model, vocabulary, weights = unpack(ARGV, at + 4 * i - 4, at + 4 * i - 1)
  sources[i] = {list = list, queue = queue, model = model, vocabulary = vocabulary,
    weights = weights}
end

-- Let those at the head of RQ's list stand in line who do not: others than we have put
-- them there. Returns the first that is no waiting generation, taken out.
local function tidy(source)
  for i = 0, most_looked_at - 1 do
    local id = redis.call('LINDEX', source.list, i)
    if not id then return nil end
    local state = redis.call('HMGET', gen_key(id), 'status', 'line')
    if state[1] ~= 'queued' then
      redis.call('LREM', source.list, 1, id)
      if state[2] then leave_line(id, source.queue, state[2]) end
      return id
    end
    if state[2] and redis.call('LPOS', line_key(source.queue, state[2]), id) then return nil end
    stand_in_line(id, false)
  end
end

local function is_left_to_another(source, state)
  local function lacks(needed, have)
    return needed and needed ~= '' and have ~= '' and needed ~= have
  end
  if lacks(state[3], source.vocabulary) then return is_held(source.model, state[3], now) end
  return state[5] ~= '0' and lacks(state[4], source.weights)
    and is_held(source.model, state[4], now)
end

-- The first of a queue, in the tenants' order, that this worker may run: id, line, acceptance.
local function find(source)
  local looked_at = 0
  for _, tenant in ipairs(redis.call('ZRANGE', turns_key(source.queue), 0, most_tenants - 1)) do
    local line, place = line_key(source.queue, tenant), 0
    while looked_at < most_looked_at and not barred[tenant] do
      local id = redis.call('LINDEX', line, place)
      if not id then
        if place == 0 then redis.call('ZREM', turns_key(source.queue), tenant) end
        break
      end
      looked_at = looked_at + 1
      local state = redis.call('HMGET', gen_key(id), 'status', 'tenant', 'vocabulary', 'weights',
        'tokens', 'accept_ms')
      if state[1] ~= 'queued' then
        leave_line(id, source.queue, tenant)  -- another took it out of RQ's list
      elseif barred[state[2]] or is_left_to_another(source, state) then
        place = place + 1
      else
        return id, tenant, tonumber(state[6])
      end
    end
  end
end

-- Take an entry out of RQ's list, searched from the end that is nearer in time.
local function take_out(list, id, accept_ms)
  local from = 1
  if redis.call('LLEN', list) > 100 then
    local function accepted(place)
      return tonumber(redis.call('HGET', gen_key(redis.call('LINDEX', list, place)), 'accept_ms'))
    end
    local first, last = accepted(0), accepted(-1)
    if first and last and last - accept_ms < accept_ms - first then from = -1 end
  end
  return redis.call('LREM', list, from, id) == 1
end

-- Find and take the first of a queue.
local function take(source)
  while true do
    local id, tenant, accept_ms = find(source)
    if not id then return nil end
    leave_line(id, source.queue, tenant)
    if take_out(source.list, id, accept_ms) then return id end
  end
end

-- Of what is less urgent and has waited for too long: the queue with the oldest.
local function oldest_aged()
  local found, oldest
  for _, source in ipairs(sources) do
    local is_urgent = source.queue == source.model .. ':high'
    if not is_urgent and redis.call('LLEN', source.list) > 0 then
      local id, _, accept_ms = find(source)
      if id and now - accept_ms >= aging_ms and (not oldest or accept_ms < oldest) then
        found, oldest = source, accept_ms
      end
    end
  end
  return found
end

local function claim(source, id, has_aged)
  local gen = gen_key(id)
  local state = redis.call('HMGET', gen, 'tokens', 'tenant', 'prompt_tokens', 'weight')
  if source.weights and state[1] == '0' then
    redis.call('HSET', gen, 'weights', source.weights)  -- what its output is begun with
  end
  if redis.call('HINCRBY', gen, 'attempt', 1) == 1 then
    charge(source.model, state[2], tonumber(state[3] or 1) / tonumber(state[4] or 1))
  end
  redis.call('HSET', gen, 'status', 'running', 'owner', owner, 'worker', worker)
  redis.call('HSETNX', gen, 'claimed_ms', now)
  redis.call('ZADD', 'miao:leases', now + lease, id)
  redis.call('ZREM', 'miao:waiting', id)
  return {'claimed', id, now, redis.call('HGETALL', gen),
          redis.call('XRANGE', journal_key(id), '-', '+'), has_aged and 1 or 0}
end

for _, source in ipairs(sources) do
  if redis.call('LLEN', source.list) > 0 then
    local stale = tidy(source)
    if stale then return {'stale', stale} end
  end
end
local aged = aging_ms and oldest_aged()
if aged then
  local id = take(aged)
  if id then return claim(aged, id, true) end
end
for _, source in ipairs(sources) do
  if redis.call('LLEN', source.list) > 0 then
    local id = take(source)
    if id then return claim(source, id, false) end
  end
end
return nil
