-- End a generation early: here if it waits, through its worker if it runs.
-- ARGV: id, tenant, whether to end only what is overdue in the queue, tokens
-- the terminal event speaks of, event, finished message, retention in seconds,
-- usage as in note_usage, then RQ's commands for a job that never ran.
-- Returns 'missing', 'finished', 'running', 'cancelled', 'waiting' (it is not
-- overdue), or 'moved' (the token count has changed: read it and call again).
ignore_memory_limit()
local id, only_overdue = ARGV[1], ARGV[3] == '1'
local gen = gen_key(id)
local state = redis.call('HMGET', gen, 'status', 'tenant', 'tokens', 'worker', 'queue',
  'line')
if not state[1] or state[2] ~= ARGV[2] then return 'missing' end
if state[1] == 'finished' then return 'finished' end
if state[1] == 'running' then
  if only_overdue then
    redis.call('ZREM', 'miao:waiting', id)
    return 'running'
  end
  redis.call('HSET', gen, 'cancel', 1)
  local control = 'miao:control:' .. state[4]
  redis.call('XADD', control, 'MAXLEN', 1000, '*', 'cancel', id)
  redis.call('PEXPIRE', control, 600000)
  return 'running'
end
if state[3] ~= ARGV[4] then return 'moved' end
if only_overdue then
  local limit = redis.call('ZSCORE', 'miao:waiting', id)
  if not limit or tonumber(limit) > now_ms() then return 'waiting' end
end
close(id, tonumber(ARGV[4]), ARGV[5], ARGV[6], ARGV[7], ARGV[8])
redis.call('LREM', 'rq:queue:' .. state[5], 1, id)
if state[6] then leave_line(id, state[5], state[6]) end
run_commands(9)
return 'cancelled'
