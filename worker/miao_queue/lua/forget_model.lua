-- Forget a model that nobody has served for long and for which nothing waits.
-- ARGV: its name, for how long, ms. Returns 1 if it is forgotten.
ignore_memory_limit()
local name, now = ARGV[1], now_ms()
local card = 'miao:model:' .. name
if redis.call('ZCOUNT', 'miao:workers:' .. name, now, '+inf') > 0 then return 0 end
if backlog_of(name) > 0 then return 0 end
local seen = redis.call('HGET', card, 'seen_ms')
if not seen then
  if redis.call('EXISTS', card) == 1 then redis.call('HSET', card, 'seen_ms', now) end
  return 0
end
if now - tonumber(seen) < tonumber(ARGV[2]) then return 0 end
redis.call('SREM', 'miao:models', name)
redis.call('DEL', card, 'miao:workers:' .. name, 'miao:bell:' .. name, served_key(name))
return 1
