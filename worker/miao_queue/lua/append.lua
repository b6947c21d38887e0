-- Append a step to the journals of a whole batch.
-- ARGV: for each generation: id, owner, tokens before, tokens after, event.
-- Returns for each that was not simply written: its place from 0, code, tokens in
-- the journal. Codes: 0 was there already, 1 written or there already and a cancel
-- is asked for, 2 a gap: resend from there, 3 fenced: the claim is lost, 4 the
-- generation is not known at all.
ignore_memory_limit()
local call, out = redis.call, {}
local function report(i, code, tokens)
  local at = #out
  out[at + 1], out[at + 2], out[at + 3] = (i - 1) / 5, code, tokens
end
for i = 1, #ARGV, 5 do
  local id, first, last = ARGV[i], ARGV[i + 2], ARGV[i + 3]
  local gen = gen_key(id)
  local state = call('HMGET', gen, 'owner', 'tokens', 'cancel')
  local written = state[2]
  if not written then
    report(i, 4, 0)
  elseif state[1] ~= ARGV[i + 1] then
    report(i, 3, tonumber(written))
  elseif tonumber(last) <= tonumber(written) then
    report(i, state[3] and 1 or 0, tonumber(written))
  elseif first ~= written then
    report(i, 2, tonumber(written))
  else
    call('XADD', journal_key(id), last .. '-0', 'e', ARGV[i + 4])
    if first == '0' then
      call('HSET', gen, 'tokens', last, 'first_token_ms', now_ms())
    else
      call('HSET', gen, 'tokens', last)
    end
    if state[3] then report(i, 1, tonumber(last)) end
  end
end
return out
