-- Cancel a generation: end it here if it waits, tell its worker if it runs.
-- ARGV: id, tenant, tokens the terminal event speaks of, event, finished
-- message, retention in seconds, then RQ's commands for a job that never ran.
-- Returns 'missing', 'finished', 'running', 'cancelled', or 'moved' (the token
-- count has changed: read it and call again).
local id = ARGV[1]
local gen = gen_key(id)
local state = redis.call('HMGET', gen, 'status', 'tenant', 'tokens', 'worker', 'queue')
if not state[1] or state[2] ~= ARGV[2] then return 'missing' end
if state[1] == 'finished' then return 'finished' end
if state[1] == 'running' then
  redis.call('HSET', gen, 'cancel', 1)
  local control = 'miao:control:' .. state[4]
  redis.call('XADD', control, 'MAXLEN', 1000, '*', 'cancel', id)
  redis.call('PEXPIRE', control, 600000)
  return 'running'
end
if state[3] ~= ARGV[3] then return 'moved' end
close(id, tonumber(ARGV[3]), ARGV[4], ARGV[5], ARGV[6])
redis.call('LREM', 'rq:queue:' .. state[5], 1, id)
run_commands(7)
return 'cancelled'
