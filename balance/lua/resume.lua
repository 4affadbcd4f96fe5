-- resume: let a halted shard go on, and keep who said so.
--
-- KEYS  1 head, 2 history
-- ARGV  1 when, 2 who, 3 why
-- Reply {'OK'} or {'UNINIT'}; a shard that is not halted is left alone
--
-- Invariant. The history holds the last 1000 resumptions, oldest first, each a JSON array [when, who, why, reason].
local head = redis.call('HMGET', KEYS[1], 'wm', 'halted')
if not head[1] then return {'UNINIT'} end
if head[2] then
  redis.call('RPUSH', KEYS[2], cjson.encode({ARGV[1], ARGV[2], ARGV[3], head[2]}))
  redis.call('LTRIM', KEYS[2], -1000, -1)
  redis.call('HDEL', KEYS[1], 'halted')
end
return {'OK'}
