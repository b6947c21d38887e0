-- Make a front's journal reader begin its read anew, also where memory is full.
-- ARGV: front.
ignore_memory_limit()
wake_front(ARGV[1])
