-- Admit a generation and enqueue its RQ job, or write nothing.
-- ARGV: id, fingerprint, model, tenant, front, backlog limit, whether a live
-- worker is required, timeout ms, queue timeout ms, the latest time to accept
-- it, the digest of the vocabulary that its tokens are of (empty: do not compare
-- it with the model's present one), count of state fields, the fields and their values, then RQ's commands.
-- Returns {outcome, number}.
local id, fingerprint, model, tenant, front = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local gen = gen_key(id)

local now = now_ms()
if now > tonumber(ARGV[10]) then return {'late', 0} end

local known = redis.call('HGET', gen, 'fingerprint')
if known then
  if known ~= fingerprint then return {'conflict', 0} end
  ignore_memory_limit()  -- it is accepted already
  wake_front(front)
  return {'attached', 0}
end

if ARGV[7] == '1' and redis.call('ZCOUNT', 'miao:workers:' .. model, now, '+inf') == 0 then
  return {'no_worker', 0}
end
local present = redis.call('HGET', 'miao:model:' .. model, 'vocabulary')
if ARGV[11] ~= '' and present and present ~= ARGV[11] then return {'model_changed', 0} end
local backlog = backlog_of(model)
if backlog >= tonumber(ARGV[6]) then return {'backlog_full', backlog} end

local fields = tonumber(ARGV[12])
redis.call('HSET', gen, 'status', 'queued', 'fingerprint', fingerprint, 'model', model,
  'tenant', tenant, 'accept_ms', now, 'deadline_ms', now + tonumber(ARGV[8]),
  'queue_deadline_ms', now + tonumber(ARGV[9]), 'tokens', 0, 'attempt', 0,
  unpack(ARGV, 13, 12 + fields))
redis.call('DEL', journal_key(id))  -- of one that Redis has lost but for this
redis.call('ZADD', 'miao:waiting', now + math.min(tonumber(ARGV[8]), tonumber(ARGV[9])), id)
list_for_tenant(id, tenant, now, tonumber(redis.call('HGET', gen, 'retention_seconds')))
run_commands(13 + fields)
ring(model)
wake_front(front)
return {'accepted', now}
