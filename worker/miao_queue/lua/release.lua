-- Give claims back to the front of their queues, the oldest foremost.
-- ARGV: id and owner of each, in the order of their acceptance.
-- Returns 1 for each that was given back, 0 for each that was lost before.
ignore_memory_limit()
local out = {}
for i = #ARGV - 1, 1, -2 do
  local mine = redis.call('HGET', gen_key(ARGV[i]), 'owner') == ARGV[i + 1]
  if mine then requeue(ARGV[i]) end
  table.insert(out, 1, mine and 1 or 0)
end
return out
