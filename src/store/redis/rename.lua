-- Gives a name to another session, if it still belongs to the one the caller saw.
--
-- KEYS: the name. ARGV: what it must hold now, what it holds then, its lifetime in ms.
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
