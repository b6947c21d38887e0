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

-- How many generations of a model wait.
local function backlog_of(model)
  local count = 0
  for _, priority in ipairs({'high', 'normal', 'low'}) do
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

-- Write the terminal event and let everything of the generation expire.
local function close(id, tokens, event, finished, retention)
  local gen, journal, now = gen_key(id), journal_key(id), now_ms()
  redis.call('XADD', journal, tokens .. '-1', 'e', event)
  redis.call('HSET', gen, 'status', 'finished', 'finished', finished, 'finished_ms', now)
  redis.call('HDEL', gen, 'owner', 'worker', 'cancel', 'job')
  redis.call('EXPIRE', gen, retention)
  redis.call('EXPIRE', journal, retention)
  redis.call('ZREM', 'miao:leases', id)
  redis.call('ZREM', 'miao:waiting', id)
end

-- Give a claimed generation back to the front of its queue.
local function requeue(id)
  local gen = gen_key(id)
  local state = redis.call('HMGET', gen, 'queue', 'model', 'deadline_ms')
  redis.call('HSET', gen, 'status', 'queued')
  redis.call('HDEL', gen, 'owner', 'worker', 'alone')
  redis.call('ZADD', 'miao:waiting', state[3], id)
  redis.call('ZREM', 'miao:leases', id)
  if redis.call('EXISTS', 'rq:job:' .. id) == 1 then
    redis.call('HSET', 'rq:job:' .. id, 'status', 'queued')
  end
  redis.call('LPUSH', 'rq:queue:' .. state[1], id)
  ring(state[2])
end
