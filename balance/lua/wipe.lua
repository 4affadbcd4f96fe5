-- wipe: remove a shard whose state is too old to be caught up from the log, so that it is loaded anew.
--
-- KEYS  1 head, 2 stem of the shard's keys
-- ARGV  1 the wm that the caller read
-- Reply {'OK'}, {'UNINIT'} or {'CHANGED', wm}: then nothing was written
--
-- Invariant. It happens iff wm is still the value read. The history of halts stays: it is no state of the fold.
local head = redis.call('HMGET', KEYS[1], 'wm', 'generation')
if not head[1] then return {'UNINIT'} end
if head[1] ~= ARGV[1] then return {'CHANGED', head[1]} end
local stem, generation = KEYS[2], tonumber(head[2])
redis.call('UNLINK', KEYS[1], stem .. 'journal', stem .. 'sources', stem .. 'accounts', stem .. 'closed', stem .. 'results',
  stem .. 'order', stem .. 'attention', string.format('%sids:%.0f', stem, generation),
  string.format('%sids:%.0f', stem, generation - 1))
return {'OK'}
