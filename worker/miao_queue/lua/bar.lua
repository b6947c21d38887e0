-- Keep an id from being accepted here, since it is about to be at another Redis, unless it is
-- here already. What bars it is a record of nothing but a fingerprint that no request has.
-- ARGV: id, the other's name, for how long, ms.
-- Returns 'known' where it is here, else the name of where it is said to be: this one's, or that
-- of an earlier bar.
ignore_memory_limit()
local gen = gen_key(ARGV[1])
local state = redis.call('HMGET', gen, 'fingerprint', 'status')
if state[2] then return 'known' end
if state[1] then return string.sub(state[1], 2) end
redis.call('HSET', gen, 'fingerprint', '@' .. ARGV[2])
redis.call('PEXPIRE', gen, ARGV[3])
return ARGV[2]
