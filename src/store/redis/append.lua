-- Appends to one session's stream, if its newest entry is the one the writer knows of.
--
-- KEYS: the stream, the session's hash.
-- ARGV: the expected newest id ('' for none); how many of the following are fields and values of the hash (-1: it may
--       be gone), these; for each entry its id, how many of the following are its fields and values, these; at last the oldest id to
--       keep ('' for all) and the lifetime in ms (0 leaves it as it is).
-- Returns 'OK', or what is in the way: the newest id that is there instead, or '-' if the hash is gone.
local newest = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
local id = newest and newest[1] or ''
if id ~= ARGV[1] then
  return id
end
local oldest, lifetime = ARGV[#ARGV - 1], ARGV[#ARGV]
local about = tonumber(ARGV[2])
if about == 0 and redis.call('EXISTS', KEYS[2]) == 0 then
  return '-'
end
local at = 3 + math.max(about, 0)
if at > 3 then
  redis.call('HSET', KEYS[2], unpack(ARGV, 3, at - 1))
end
while at < #ARGV - 1 do
  local last = at + 1 + tonumber(ARGV[at + 1])
  redis.call('XADD', KEYS[1], ARGV[at], unpack(ARGV, at + 2, last))
  at = last + 1
end
if oldest ~= '' then
  redis.call('XTRIM', KEYS[1], 'MINID', '~', oldest)
end
if lifetime ~= '0' then
  redis.call('PEXPIRE', KEYS[1], lifetime)
  redis.call('PEXPIRE', KEYS[2], lifetime)
end
return 'OK'
