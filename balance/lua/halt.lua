-- halt: stop a shard. Every apply answers HALT with the reason until it is resumed.
--
-- KEYS  1 head
-- ARGV  1 reason
-- Reply {'OK'} or {'UNINIT'}
--
-- Invariant. The reason of a shard that is halted already stays: the first cause is the one to look into.
if redis.call('EXISTS', KEYS[1]) == 0 then return {'UNINIT'} end
redis.call('HSETNX', KEYS[1], 'halted', ARGV[1])
return {'OK'}
