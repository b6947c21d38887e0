-- Say that a worker lives and what it serves; forget those that have not for a while.
-- ARGV: worker, ttl ms, its pace in two words ("" where it does not know it), then for each model: its name, and the digests of its card,
-- of its vocabulary and of its weights.
-- Returns the names of the models whose card has to be published: Redis has none,
-- or one that no live worker stands behind.
ignore_memory_limit()
local worker, now, ttl = ARGV[1], now_ms(), tonumber(ARGV[2])

-- Say how fast this worker is; forget what those have said who live no more.
local function tell_pace(name)
  local key = pace_key(name)
  if ARGV[3] == '' then
    redis.call('HDEL', key, worker)
  else
    redis.call('HSET', key, worker, ARGV[3] .. ' ' .. string.format('%.0f', now + ttl))
    redis.call('PEXPIRE', key, 4 * ttl)
  end
  local paces = redis.call('HGETALL', key)
  for i = 1, #paces, 2 do
    local till = tonumber(string.match(paces[i + 1], '(%d+)$'))
    if not till or till < now then redis.call('HDEL', key, paces[i]) end
  end
end

local function renew(key)
  redis.call('ZADD', key, now + ttl, worker)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - ttl)
  if redis.call('PTTL', key) < 2 * ttl then redis.call('PEXPIRE', key, 4 * ttl) end
end

local unpublished = {}
for i = 4, #ARGV, 4 do
  local name, card = ARGV[i], 'miao:model:' .. ARGV[i]
  renew('miao:workers:' .. name)
  tell_pace(name)
  for word = i + 1, i + 3 do
    if ARGV[word] ~= '' then renew(holders_key(name, ARGV[word])) end
  end
  local published = redis.call('HGET', card, 'digest')
  if published then redis.call('HSET', card, 'seen_ms', now) end
  if not published or not is_held(name, published, now) then
    unpublished[#unpublished + 1] = name
  end
end
return unpublished
