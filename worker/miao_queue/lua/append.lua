-- Append a step to the journals of a whole batch.
-- ARGV: for each generation: id, owner, tokens before, tokens after, event.
-- Returns for each: code, tokens in the journal. Codes: 0 written (or there
-- already), 1 the same and a cancel is asked for, 2 a gap: resend from there,
-- 3 fenced: the claim is lost, 4 the generation is not known at all.
ignore_memory_limit()
local out = {}
for i = 1, #ARGV, 5 do
  local id, first, last = ARGV[i], tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local gen = gen_key(id)
  local state = redis.call('HMGET', gen, 'owner', 'tokens', 'cancel')
  local tokens = tonumber(state[2])
  if not tokens then
    out[#out + 1], out[#out + 2] = 4, 0
  elseif state[1] ~= ARGV[i + 1] then
    out[#out + 1], out[#out + 2] = 3, tokens
  elseif last > tokens and first ~= tokens then
    out[#out + 1], out[#out + 2] = 2, tokens
  else
    if last > tokens then
      redis.call('XADD', journal_key(id), ARGV[i + 3] .. '-0', 'e', ARGV[i + 4])
      redis.call('HSET', gen, 'tokens', ARGV[i + 3])
      if tokens == 0 then redis.call('HSET', gen, 'first_token_ms', now_ms()) end
      tokens = last
    end
    out[#out + 1] = state[3] and 1 or 0
    out[#out + 1] = tokens
  end
end
return out
