-- Functions that every script starts with. The time is Redis's own, in
-- milliseconds, so that all processes share one clock.

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

local function gen_key(id) return 'miao:gen:' .. id end
local function journal_key(id) return 'miao:journal:' .. id end

-- Redis's memory limit refuses new work, not what was accepted: it is looked at
-- before a script's first write alone, and never before one that frees memory.
local function ignore_memory_limit()
  redis.call('DEL', 'miao:none')
end

-- Who lives and serves a model with a card, a vocabulary or weights of this digest.
local function holders_key(model, digest) return 'miao:holders:' .. model .. ':' .. digest end

local function is_held(model, digest, now)
  return redis.call('ZCOUNT', holders_key(model, digest), now, '+inf') > 0
end

local priorities = {'high', 'normal', 'low'}  -- in the order in which workers look

-- How many generations of a model wait.
local function backlog_of(model)
  local count = 0
  for _, priority in ipairs(priorities) do
    count = count + redis.call('LLEN', 'rq:queue:' .. model .. ':' .. priority)
  end
  return count
end

local function ring(model)
  redis.call('XADD', 'miao:bell:' .. model, 'MAXLEN', 1, '*', 'r', '')
end

-- Make a front's journal reader begin its read anew.
local function wake_front(front)
  local key = 'miao:front:' .. front
  redis.call('XADD', key, 'MAXLEN', 1, '*', 'w', '')
  redis.call('PEXPIRE', key, 600000)
end

-- A tenant's list holds what may still exist: two days and the retention. It is
-- of generations: what is asked of encoders is answered in its call.
local function list_for_tenant(id, tenant, accept_ms, retention)
  if redis.call('HEXISTS', gen_key(id), 'task') == 1 then return end
  local key, age = 'miao:tenant:' .. tenant, 172800000 + 1000 * retention
  redis.call('ZADD', key, accept_ms, id)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now_ms() - age)
  redis.call('PEXPIRE', key, age)
end

-- Who waits, in fair order. RQ's list says what waits in a queue, the oldest first; beside
-- it each tenant has a line of its own there, and each queue the tenants that have one,
-- by their turn: the virtual tokens that they were served (Sheng et al., Fairness in Serving
-- Large Language Models, OSDI 2024). Generations that come back from a worker stand
-- in the line of nobody (the empty name), before all tenants: they have been served before.
-- What other programs put into RQ's list, or take out of it, is noticed when it is met.
local output_token_weight = 2  -- of a prompt's token: 1, as in the paper

local function turns_key(queue) return 'miao:turns:' .. queue end
local function line_key(queue, tenant) return 'miao:line:' .. queue .. ':' .. tenant end
local function load_key(queue) return 'miao:load:' .. queue end
local function served_key(model) return 'miao:served:' .. model end
local function pace_key(model) return 'miao:pace:' .. model end

-- A tenant's virtual tokens. One that comes back from idling goes on where the others are.
local function counter_of(model, tenant)
  local served, floor = served_key(model), nil
  for _, priority in ipairs(priorities) do
    local turns = turns_key(model .. ':' .. priority)
    local present = redis.call('ZSCORE', turns, tenant)
    if present then return tonumber(present) end
    local first = redis.call('ZRANGEBYSCORE', turns, 0, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
    if first[2] then floor = math.min(floor or math.huge, tonumber(first[2])) end
  end
  floor = floor or tonumber(redis.call('ZSCORE', served, '') or 0)  -- of the last who left
  local own = tonumber(redis.call('ZSCORE', served, tenant) or 0)
  if own >= floor then return own end
  redis.call('ZADD', served, floor, tenant)
  return floor
end

-- Note virtual tokens that a tenant was served.
local function charge(model, tenant, tokens)
  local served = served_key(model)
  local score = redis.call('ZINCRBY', served, tokens, tenant)
  for _, priority in ipairs(priorities) do
    redis.call('ZADD', turns_key(model .. ':' .. priority), 'XX', score, tenant)
  end
  if redis.call('PTTL', served) < 43200000 then redis.call('PEXPIRE', served, 86400000) end
end

-- Charge a tenant for what a generation has said since the last time; echoed tokens and what
-- is known already cost nothing. Not at each token, which has to be cheap.
local function charge_output(id, tokens)
  local gen = gen_key(id)
  local state = redis.call('HMGET', gen, 'model', 'tenant', 'weight', 'echoed_tokens', 'charged')
  local charged = math.max(tonumber(state[4] or 0), tonumber(state[5] or 0))
  if not state[1] or tokens <= charged then return end
  redis.call('HSET', gen, 'charged', tokens)
  local virtual = (tokens - charged) * output_token_weight / tonumber(state[3] or 1)
  charge(state[1], state[2], virtual)
end

-- Let a waiting generation, which stands in RQ's list, stand in line too.
local function stand_in_line(id, first)
  local gen = gen_key(id)
  local state = redis.call('HMGET', gen, 'queue', 'model', 'tenant', 'attempt',
    'prompt_tokens', 'max_output_tokens', 'weight')
  local queue, tenant, turn = state[1], state[3], nil
  if state[4] ~= '0' then tenant, turn = '', -1 else turn = counter_of(state[2], tenant) end
  redis.call(first and 'LPUSH' or 'RPUSH', line_key(queue, tenant), id)
  redis.call('ZADD', turns_key(queue), turn, tenant)
  redis.call('HSET', gen, 'line', tenant)
  redis.call('HINCRBY', load_key(queue), tenant .. ':prompt', state[5] or 0)
  redis.call('HINCRBY', load_key(queue), tenant .. ':output', state[6] or 0)
  redis.call('HSET', load_key(queue), tenant .. ':weight', state[7] or 1)
end

-- Take a generation out of a line; who has none left is forgotten there.
local function leave_line(id, queue, tenant)
  local line, gen = line_key(queue, tenant), gen_key(id)
  if redis.call('LREM', line, 1, id) == 0 then return end
  local state = redis.call('HMGET', gen, 'model', 'prompt_tokens', 'max_output_tokens')
  redis.call('HDEL', gen, 'line')
  if redis.call('EXISTS', line) == 1 then
    redis.call('HINCRBY', load_key(queue), tenant .. ':prompt', 0 - (state[2] or 0))
    redis.call('HINCRBY', load_key(queue), tenant .. ':output', 0 - (state[3] or 0))  -- not -0: "-0" is no integer
    return
  end
  local turn = redis.call('ZSCORE', turns_key(queue), tenant)
  redis.call('ZREM', turns_key(queue), tenant)
  redis.call('HDEL', load_key(queue), tenant .. ':prompt', tenant .. ':output',
    tenant .. ':weight')
  if state[1] and turn and tenant ~= '' then
    redis.call('ZADD', served_key(state[1]), turn, '')
  end
end

-- What a tenant has under way with a model, and what it has spent there.
local function open_key(model, tenant) return 'miao:open:' .. model .. ':' .. tenant end
local function spent_key(model, tenant) return 'miao:spent:' .. model .. ':' .. tenant end
local window_seconds = 60

-- Count an accepted generation among those of its tenant: as open, and in the second of
-- its acceptance with its request and with the most tokens that it may take.
local function count_in(id, model, tenant, accept_ms, deadline_ms, is_metered, tokens)
  local open = open_key(model, tenant)
  redis.call('ZADD', open, deadline_ms, id)
  local keep_ms = deadline_ms - now_ms() + 120000
  if redis.call('PTTL', open) < keep_ms then redis.call('PEXPIRE', open, keep_ms) end
  if not is_metered then return end
  local spent, second = spent_key(model, tenant), math.floor(accept_ms / 1000)
  redis.call('HINCRBY', spent, 'requests:' .. second, 1)
  redis.call('HINCRBY', spent, 'tokens:' .. second, tokens)
  redis.call('EXPIRE', spent, 2 * window_seconds)
end

-- Count it no longer as open, and give back what it has not taken of its tokens. Once,
-- however often it is called. What never ran has taken none.
local function settle(id, tokens)
  local state = redis.call('HMGET', gen_key(id), 'model', 'tenant', 'reserved', 'prompt_tokens',
    'echoed_tokens', 'accept_ms', 'attempt', 'metered')
  if not state[1] then return end
  redis.call('ZREM', open_key(state[1], state[2]), id)
  if not state[3] then return end
  redis.call('HDEL', gen_key(id), 'reserved')
  if not state[8] then return end
  local spent, second = spent_key(state[1], state[2]), math.floor(tonumber(state[6]) / 1000)
  local field, taken = 'tokens:' .. second, 0
  if redis.call('HEXISTS', spent, field) == 0 then return end  -- a minute ago
  if state[7] ~= '0' then
    taken = tonumber(state[4]) + math.max(0, tokens - tonumber(state[5] or 0))
  end
  redis.call('HINCRBY', spent, field, math.min(0, taken - tonumber(state[3])))
end

-- Run commands that RQ composed: ARGV[at] is their count, then for each its
-- length and its words.
local function run_commands(at)
  local count = tonumber(ARGV[at])
  at = at + 1
  for _ = 1, count do
    local length = tonumber(ARGV[at])
    redis.call(unpack(ARGV, at + 1, at + length))
    at = at + 1 + length
  end
end

-- Write down, for the bill, what a generation took: a record, and the sums of its day. It
-- ends once, so this is written once. `usage` is "<prompt> <cached> <output> <reason>",
-- tokens of each; empty writes nothing.
local function note_usage(id, usage, now)
  if not usage or usage == '' then return end
  local state = redis.call('HMGET', gen_key(id), 'tenant', 'model', 'request_id', 'accept_ms',
    'attempt', 'task')
  local prompt, cached, output = string.match(usage, '^(%d+) (%d+) (%d+) ')
  redis.call('SADD', 'miao:usage_tenants', state[1])
  redis.call('XADD', 'miao:usage:' .. state[1], '*', 'id', id, 'request_id', state[3],
    'model', state[2], 'accept_ms', state[4], 'end_ms', now, 'attempts', state[5],
    'task', state[6] or '', 'usage', usage)
  local day = math.floor(now / 86400000)
  local sums = 'miao:usage_day:' .. state[1] .. ':' .. string.format('%d', day)
  for name, count in pairs({requests = 1, prompt = prompt, cached = cached, output = output}) do
    redis.call('HINCRBY', sums, name .. ':' .. state[2], count)
  end
  redis.call('EXPIRE', sums, 34560000)  -- 400 days
end

-- Write the terminal event and let everything of the generation expire.
local function close(id, tokens, event, finished, retention, usage)
  local gen, journal, now = gen_key(id), journal_key(id), now_ms()
  settle(id, tokens)
  charge_output(id, tokens)
  redis.call('XADD', journal, tokens .. '-1', 'e', event)
  redis.call('HSET', gen, 'status', 'finished', 'finished', finished, 'finished_ms', now)
  redis.call('HDEL', gen, 'owner', 'worker', 'cancel', 'job')
  redis.call('EXPIRE', gen, retention)
  redis.call('EXPIRE', journal, retention)
  redis.call('ZREM', 'miao:leases', id)
  redis.call('ZREM', 'miao:waiting', id)
  note_usage(id, usage, now)
end

-- Give a claimed generation back to the front of its queue.
local function requeue(id)
  local gen = gen_key(id)
  local state = redis.call('HMGET', gen, 'queue', 'model', 'deadline_ms', 'line')
  if state[4] then leave_line(id, state[1], state[4]) end
  redis.call('HSET', gen, 'status', 'queued')
  redis.call('HDEL', gen, 'owner', 'worker', 'alone')
  redis.call('ZADD', 'miao:waiting', state[3], id)
  redis.call('ZREM', 'miao:leases', id)
  if redis.call('EXISTS', 'rq:job:' .. id) == 1 then
    redis.call('HSET', 'rq:job:' .. id, 'status', 'queued')
  end
  redis.call('LPUSH', 'rq:queue:' .. state[1], id)
  stand_in_line(id, true)
  ring(state[2])
end
