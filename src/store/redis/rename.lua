-- Gives a name to another session, or to none, if it still belongs to the one the caller saw.
--
-- KEYS: the name. ARGV: what it must hold now, what it holds then ('' for nothing), its lifetime in ms.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
if ARGV[2] == '' then
  redis.call('DEL', KEYS[1])
else
  redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
end
return 1
