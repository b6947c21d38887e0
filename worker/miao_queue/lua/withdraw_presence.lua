-- Say that a worker takes no more of some models. The cards stay.
-- ARGV: worker, then for each model: its name, and the digests of its card, of
-- its vocabulary and of its weights.
ignore_memory_limit()
for i = 2, #ARGV, 4 do
  redis.call('ZREM', 'miao:workers:' .. ARGV[i], ARGV[1])
  for word = i + 1, i + 3 do
    redis.call('ZREM', holders_key(ARGV[i], ARGV[word]), ARGV[1])
  end
end
return 0
