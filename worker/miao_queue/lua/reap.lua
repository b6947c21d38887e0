-- Give generations whose lease has ended back to the front of their queues,
-- the oldest foremost, and note that their worker was lost under them.
-- ARGV: the most to take, the worker that asks, how long no other one shall, ms.
-- Returns id, owner, worker of each.
ignore_memory_limit()
if not redis.call('SET', 'miao:reaper', ARGV[2], 'NX', 'PX', ARGV[3]) then return {} end
local ended = redis.call('ZRANGEBYSCORE', 'miao:leases', '-inf', now_ms(), 'LIMIT', 0, ARGV[1])
local taken = {}
for _, id in ipairs(ended) do
  local state = redis.call('HMGET', gen_key(id), 'status', 'owner', 'worker', 'accept_ms')
  if state[1] == 'running' then
    taken[#taken + 1] = {id, state[2], state[3], tonumber(state[4])}
  else
    redis.call('ZREM', 'miao:leases', id)
  end
end
table.sort(taken, function(a, b) return a[4] > b[4] end)
local out = {}
for _, entry in ipairs(taken) do
  local gen = gen_key(entry[1])
  redis.call('HINCRBY', gen, 'crashes', 1)
  redis.call('HSET', gen, 'crashed_alone', redis.call('HEXISTS', gen, 'alone'))
  requeue(entry[1])
  for word = 1, 3 do out[#out + 1] = entry[word] end
end
return out
