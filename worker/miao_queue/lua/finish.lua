-- Write the terminal event of a claimed generation.
-- ARGV: id, owner, tokens, event, finished message, retention in seconds, usage as in
-- note_usage.
-- Returns {code, tokens in the journal}; codes as in append.lua.
ignore_memory_limit()
local id, owner, tokens = ARGV[1], ARGV[2], tonumber(ARGV[3])
local state = redis.call('HMGET', gen_key(id), 'owner', 'tokens', 'status', 'finished_by')
if not state[2] then return {4, 0} end
local written = tonumber(state[2])
if state[3] == 'finished' and state[4] == owner then return {0, written} end
if state[1] ~= owner then return {3, written} end
if written ~= tokens then return {2, written} end
close(id, tokens, ARGV[4], ARGV[5], ARGV[6], ARGV[7])
redis.call('HSET', gen_key(id), 'finished_by', owner)
return {0, tokens}
