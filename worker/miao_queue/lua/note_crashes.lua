-- Keep what a worker knows of engines that died under its generations.
-- ARGV: for each generation: id, owner, crashes, whether it was alone at the
-- last, whether it runs alone from now on (1 or 0).
ignore_memory_limit()
for i = 1, #ARGV, 5 do
  local gen = gen_key(ARGV[i])
  if redis.call('HGET', gen, 'owner') == ARGV[i + 1] then
    redis.call('HSET', gen, 'crashes', ARGV[i + 2], 'crashed_alone', ARGV[i + 3])
    if ARGV[i + 4] == '1' then
      redis.call('HSET', gen, 'alone', 1)
    else
      redis.call('HDEL', gen, 'alone')
    end
  end
end
return 0
