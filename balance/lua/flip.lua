-- flip: make a staged image the shard, in one step.
--
-- KEYS  1 head, 2 loads, 3 stem of the shard's keys; staged keys are KEYS[3] .. 'load:' .. nonce .. ':' .. section
-- ARGV  1 nonce, 2 number of chunks, 3 generation of ids
-- Reply {'OK'}, {'INITIALIZED'} or {'BROKEN', last chunk}: then nothing was written
--
-- Invariants. It happens iff the shard has no head and the chain is whole. The journal is empty afterwards, and the
-- head, which the last chunk staged, says wm = base = the image's offset. What any loader has staged is gone.
local call, STEM = redis.call, KEYS[3]
local function staged(nonce, section) return STEM .. 'load:' .. nonce .. ':' .. section end

if call('EXISTS', KEYS[1]) == 1 then return {'INITIALIZED'} end
local last = call('GET', staged(ARGV[1], 'chain')) or '-1'
if tonumber(last) + 1 ~= tonumber(ARGV[2]) then return {'BROKEN', last} end

local generation = tonumber(ARGV[3])
local targets = {
  {'sources', 'sources'}, {'accounts', 'accounts'}, {'closed', 'closed'}, {'results', 'results'}, {'order', 'order'},
  {'attention', 'attention'}, {'current', string.format('ids:%.0f', generation)},
  {'previous', string.format('ids:%.0f', generation - 1)}, {'head', 'head'},
}
call('UNLINK', STEM .. 'journal')
for n = 1, #targets do
  local source, target = staged(ARGV[1], targets[n][1]), STEM .. targets[n][2]
  if call('EXISTS', source) == 1 then call('RENAME', source, target) else call('UNLINK', target) end
end
local nonces = call('SMEMBERS', KEYS[2])
for m = 1, #nonces do
  call('UNLINK', staged(nonces[m], 'chain'))
  for n = 1, #targets do call('UNLINK', staged(nonces[m], targets[n][1])) end
end
call('UNLINK', KEYS[2])
return {'OK'}
