-- Admit a generation and enqueue its RQ job, or write nothing.
-- ARGV: id, fingerprint, model, tenant, front, backlog limit, whether a live
-- worker is required, timeout ms, queue timeout ms, the latest time to accept
-- it, the digest of the vocabulary that its tokens are of (empty: do not compare
-- it with the model's present one), its priority; then what its tenant may (empty: as much as
-- it likes): whether its limits are looked at, whether it may have this priority, tokens of one
-- request, requests and tokens in a minute, open generations, waiting ones, its weight, how
-- many times its wait the predicted one must be to be refused; the tokens of the
-- prompt, the most of the output; count of state fields, the fields and their values, then
-- RQ's commands.
-- Returns {outcome, number}, for 'limited' {outcome, 0, limit, what is used of it, after how
-- many ms to come back}.
local id, fingerprint, model, tenant, front = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local timeout_ms, queue_timeout_ms, priority = tonumber(ARGV[8]), tonumber(ARGV[9]), ARGV[12]
local most = {
  request_tokens = tonumber(ARGV[15]), requests_per_minute = tonumber(ARGV[16]),
  tokens_per_minute = tonumber(ARGV[17]), concurrent_generations = tonumber(ARGV[18]),
  backlog = tonumber(ARGV[19]),
}
local weight, margin = tonumber(ARGV[20]), tonumber(ARGV[21])
local prompt_tokens, output_tokens = tonumber(ARGV[22]), tonumber(ARGV[23])
local reserved = prompt_tokens + output_tokens
local fields = tonumber(ARGV[24])
local gen = gen_key(id)
local patience_ms = 1000  -- where nobody can say when there will be room

local now = now_ms()
if now > tonumber(ARGV[10]) then return {'late', 0} end

local known = redis.call('HGET', gen, 'fingerprint')
if known then
  if known ~= fingerprint then return {'conflict', 0} end
  ignore_memory_limit()  -- it is accepted already
  wake_front(front)
  return {'attached', 0}
end

-- What a tenant has spent in the last minute, by second, and the seconds in order; those
-- that are over.
local function read_spent()
  local words = redis.call('HGETALL', spent_key(model, tenant))
  local spent, over = {requests = {}, tokens = {}, sum = {requests = 0, tokens = 0}}, {}
  spent.seconds = {}
  for i = 1, #words, 2 do
    local kind, second = string.match(words[i], '^(%a+):(%d+)$')
    second = tonumber(second)
    if second < math.floor(now / 1000) - window_seconds then
      over[#over + 1] = words[i]
    else
      spent[kind][second] = tonumber(words[i + 1])
      spent.sum[kind] = spent.sum[kind] + tonumber(words[i + 1])
      if kind == 'requests' then spent.seconds[#spent.seconds + 1] = second end
    end
  end
  table.sort(spent.seconds)
  return spent, over
end

-- After how many ms so much of a kind has left the window that more fits under the limit.
local function room_after(spent, kind, more, limit)
  local sum = spent.sum[kind] + more
  for _, second in ipairs(spent.seconds) do
    sum = sum - (spent[kind][second] or 0)
    if sum <= limit then return (second + window_seconds + 1) * 1000 - now end
  end
  return 1000 * window_seconds
end

-- What the tenant has under way. Where that is too much, those are looked for that a program
-- without these books has ended: settled ones do not count.
local function open_generations(limit)
  local open = open_key(model, tenant)
  local count = redis.call('ZCOUNT', open, now - 60000, '+inf')
  local ended = {}
  if count < limit then return count, ended end
  for _, member in ipairs(redis.call('ZRANGE', open, 0, 199)) do
    local status = redis.call('HGET', gen_key(member), 'status')
    if not status or status == 'finished' then ended[#ended + 1] = member end
  end
  return count - #ended, ended
end

local function waiting()
  local count = 0
  for _, name in ipairs(priorities) do
    count = count + redis.call('LLEN', line_key(model .. ':' .. name, tenant))
  end
  return count
end

-- How long this one waits at the least, ms; 0 where that is not known. Before it come its
-- tenant's own, and of each other tenant as much as is its share meanwhile; of what is said
-- at the most, only the part that is said on average.
local function shortest_wait()
  local rate, share, num_workers = 0, 1, 0
  local paces = redis.call('HGETALL', pace_key(model))
  for i = 2, #paces, 2 do
    local tokens, part, till = string.match(paces[i], '^(%S+) (%S+) (%S+)$')
    if tokens and tonumber(till) > now then
      rate, num_workers = rate + tonumber(tokens), num_workers + 1
      share = math.min(share, tonumber(part))
    end
  end
  local num_live = redis.call('ZCOUNT', 'miao:workers:' .. model, now, '+inf')
  if rate <= 0 or num_workers < num_live then return 0 end
  local own, others = 0, {}
  for _, name in ipairs(priorities) do
    local load = load_key(model .. ':' .. name)
    if redis.call('HLEN', load) > 768 then return 0 end
    local words = redis.call('HGETALL', load)
    for i = 1, #words, 2 do
      local who, what = string.match(words[i], '^(.*):(%a+)$')
      local value = tonumber(words[i + 1])
      local other = others[who] or {tokens = 0, weight = 1}
      others[who] = other
      if what == 'weight' then other.weight = value
      elseif what == 'prompt' then other.tokens = other.tokens + value
      else other.tokens = other.tokens + value * share end
    end
    if name == priority then break end
  end
  if others[tenant] then own = others[tenant].tokens end
  local ahead = own
  for who, other in pairs(others) do
    if who ~= tenant then
      ahead = ahead + math.min(other.tokens, own * other.weight / weight)
    end
  end
  return 1000 * ahead / rate
end

if ARGV[7] == '1' and redis.call('ZCOUNT', 'miao:workers:' .. model, now, '+inf') == 0 then
  return {'no_worker', 0}
end
local present = redis.call('HGET', 'miao:model:' .. model, 'vocabulary')
if ARGV[11] ~= '' and present and present ~= ARGV[11] then return {'model_changed', 0} end
local is_metered = most.requests_per_minute or most.tokens_per_minute
local ended, over = {}, {}
if is_metered or ARGV[13] == '1' then
  local spent
  spent, over = read_spent()
  local function refusal(name, used, after_ms)
    return {'limited', 0, name, math.floor(used), math.ceil(after_ms)}
  end
  if ARGV[13] == '1' then
    if ARGV[14] == '0' then return refusal('priorities', 0, 0) end
    if most.request_tokens and reserved > most.request_tokens then
      return refusal('request_tokens', reserved, 0)
    end
    if most.tokens_per_minute and reserved > most.tokens_per_minute then
      return refusal('tokens_per_minute', reserved, 0)  -- never
    end
    local requests, tokens = most.requests_per_minute, most.tokens_per_minute
    if requests and spent.sum.requests + 1 > requests then
      local after_ms = room_after(spent, 'requests', 1, requests)
      return refusal('requests_per_minute', spent.sum.requests, after_ms)
    end
    if tokens and spent.sum.tokens + reserved > tokens then
      local after_ms = room_after(spent, 'tokens', reserved, tokens)
      return refusal('tokens_per_minute', spent.sum.tokens, after_ms)
    end
    if most.concurrent_generations then
      local count
      count, ended = open_generations(most.concurrent_generations)
      if count >= most.concurrent_generations then
        return refusal('concurrent_generations', count, patience_ms)
      end
    end
    if most.backlog then
      local count = waiting()
      if count >= most.backlog then return refusal('backlog', count, patience_ms) end
    end
  end
end
local backlog = backlog_of(model)
if backlog >= tonumber(ARGV[6]) then return {'backlog_full', backlog} end
local limit_ms = math.min(timeout_ms, queue_timeout_ms)
if margin and backlog > 0 then
  local wait_ms = shortest_wait()
  if wait_ms > margin * limit_ms then
    return {'limited', 0, 'wait', math.floor(wait_ms), math.ceil(wait_ms - limit_ms)}
  end
end

redis.call('HSET', gen, 'status', 'queued', 'fingerprint', fingerprint, 'model', model,
  'tenant', tenant, 'accept_ms', now, 'deadline_ms', now + timeout_ms,
  'queue_deadline_ms', now + queue_timeout_ms, 'tokens', 0, 'attempt', 0,
  'prompt_tokens', prompt_tokens, 'max_output_tokens', output_tokens, 'reserved', reserved,
  'weight', weight, unpack(ARGV, 25, 24 + fields))
if is_metered then redis.call('HSET', gen, 'metered', 1) end
redis.call('DEL', journal_key(id))  -- of one that Redis has lost but for this
redis.call('ZADD', 'miao:waiting', now + limit_ms, id)
list_for_tenant(id, tenant, now, tonumber(redis.call('HGET', gen, 'retention_seconds')))
for _, member in ipairs(ended) do
  redis.call('ZREM', open_key(model, tenant), member)
  settle(member, tonumber(redis.call('HGET', gen_key(member), 'tokens') or 0))
end
for i = 1, #over, 100 do
  redis.call('HDEL', spent_key(model, tenant), unpack(over, i, math.min(i + 99, #over)))
end
redis.call('ZREMRANGEBYSCORE', open_key(model, tenant), '-inf', now - 60000)
count_in(id, model, tenant, now, now + timeout_ms, is_metered, reserved)
run_commands(25 + fields)
stand_in_line(id, false)
ring(model)
wake_front(front)
return {'accepted', now}
