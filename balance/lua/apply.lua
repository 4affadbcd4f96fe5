-- apply: fold blocks of entries into one shard, exactly once. Twin of balance/ledger, which says what each entry does.
--
-- KEYS  1 head, 2 journal, 3 sources, 4 accounts, 5 closed, 6 results, 7 order, 8 attention, 9 stem of the id sets:
--       the set of a generation is KEYS[9] .. generation, in the same slot by its hash tag. README.md draws them.
-- ARGV  1 installation, 2 topic id, 3 from, 4 to, 5 shipped_to, 6 newest fold version of the caller,
--       7 account numbers: a msgpack array of decimal strings, each once; blocks name them by index, from 1
--       8.. blocks by ascending offset within from..to, as apply.go packs them
-- Reply {'OK', wm, base, offset, {'n', count, 'o', outcomes, 'o', more outcomes ...}, ...}: every block in from..to
--       {'UNINIT'}, {'HALT', why}, {'GAP', wm}, {'TRIMMED', base}, {'VERSION', what}: nothing was written
--
-- Invariants. The outcome is a function of state and entries: no time, no random, no order of hash tables. Nothing is
-- written before all is decided, and the first write is one that Redis may refuse (memory, replicas, disk): scripts
-- do not roll back. Numbers are doubles, exact to 2^53; they become text by %.0f only. unpack takes < 8000 values.
-- The first write counts begun up, the last one sets ended to it: half a call, or one that comes back, tears them apart.
local call, pack, unpackBytes = redis.call, struct.pack, struct.unpack
local byte, sub, rep, format, floor = string.byte, string.sub, string.rep, string.format, math.floor
local HEAD, JOURNAL, SOURCES, ACCOUNTS, CLOSED, RESULTS, ORDER, ATTENTION, IDS =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8], KEYS[9]
local CHUNK = 7000 -- values of one command; unpack can take 7999
local ROWS = 360 -- entries of one struct.pack; its buffer holds 8192 bytes, and more are hashed twice

-- The rules' numbers: balance/ledger/state.go.
local LIMIT, CREDIT_LIMIT, SETTINGS_LIMIT = 9e15, 4e15, 1e15
local TOP = LIMIT + 1 -- above every balance
local MINOR, DAY_MS, LATE_MARGIN_MS, TOKENS_KEPT, NO_DAY = 1000000, 86400000, 120000, 64, -2147483648
local MAX_DAY, MAX_ZONE = 2147483646, 4294967295
local Param = {WindowMs = 0, GraceMs = 1, BackOffMs = 2, Attempts = 3, GiveUpAfter = 4, ResultsKept = 5}
local PARAM_COUNT = 6
local MAX_PARAM = {[0] = 2 ^ 52, 2 ^ 52, 2 ^ 52, 255, 255, 100000} -- their greatest values
-- Kinds, results and flags: rater/entry, balance/posting.
local Kind = {Usage = 1, Rejected = 2, Account = 3, Number = 4, Zone = 5, Close = 6, Param = 7, FoldVersion = 8,
  Release = 9, Payment = 10, PaymentFailed = 11, Wake = 12, Credit = 13, Adjustment = 14, Settings = 15}
local Result = {Repeated = 1, Charged = 2, Duplicate = 3, Rejected = 4, Late = 5, Applied = 6, Refused = 7, Expired = 8,
  Unmatched = 9}
local Flag = {Suspended = 1, Low = 2, BecameSuspended = 4, BecameRestored = 8, BecameLow = 16, BecameFunded = 32,
  OpenedIntent = 64, GaveUp = 128}
local NO_ID = rep('\0', 8)
local BLOCK = '<i8i8I4BBBc20i8I4i8I4i8I4i8' -- and its length:
local BLOCK_LEN = 87
local ROW, ENTRY = 'I2i4i8i8', 'I4i4i8' -- of an outcome: result and flags, day, amount, balance; of an entry: account, day, amount

-- many gives the format of n equal rows. Making it is dear (Redis hashes every byte of a new string), so it is kept.
local made = {}
local function many(row, n)
  local key = row .. n
  local f = made[key]
  if not f then
    f = '<' .. rep(row, n)
    made[key] = f
  end
  return f
end

local function text(n) return format('%.0f', n) end

local function append(list, more)
  local n = #list
  for i = 1, #more do list[n + i] = more[i] end
end

-- The checks. ---------------------------------------------------------------------------------------------------
local head = call('HMGET', HEAD, 'installation', 'topic', 'wm', 'base', 'now', 'version', 'generation',
  'generation_start', 'covered_since', 'halted', 'param0', 'param1', 'param2', 'param3', 'param4', 'param5', 'begun', 'ended')
if not head[3] then return {'UNINIT'} end
local begun, ended = tonumber(head[17] or 0), tonumber(head[18] or 0)
if begun ~= ended then return {'UNINIT'} end -- torn: what Redis read back is no state of any offset
if head[1] ~= ARGV[1] then return {'HALT', 'the shard belongs to installation ' .. head[1]} end
if head[2] ~= ARGV[2] then return {'HALT', 'the shard belongs to another topic: ' .. head[2]} end
if head[10] then return {'HALT', head[10]} end
local from, to, wm, base = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(head[3]), tonumber(head[4])
if from > wm + 1 then return {'GAP', head[3]} end
if from <= base then return {'TRIMMED', head[4]} end
local build = tonumber(ARGV[6])
local version = tonumber(head[6])
if version > build then return {'VERSION', 'the shard is at fold version ' .. head[6]} end

-- The state that the blocks need. ---------------------------------------------------------------------------------
local now, generation = tonumber(head[5]), tonumber(head[7])
local generationStart, coveredSince = tonumber(head[8]), tonumber(head[9])
local params = {}
for p = 0, PARAM_COUNT - 1 do params[p] = tonumber(head[11 + p]) end
local firstGeneration = generation -- the sets in Redis are those of this one and the one before

local names = to > wm and cmsgpack.unpack(ARGV[7]) or {}
-- By account index. A charge that leaves the balance in [low, high) changes nothing but the balance: that band, the
-- flags in it and the first open day are all that the hot path knows. full holds the whole account once it is needed.
local raw, balances, lows, highs, levels, firstDays, touched, full = {}, {}, {}, {}, {}, {}, {}, {}

local firstDay, closings = {}, {} -- zone -> first day that is not closed, read on demand; zones closed by this call
local function firstOpen(zone)
  local day = firstDay[zone]
  if not day then
    local closed = call('HGET', CLOSED, text(zone))
    day = closed and tonumber(closed) + 1 or NO_DAY
    firstDay[zone] = day
  end
  return day
end

local function setBand(k, open, suspended, low, hasIntent, failures, zone, floorDay, threshold, target)
  local first = firstOpen(zone)
  firstDays[k] = floorDay > first and floorDay or first
  local from_, to_ = -LIMIT, TOP
  if open then
    local mayRecharge = low and not hasIntent and target > 0 and failures < params[Param.GiveUpAfter]
    if low then to_ = threshold else from_ = threshold end
    if suspended then
      if to_ > 0 then to_ = 0 end
    elseif from_ < 0 then
      from_ = 0
    end
    if mayRecharge then from_ = to_ end
  end
  lows[k], highs[k] = from_, to_
  levels[k] = Result.Charged + 256 * ((suspended and Flag.Suspended or 0) + (low and Flag.Low or 0))
end

for at = 1, #names, CHUNK do
  local last = at + CHUNK - 1
  if last > #names then last = #names end
  local values = call('HMGET', ACCOUNTS, unpack(names, at, last))
  for k = at, last do
    local value = values[k - at + 1]
    raw[k] = value
    if value then
      local flags, failures, zone, floorDay, balance, threshold, target = unpackBytes('<xBBxI4i4i8i8i8', value)
      balances[k] = balance
      if flags == 1 then -- open and nothing else: what setBand would find, without the call
        local day = firstDay[zone] or firstOpen(zone)
        lows[k], highs[k], levels[k] = threshold > 0 and threshold or 0, TOP, Result.Charged
        firstDays[k] = floorDay > day and floorDay or day
      else
        setBand(k, flags % 2 == 1, flags % 4 >= 2, flags % 8 >= 4, flags >= 8, failures, zone, floorDay, threshold, target)
      end
    else
      balances[k], lows[k], highs[k] = 0, 1, 0
    end
  end
end

-- Accounts in full. ---------------------------------------------------------------------------------------------
local function account(k)
  local a = full[k]
  if a then return a end
  a = {open = false, suspended = false, low = false, failures = 0, zone = 0, floor = NO_DAY, threshold = 0, target = 0,
    declined = 0, tokens = {}}
  full[k] = a
  local value = raw[k]
  if not value then return a end
  local flags, count, at, _
  flags, a.failures, count, a.zone, a.floor, _, a.threshold, a.target, a.declined, at =
    unpackBytes('<xBBBI4i4i8i8i8i8', value)
  a.open, a.suspended, a.low = flags % 2 == 1, flags % 4 >= 2, flags % 8 >= 4
  if flags >= 8 then
    local i = {}
    i.offset, i.ix, i.attempt, i.amount, i.opened, at = unpackBytes('<i8I4Bi8i8', value, at)
    a.intent = i
  end
  for n = 1, count do
    local t = {}
    t.offset, t.ix, t.attempt, at = unpackBytes('<i8I4B', value, at)
    a.tokens[n] = t
  end
  return a
end

local function packAccount(k)
  local a, i = full[k], full[k].intent
  local flags = (a.open and 1 or 0) + (a.suspended and 2 or 0) + (a.low and 4 or 0) + (i and 8 or 0)
  local parts = {pack('<BBBBI4i4i8i8i8i8', 1, flags, a.failures, #a.tokens, a.zone, a.floor, balances[k], a.threshold,
    a.target, a.declined)}
  if i then parts[2] = pack('<i8I4Bi8i8', i.offset, i.ix, i.attempt, i.amount, i.opened) end
  for n = 1, #a.tokens do
    local t = a.tokens[n]
    parts[#parts + 1] = pack('<i8I4B', t.offset, t.ix, t.attempt)
  end
  return table.concat(parts)
end

-- band recomputes the band of an account held in full.
local function band(k)
  local a = full[k]
  setBand(k, a.open, a.suspended, a.low, a.intent ~= nil, a.failures, a.zone, a.floor, a.threshold, a.target)
end

local function inBand(k, amount)
  local balance = balances[k] + amount
  return balance >= lows[k] and balance < highs[k]
end

-- forgetBands sends every account the long way once, after a change that bands depend on.
local function forgetBands()
  for k = 1, #names do lows[k], highs[k] = 1, 0 end
end

-- The rules, in the order and with the names of balance/ledger/fold.go. -------------------------------------------
local function level(suspended, low) return (suspended and Flag.Suspended or 0) + (low and Flag.Low or 0) end

-- passive is the outcome of an entry that changes nothing.
local function passive(k, result)
  local flags, a = 0, full[k]
  if a then
    flags = level(a.suspended, a.low)
  elseif raw[k] then
    flags = floor(byte(raw[k], 2) / 2) % 4
  end
  return result + 256 * flags, floor(now / DAY_MS), 0, balances[k]
end

local function fits(k, amount)
  if amount < -LIMIT or amount > LIMIT then return false end
  amount = amount + balances[k]
  return amount >= -LIMIT and amount <= LIMIT
end

-- add gives the result and the amount of a change of the balance.
local function add(k, amount, ceiling)
  if not fits(k, amount) or amount > 0 and balances[k] + amount > ceiling then return Result.Refused, 0 end
  return Result.Applied, amount
end

local function raiseFloor(a)
  local first = firstOpen(a.zone)
  if first > a.floor then a.floor = first end
end

local function validSettings(threshold, target)
  return threshold >= -SETTINGS_LIMIT and threshold <= SETTINGS_LIMIT and target >= 0 and target <= SETTINGS_LIMIT
    and (target == 0 or target >= threshold)
end

local function awaits(a, args)
  return a.intent and a.intent.offset == args[1] and a.intent.ix == args[2]
end

local function addToken(a)
  if #a.tokens >= TOKENS_KEPT then table.remove(a.tokens, 1) end
  a.tokens[#a.tokens + 1] = {offset = a.intent.offset, ix = a.intent.ix, attempt = a.intent.attempt}
end

-- What each kind does to everything but the balance: (account, index, args, amount) -> result, amount, flags.
local change = {}

change[Kind.Usage] = function(a, k, args, amount) return Result.Charged, amount end
change[Kind.Release] = change[Kind.Usage]
change[Kind.Wake] = function() return Result.Applied, 0 end
change[Kind.Number] = function(a, k, args, amount) return add(k, amount, LIMIT) end

change[Kind.Account] = function(a, k, args, amount)
  if a.open or args[1] < 0 or args[1] > MAX_ZONE or not validSettings(args[2], args[3]) then return Result.Refused, 0 end
  local result, added = add(k, amount, CREDIT_LIMIT)
  if result == Result.Applied then
    raiseFloor(a)
    a.open, a.zone, a.threshold, a.target = true, args[1], args[2], args[3]
  end
  return result, added
end

change[Kind.Zone] = function(a, k, args)
  if args[1] < 0 or args[1] > MAX_ZONE then return Result.Refused, 0 end
  raiseFloor(a)
  a.zone = args[1]
  return Result.Applied, 0
end

change[Kind.Payment] = function(a, k, args, amount)
  local at
  for n = 1, #a.tokens do
    local t = a.tokens[n]
    if not at and t.offset == args[1] and t.ix == args[2] and t.attempt == args[3] then at = n end
  end
  if not at then return Result.Unmatched, 0 end
  local result, added = add(k, amount, LIMIT)
  if result == Result.Applied then
    table.remove(a.tokens, at)
    if awaits(a, args) then a.intent, a.declined = nil, 0 end
    a.failures = 0
  end
  return result, added
end

change[Kind.PaymentFailed] = function(a, k, args)
  if not awaits(a, args) or a.intent.attempt ~= args[3] then return Result.Unmatched, 0 end
  a.intent.attempt = a.intent.attempt + 1
  if a.intent.attempt < params[Param.Attempts] then
    addToken(a)
    return Result.Applied, 0
  end
  a.intent = nil
  a.declined = now > 1 and now or 1
  if a.failures < 254 then a.failures = a.failures + 1 end
  return Result.Applied, 0, Flag.GaveUp
end

change[Kind.Credit] = function(a, k, args, amount)
  local result, added = add(k, amount, CREDIT_LIMIT)
  if result == Result.Applied then a.failures = 0 end
  return result, added
end
change[Kind.Adjustment] = change[Kind.Credit]

change[Kind.Settings] = function(a, k, args)
  if not validSettings(args[2], args[3]) then return Result.Refused, 0 end
  a.threshold, a.target, a.failures = args[2], args[3], 0
  return Result.Applied, 0
end

local function rechargeUnits(a, balance)
  if balance < -SETTINGS_LIMIT then balance = -SETTINGS_LIMIT end
  local need = a.target - balance
  if need > SETTINGS_LIMIT then need = SETTINGS_LIMIT end
  need = need + MINOR - 1
  return need - need % MINOR
end

local function mayRecharge(a, balance)
  return a.open and not a.intent and a.target > 0 and balance < a.threshold and a.failures < params[Param.GiveUpAfter]
end

-- evaluate brings the account's levels up to date, and gives the flags and the amount of a decided recharge.
local function evaluate(a, balance, offset, ix)
  local flags, intentUnits, wasLow, wasSuspended = 0, 0, a.low, a.suspended
  a.low = a.open and balance < a.threshold
  if mayRecharge(a, balance) and not (a.declined > 0 and now - a.declined <= params[Param.BackOffMs]) then
    intentUnits = rechargeUnits(a, balance)
    a.intent = {offset = offset, ix = ix, attempt = 0, amount = intentUnits, opened = now}
    addToken(a)
    flags = Flag.OpenedIntent
  end
  local inGrace = a.intent and a.intent.attempt == 0 and now - a.intent.opened <= params[Param.GraceMs]
  if balance >= 0 then
    a.suspended = false
  elseif a.open and not inGrace then
    a.suspended = true
  end
  if a.low ~= wasLow then flags = flags + (a.low and Flag.BecameLow or Flag.BecameFunded) end
  if a.suspended ~= wasSuspended then flags = flags + (a.suspended and Flag.BecameSuspended or Flag.BecameRestored) end
  a.attention = a.intent ~= nil or a.open and (balance < 0 and not a.suspended or mayRecharge(a, balance))
  return flags + level(a.suspended, a.low), intentUnits
end

-- Kept outcomes of API entries: few, so they may ask Redis one by one. dropped counts the oldest that go.
local results, kept, order, dropped, listed, oldest = {}, {}, {}, 0, nil, {}

-- oldestId gives the id at the front of the order, dropped and appended ones considered.
local function oldestId()
  if dropped >= listed then return order[dropped - listed + 1] end
  if not oldest[dropped + 1] then
    local more = call('LRANGE', ORDER, dropped, dropped + 99)
    for n = 1, #more do oldest[dropped + n] = more[n] end
  end
  return oldest[dropped + 1]
end

local function keepResult(id, value)
  if id == NO_ID then return end
  listed = listed or call('LLEN', ORDER)
  local known = results[id]
  if known == nil then known = call('HEXISTS', RESULTS, id) == 1 end
  if not known then order[#order + 1] = id end
  if results[id] == nil then kept[#kept + 1] = id end
  results[id] = value
  local most = params[Param.ResultsKept] > 1 and params[Param.ResultsKept] or 1
  while listed + #order - dropped > most do
    local old = oldestId()
    if results[old] == nil then kept[#kept + 1] = old end
    results[old] = false
    dropped = dropped + 1
  end
end

-- Ids. ------------------------------------------------------------------------------------------------------------
local mine, fresh = {}, {} -- id -> generation it was added to by this call; generation -> its new ids

local function remember(id)
  if id == NO_ID then return end
  mine[id] = generation
  local list = fresh[generation]
  list[#list + 1] = id
end

local function turnGeneration()
  if now - generationStart >= params[Param.WindowMs] then
    coveredSince, generationStart = generationStart, now
    generation = generation + 1
  end
  fresh[generation] = fresh[generation] or {}
end

-- members asks which ids are in the set of a generation: a list of 0 and 1, or nil where no set can hold any.
local function members(generationAsked, ids)
  if not generationAsked then return nil end
  local found, n = {}, #ids
  local set = IDS .. text(generationAsked)
  for at = 1, n, CHUNK do
    local part = call('SMISMEMBER', set, unpack(ids, at, at + CHUNK - 1 < n and at + CHUNK - 1 or n))
    if n <= CHUNK then return part end
    append(found, part)
  end
  return found
end

local seen = {} -- source -> {offset, ix}, read on demand
local sources = {}
local function position(source)
  local p = seen[source]
  if not p then
    local value = call('HGET', SOURCES, source)
    p = {-1, 0}
    if value then p[1], p[2] = unpackBytes('<i8I4', value) end
    seen[source] = p
    sources[#sources + 1] = source
  end
  return p
end

local function less(offset, ix, offset2, ix2) return offset < offset2 or offset == offset2 and ix < ix2 end

-- One block. -------------------------------------------------------------------------------------------------------
local unknown -- says what this build does not know: it ends the call with VERSION

-- openBlock reads the head of a packed block and says where its columns are.
local function openBlock(blob)
  local b = {blob = blob, intents = {}}
  b.offset, b.appendMs, b.count, b.fed, b.ascending, b.plain, b.source, b.prevOffset, b.prevIx, b.firstOffset, b.firstIx,
    b.lastOffset, b.lastIx, b.minEvent = unpackBytes(BLOCK, blob)
  b.fed, b.ascending, b.calm, b.plain = b.fed == 1, b.ascending == 1, b.plain > 0, b.plain == 2
  b.entriesAt = BLOCK_LEN + 1
  b.idsAt = b.entriesAt + 16 * b.count
  b.eventsAt = b.idsAt + 8 * b.count
  b.positionsAt = b.eventsAt + 8 * b.count
  b.kindsAt = b.positionsAt + 12 * b.count
  b.argsAt = b.kindsAt + b.count
  b.last = b.fed and position(b.source)
  b.allNew = not b.fed or b.ascending and less(b.last[1], b.last[2], b.firstOffset, b.firstIx)
  return b
end

-- lateBefore is the event time before which a Usage entry is late.
local function lateBefore()
  local since = now - params[Param.WindowMs]
  return (coveredSince > since and coveredSince or since) + LATE_MARGIN_MS
end

-- readIds reads the ids of a block, and which of them are in the sets of this generation and the one before.
local function readIds(b)
  b.ids = {}
  for first = 0, b.count - 1, CHUNK do
    local n = b.count - first < CHUNK and b.count - first or CHUNK
    local part = {unpackBytes(many('c8', n), b.blob, b.idsAt + 8 * first)}
    part[n + 1] = nil
    if n == b.count then b.ids = part else append(b.ids, part) end
  end
  local current = generation - 1 <= firstGeneration and firstGeneration
  local previous = generation == firstGeneration and firstGeneration - 1
  b.inCurrent, b.inPrevious = members(current, b.ids), members(previous, b.ids)
end

local function known(b, i)
  local id = b.ids[i]
  return b.inCurrent and b.inCurrent[i] > 0 or b.inPrevious and b.inPrevious[i] > 0 or mine[id] and mine[id] >= generation - 1
end

-- admit decides by id and age whether an entry is applied: nil, or the result of one that is not.
local function admit(b, i, k, kind, args, amount)
  local event = unpackBytes('<i8', b.blob, b.eventsAt + 8 * (i - 1))
  local fromAPI, oldestMs = kind >= Kind.Credit, now - floor(params[Param.WindowMs] / 2)
  if coveredSince > oldestMs then oldestMs = coveredSince end
  if kind == Kind.Release and args[1] < oldestMs then return Result.Late end
  if known(b, i) then return Result.Duplicate end
  if fromAPI then
    local halfMs = now - floor((now - coveredSince) / 2)
    if event < oldestMs or event < halfMs then return Result.Expired end
  end
  if kind == Kind.Usage and event < lateBefore() then return Result.Late end
  if not fromAPI and not fits(k, amount) then return Result.Refused end
  remember(b.ids[i])
end

-- check notes what this build does not know, before anything else is looked at.
local function check(kind, args)
  if kind < Kind.Usage or kind > Kind.Settings then
    unknown = format('kind %.0f', kind)
  elseif kind == Kind.Param and (args[1] < 0 or args[1] >= PARAM_COUNT) then
    unknown = format('parameter %.0f', args[1])
  elseif kind == Kind.FoldVersion and args[1] > build then
    unknown = format('fold version %.0f', args[1])
  end
  return unknown
end

-- setShardWide folds the kinds that concern no account.
local function setShardWide(kind, args)
  if kind == Kind.Close then
    local zone, day = args[1], args[2]
    if zone < 0 or zone > MAX_ZONE or day < 0 or day > MAX_DAY then return Result.Refused end
    if day >= firstOpen(zone) then
      firstDay[zone] = day + 1
      closings[#closings + 1] = zone
      forgetBands()
    end
  elseif kind == Kind.Param then
    local param, value = args[1], args[2]
    if value < 0 or value > MAX_PARAM[param] then return Result.Refused end
    params[param] = value
    forgetBands()
  elseif args[1] > version then
    version = args[1]
  end
  return Result.Applied
end

-- nextDetail gives kind and arguments of entry i, and where the arguments are: entries come in order, and only those
-- other than Usage have some.
local function nextDetail(b, i)
  local kind = b.plain and Kind.Usage or byte(b.blob, b.kindsAt + i - 1)
  if kind == Kind.Usage then return kind end
  local at = b.argsAt
  b.argsAt = at + 32
  return kind, {unpackBytes('<i8i8i8i8', b.blob, at)}, at
end

-- isRepeat tells whether the shard has seen the position of entry i, and else takes it as seen.
local function isRepeat(b, i)
  if not b.fed or b.allNew then return false end
  local offset, ix = unpackBytes('<i8I4', b.blob, b.positionsAt + 12 * (i - 1))
  if not less(b.last[1], b.last[2], offset, ix) then return true end
  b.last[1], b.last[2] = offset, ix
  return false
end

-- entry folds entry i the long way, and gives the four values of its outcome's row.
local function entry(b, i, k, day, amount)
  local kind, args, argsAt = nextDetail(b, i)
  if check(kind, args) then return 0, 0, 0, 0 end
  if isRepeat(b, i) then return passive(k, Result.Repeated) end
  if kind == Kind.Rejected then return passive(k, Result.Rejected) end
  if kind >= Kind.Close and kind <= Kind.FoldVersion then return passive(k, setShardWide(kind, args)) end
  if kind == Kind.Usage or kind == Kind.Release or kind >= Kind.Credit then
    local refusal = admit(b, i, k, kind, args, amount)
    if refusal then return passive(k, refusal) end
  end
  if kind == Kind.Usage and inBand(k, amount) then
    balances[k], touched[k] = balances[k] + amount, true
    return levels[k], day > firstDays[k] and day or firstDays[k], amount, balances[k]
  end
  local a = account(k)
  local result, added, gaveUp = change[kind](a, k, args, amount)
  local balance = balances[k] + added
  balances[k] = balance
  local flags, intentUnits = evaluate(a, balance, b.offset, i - 1)
  if intentUnits > 0 then b.intents[#b.intents + 1] = pack('<i8', intentUnits) end
  local code = result + 256 * (flags + (gaveUp or 0))
  band(k)
  if day < firstDays[k] then day = firstDays[k] end
  if kind >= Kind.Credit then
    local body = sub(b.blob, argsAt, argsAt + 7)
    keepResult(b.ids[i], pack('<i8c8' .. ROW .. 'i8', b.offset, body, code, day, added, balance, intentUnits))
  end
  return code, day, added, balance
end

local rows = {} -- of the outcomes being gathered; one table for all blocks, since growing one is dear

-- foldBlock gives the outcomes of the block as the journal and the reply hold them, or nil and the reply that ends the call.
local function foldBlock(blob)
  local b = openBlock(blob)
  if b.fed and less(b.last[1], b.last[2], b.prevOffset, b.prevIx) then
    return nil, {'HALT', format('BUG: a block of entries is missing: the one at offset %.0f follows %.0f.%.0f of its source, '
      .. 'the last one seen is %.0f.%.0f', b.offset, b.prevOffset, b.prevIx, b.last[1], b.last[2])}
  end
  if b.appendMs > now then now = b.appendMs end
  turnGeneration()
  readIds(b)
  local careful, plain, kindsAt = not b.calm or not b.allNew or b.minEvent < lateBefore(), b.plain, b.kindsAt - 1
  local ids, inCurrent, inPrevious, new = b.ids, b.inCurrent, b.inPrevious, fresh[generation]
  local parts, p = {'n', text(b.count)}, 2
  for first = 0, b.count - 1, ROWS do
    local n = b.count - first < ROWS and b.count - first or ROWS
    local v = {unpackBytes(many(ENTRY, n), blob, b.entriesAt + 16 * first)}
    local r, i, news = 0, first, #new
    for j = 1, 3 * n, 3 do
      i = i + 1
      local k, day, amount, id = v[j], v[j + 1], v[j + 2], ids[i]
      local balance = balances[k] + amount
      -- The hot path: a charge that changes nothing but a balance.
      if balance >= lows[k] and balance < highs[k] and not mine[id]
        and not (inCurrent and inCurrent[i] > 0) and not (inPrevious and inPrevious[i] > 0)
        and not careful and id ~= NO_ID
        and (plain or byte(blob, kindsAt + i) == Kind.Usage) then
        if day < firstDays[k] then day = firstDays[k] end
        news = news + 1
        balances[k], touched[k], mine[id], new[news] = balance, true, generation, id
        rows[r + 1], rows[r + 2], rows[r + 3], rows[r + 4] = levels[k], day, amount, balance
      else
        rows[r + 1], rows[r + 2], rows[r + 3], rows[r + 4] = entry(b, i, k, day, amount)
        if unknown then return nil, {'VERSION', unknown} end
        news = #new
      end
      r = r + 4
    end
    parts[p + 1], parts[p + 2] = 'o', pack(many(ROW, n), unpack(rows, 1, r))
    p = p + 2
  end
  if b.fed and b.allNew and b.count > 0 then b.last[1], b.last[2] = b.lastOffset, b.lastIx end
  if #b.intents > 0 then parts[p + 1], parts[p + 2] = 'o', table.concat(b.intents) end
  return parts
end

-- The call. -------------------------------------------------------------------------------------------------------
local reply, replied = {'OK', head[3], head[4]}, 3
if from <= wm and from <= to then
  local entries = call('XRANGE', JOURNAL, ARGV[3] .. '-1', (to < wm and ARGV[4] or head[3]) .. '-1')
  for n = 1, #entries do
    reply[replied + 1], reply[replied + 2] = string.match(entries[n][1], '^%d+'), entries[n][2]
    replied = replied + 2
  end
end
local journal = {}
for b = 8, #ARGV do
  local offset = unpackBytes('<i8', ARGV[b])
  if offset > wm then
    local outcomes, stop = foldBlock(ARGV[b])
    if stop then return stop end
    local name = format('%.0f', offset)
    journal[#journal + 1] = {name .. '-1', outcomes}
    reply[replied + 1], reply[replied + 2] = name, outcomes
    replied = replied + 2
  end
end

-- The writes. -----------------------------------------------------------------------------------------------------
-- inChunks calls a command with the values of a list from one on, as many at a time as unpack can take.
local function inChunks(command, key, list, first)
  for at = first or 1, #list, CHUNK do
    call(command, key, unpack(list, at, at + CHUNK - 1 < #list and at + CHUNK - 1 or #list))
  end
end

local function writeHead()
  call('HINCRBY', HEAD, 'begun', 1)
  local values = {'wm', reply[2], 'base', reply[3], 'now', text(now), 'version', text(version), 'generation', text(generation),
    'generation_start', text(generationStart), 'covered_since', text(coveredSince)}
  for p = 0, PARAM_COUNT - 1 do append(values, {'param' .. p, text(params[p])}) end
  call('HSET', HEAD, unpack(values))
end

local function writeJournal(newBase)
  if newBase > base then call('XTRIM', JOURNAL, 'MINID', text(newBase + 1)) end
  for n = 1, #journal do call('XADD', JOURNAL, journal[n][1], unpack(journal[n][2])) end
end

local function writeAccounts()
  local fields, attend, leave = {}, {}, {}
  local n = 0
  for k = 1, #names do
    local a, value = full[k], nil
    if a then
      value = packAccount(k)
      local list = a.attention and attend or leave
      list[#list + 1] = names[k]
    elseif touched[k] then
      value = pack('<c12i8c0', raw[k], balances[k], sub(raw[k], 21))
    end
    if value then
      fields[n + 1], fields[n + 2] = names[k], value
      n = n + 2
    end
  end
  inChunks('HSET', ACCOUNTS, fields)
  inChunks('SADD', ATTENTION, attend)
  inChunks('SREM', ATTENTION, leave)
end

local function writeIds()
  for g = firstGeneration - 1, generation - 2 do call('UNLINK', IDS .. text(g)) end
  -- A generation begins empty, whatever a half call that came back has left behind of the time after the shard's wm.
  for g = firstGeneration + 1, generation do call('UNLINK', IDS .. text(g)) end
  for g = generation - 1, generation do inChunks('SADD', IDS .. text(g), fresh[g] or {}) end
end

local function writeSources()
  for n = 1, #sources do
    local p = seen[sources[n]]
    call('HSET', SOURCES, sources[n], pack('<i8I4', p[1], p[2]))
  end
  for n = 1, #closings do call('HSET', CLOSED, text(closings[n]), text(firstDay[closings[n]] - 1)) end
end

local function writeResults()
  if dropped > 0 then call('LTRIM', ORDER, dropped, -1) end
  inChunks('RPUSH', ORDER, order, dropped > (listed or 0) and dropped - listed + 1 or 1)
  for n = 1, #kept do
    local id = kept[n]
    if results[id] then call('HSET', RESULTS, id, results[id]) else call('HDEL', RESULTS, id) end
  end
end

local newBase = math.max(base, math.min(tonumber(ARGV[5]), wm))
reply[2], reply[3] = to > wm and ARGV[4] or head[3], text(newBase)
writeHead()
writeJournal(newBase)
writeAccounts()
writeIds()
writeSources()
writeResults()
call('HSET', HEAD, 'ended', text(begun + 1))
return reply
