-- Write a running generation again that Redis has forgotten, as its worker
-- remembers it; one that is known stays as it is.
-- ARGV: id, owner, worker, lease ms, count of state fields, the fields and their
-- values, then the entries of the journal: tokens, event of each.
ignore_memory_limit()
local id, fields = ARGV[1], tonumber(ARGV[5])
local gen = gen_key(id)
if redis.call('HEXISTS', gen, 'status') == 1 then return 0 end
redis.call('HSET', gen, 'status', 'running', 'owner', ARGV[2], 'worker', ARGV[3],
  unpack(ARGV, 6, 5 + fields))
redis.call('DEL', journal_key(id))
for i = 6 + fields, #ARGV, 2 do
  redis.call('XADD', journal_key(id), ARGV[i] .. '-0', 'e', ARGV[i + 1])
end
local state = redis.call('HMGET', gen, 'tenant', 'accept_ms', 'retention_seconds', 'model',
  'deadline_ms', 'reserved', 'metered')
list_for_tenant(id, state[1], tonumber(state[2]), tonumber(state[3]))
if state[6] then
  local accept_ms = tonumber(state[2])
  local is_recent = now_ms() - accept_ms < 1000 * window_seconds
  count_in(id, state[4], state[1], accept_ms, tonumber(state[5]), state[7] and is_recent,
    state[6])
end
redis.call('ZADD', 'miao:leases', now_ms() + tonumber(ARGV[4]), id)
return 1
