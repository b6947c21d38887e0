-- Extend claims, and charge their tenants for what was said since. ARGV: lease ms, then id and owner of each.
-- Returns a code for each, as append.lua.
ignore_memory_limit()
local expiry, out = now_ms() + tonumber(ARGV[1]), {}
for i = 2, #ARGV, 2 do
  local state = redis.call('HMGET', gen_key(ARGV[i]), 'owner', 'cancel', 'tokens')
  if not state[3] then
    out[#out + 1] = 4
  elseif state[1] ~= ARGV[i + 1] then
    out[#out + 1] = 3
  else
    redis.call('ZADD', 'miao:leases', expiry, ARGV[i])
    charge_output(ARGV[i], tonumber(state[3]))
    out[#out + 1] = state[2] and 1 or 0
  end
end
return out
