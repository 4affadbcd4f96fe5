-- load_chunk: stage one chunk of a shard's image under the private nonce of its loader.
--
-- KEYS  1 head, 2 loads (nonces with staged keys), 3 stem of the nonce's staged keys
-- ARGV  1 nonce, 2 number of the chunk from 0, 3 section, 4.. values: fields and values, or members, of the section
-- Reply {'OK'}, {'INITIALIZED'} or {'BROKEN', last chunk}: then nothing was written
--
-- Invariants. A chunk is taken only right after the one before it and while the shard has no head, so that a chain that
-- reaches its end holds every chunk, whatever masters answered meanwhile. flip alone makes the staged keys the shard's.
local COMMAND = {head = 'HSET', sources = 'HSET', accounts = 'HSET', closed = 'HSET', results = 'HSET', order = 'RPUSH',
  attention = 'SADD', current = 'SADD', previous = 'SADD'}
local chain = KEYS[3] .. 'chain'
if redis.call('EXISTS', KEYS[1]) == 1 then return {'INITIALIZED'} end
local last = redis.call('GET', chain) or '-1'
if tonumber(ARGV[2]) ~= tonumber(last) + 1 then return {'BROKEN', last} end
redis.call('SET', chain, ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
redis.call(COMMAND[ARGV[3]], KEYS[3] .. ARGV[3], unpack(ARGV, 4))
return {'OK'}
