-- Decides groups of hits, each group on its own, and writes what they changed: the only file that speaks to
-- Redis. README.md tells what KEYS, ARGV and the reply look like.

local VERSION = 1
local ALGORITHMS = {
  [84] = "token_bucket", [76] = "leaky_bucket", [70] = "fixed_window", [83] = "sliding_window",
  [71] = "sliding_log",
}
local KINDS = {[0] = "epoch", [1] = "anchored", [2] = "calendar"}
local ANSWERED, WINDOW, NEWER, FAILED = "\0", "\1", "\2", "\3"
local OTHER_ALGORITHM, CORRUPT = 4, 8

local time = redis.call("TIME")
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

-- What is known of each key, and the keys to be written, in the order in which they were first changed.
local known, changed = {}, {}

-- Reads the parameters of a limit from the arguments. Returns the place after them.
local function limit_of(algorithm, arguments, place)
  local limit = {}
  if algorithm == 84 then
    limit.count, limit.per, limit.burst, place = struct.unpack(">I7I7I7", arguments, place)
  elseif algorithm == 76 then
    limit.count, limit.per, limit.capacity, place = struct.unpack(">I7I7I7", arguments, place)
  elseif algorithm == 70 then
    local kind, counts
    limit.limit, kind, counts, place = struct.unpack(">I7BB", arguments, place)
    limit.kind, limit.counts = KINDS[kind], counts == 1
    if kind < 2 then
      limit.length, place = struct.unpack(">I7", arguments, place)
      return limit, place
    end
    local windows
    windows, place = struct.unpack(">B", arguments, place)
    limit.windows = {}
    for i = 1, windows do
      local start, finish
      start, finish, place = struct.unpack(">I7I7", arguments, place)
      limit.windows[i] = {start, finish}
    end
  else
    limit.limit, limit.length, place = struct.unpack(">I7I7", arguments, place)
  end
  return limit, place
end

-- One group as its arguments describe it; its keys begin at KEYS[first].
local function group_of(arguments, first)
  local kind, ttl, count, place = struct.unpack(">c1I7I2", arguments)
  local group = {kind = kind, hits = {}, ttl = ttl}
  if ttl > 0 then
    group.id = KEYS[first]
    first = first + 1
  end
  for i = 1, count do
    local hit = {key = KEYS[first + i - 1]}
    local flags
    flags, hit.units, hit.patience, hit.algorithm, place = struct.unpack(">BI7I7B", arguments, place)
    hit.refund, hit.shadow, hit.alternative = flags % 2 == 1, flags % 4 > 1, flags > 3
    if kind == "R" then
      hit.ttl = hit.patience
    else
      hit.limit, place = limit_of(hit.algorithm, arguments, place)
      hit.module = use(ALGORITHMS[hit.algorithm])
    end
    group.hits[i] = hit
  end
  return group, first + count
end

-- The state in a stored value, and its algorithm; or what is wrong with it.
local function parsed(value)
  if type(value) ~= "string" or #value < 2 then
    return nil, nil, CORRUPT
  end
  local version, algorithm = struct.unpack(">BB", value)
  if version > VERSION then
    error({newer = true})
  end
  local name = version == VERSION and ALGORITHMS[algorithm]
  local state = name and use(name).unpack(value)
  if not state then
    return nil, nil, CORRUPT
  end
  return state, algorithm, 0
end

-- What is stored under a key, read once.
local function entry_of(key)
  local entry = known[key]
  if entry then
    return entry
  end
  entry = {found = 0}
  local value = redis.pcall("GET", key)
  if type(value) == "table" then
    -- a value of another type
    entry.found = CORRUPT
  elseif value then
    entry.state, entry.algorithm, entry.found = parsed(value)
  end
  known[key] = entry
  return entry
end

-- The state that `hit` sees, and what was found in its place if that is none of its algorithm.
local function state_of(hit, own)
  local mine = own[hit.key]
  if mine and mine.hit.algorithm == hit.algorithm then
    return mine.state, 0
  end
  local entry = entry_of(hit.key)
  if entry.state and entry.algorithm ~= hit.algorithm then
    return nil, OTHER_ALGORITHM
  end
  return entry.state, entry.found
end

-- Steps every hit in order without writing. `own` collects the states that are new.
local function steps(hits, own)
  local verdicts = {}
  for i, hit in ipairs(hits) do
    local state, found = state_of(hit, own)
    local verdict, after = hit.module.step(hit.limit, state, now, hit)
    verdict.found = found
    verdicts[i] = verdict
    if after then
      own[hit.key] = {state = after, hit = hit}
    end
  end
  return verdicts
end

-- Whether the verdicts refuse the request: see core/src/rules/decision.rs.
local function refuses(hits, verdicts)
  local alternatives, all = false, true
  for i, hit in ipairs(hits) do
    local over = not verdicts[i].allowed and not hit.shadow
    if over and not hit.alternative then
      return true
    end
    if hit.alternative then
      alternatives = true
      all = all and over
    end
  end
  return alternatives and all
end

local function look(hit, own)
  local ask = {units = 0, patience = hit.patience, refund = false}
  local verdict = hit.module.step(hit.limit, state_of(hit, own), now, ask)
  verdict.found = 0
  return verdict
end

-- A refused request charges nothing: whoever would have admitted it is told as if nobody had asked.
local function uncharged(hits, verdicts)
  for i, hit in ipairs(hits) do
    if verdicts[i].allowed then
      verdicts[i] = look(hit, {})
    end
  end
end

-- Keeps the states of `own` for the groups that follow, and for the end.
local function commit(own)
  local expires = {}
  for key, new in pairs(own) do
    -- a calendar may want another window for this: before anything is kept
    expires[key] = new.hit.module.expires(new.hit.limit, new.state)
  end
  for key, new in pairs(own) do
    local entry = entry_of(key)
    if not entry.expires then
      changed[#changed + 1] = key
    end
    entry.state, entry.algorithm, entry.found = new.state, new.hit.algorithm, 0
    entry.expires, entry.module = expires[key], new.hit.module
  end
  return next(own) ~= nil
end

local function reply_of(verdicts)
  local parts = {ANSWERED}
  for i, verdict in ipairs(verdicts) do
    local flags = verdict.found + (verdict.allowed and 1 or 0)
    local retry = verdict.retry
    if retry == NEVER then
      flags, retry = flags + 2, 0
    end
    parts[i + 1] = struct.pack(
      ">BI7I7I7I7I7I7", flags, verdict.remaining, verdict.used_before, verdict.used, retry, verdict.reset, verdict.wait
    )
  end
  return table.concat(parts)
end

-- Remembers under the group's id what it was answered, and what of it was charged.
local function remember(group, mark, reply)
  local entry = known[group.id] or {}
  if not entry.record then
    changed[#changed + 1] = group.id
  end
  entry.record, entry.mark, entry.reply, entry.ttl = string.char(VERSION) .. mark .. reply, mark, reply, group.ttl
  known[group.id] = entry
end

-- The mark and the reply remembered under the group's id.
local function remembered(group)
  local entry = known[group.id]
  if entry then
    return entry.mark, entry.reply
  end
  local value = redis.pcall("GET", group.id)
  if type(value) ~= "string" or #value < 2 then
    return nil
  end
  if string.byte(value) > VERSION then
    error({newer = true})
  end
  return string.sub(value, 2, 2), string.sub(value, 3)
end

-- Charges a group. Marks: c, what the verdicts admit was charged; n, nothing was; x, it was taken back.
local function charge(group)
  if group.id then
    local mark, reply = remembered(group)
    if mark == "x" then
      local verdicts = {}
      for i, hit in ipairs(group.hits) do
        verdicts[i] = look(hit, {})
      end
      return reply_of(verdicts), false
    elseif mark then
      return reply, false
    end
  end
  local own = {}
  local verdicts, mark = steps(group.hits, own), "c"
  if group.kind == "A" and refuses(group.hits, verdicts) then
    uncharged(group.hits, verdicts)
    own, mark = {}, "n"
  end
  local writes = commit(own)
  local reply = reply_of(verdicts)
  if group.id then
    remember(group, mark, reply)
    writes = true
  end
  return reply, writes
end

-- Takes back what a group with this id has charged, or sees to it that it will charge nothing.
local function cancel(group)
  local mark, reply = remembered(group)
  local own, verdicts = {}, {}
  for i, hit in ipairs(group.hits) do
    local flags = mark == "c" and string.byte(reply, 2 + (i - 1) * 43) or 0
    if flags and flags % 2 == 1 and not hit.refund and hit.units > 0 then
      local ask = {units = hit.units, patience = hit.patience, refund = true}
      local _, after = hit.module.step(hit.limit, state_of(hit, own), now, ask)
      own[hit.key] = after and {state = after, hit = hit} or own[hit.key]
    end
  end
  for i, hit in ipairs(group.hits) do
    verdicts[i] = look(hit, own)
  end
  commit(own)
  remember(group, "x", "")
  return reply_of(verdicts), true
end

-- Counts as envoyproxy/ratelimit does, in its own keys. Every command of it stands for itself.
local function count(group)
  local parts = {ANSWERED}
  for i, hit in ipairs(group.hits) do
    local after
    if hit.units == 0 or hit.refund then
      local value = redis.call("GET", hit.key)
      after = value and tonumber(value) or 0
      if hit.refund and value and after > 0 then
        after = tonumber(redis.call("DECRBY", hit.key, string.format("%.0f", math.min(hit.units, after))))
      end
    else
      after = redis.call("INCRBY", hit.key, string.format("%.0f", hit.units))
      redis.call("EXPIRE", hit.key, hit.ttl)
    end
    after = math.min(math.max(after, 0), 9007199254740991)
    local before = hit.refund and after or math.max(after - hit.units, 0)
    parts[i + 1] = struct.pack(">I7I7", before, after)
  end
  return table.concat(parts), false
end

local HANDLERS = {C = charge, A = charge, X = cancel, R = count}

-- The reply to one group, and whether it waits for the writes at the end.
local function answer(group)
  local fine, reply, writes = pcall(HANDLERS[group.kind], group)
  if fine then
    return reply, writes
  end
  if type(reply) ~= "table" then
    return FAILED .. tostring(reply), false
  elseif reply.window then
    return WINDOW .. struct.pack(">I7", reply.window), false
  elseif reply.newer then
    return NEWER, false
  end
  return FAILED .. tostring(reply.err), false
end

-- Writes one key with its end, in whole milliseconds, later than now.
local function write(key)
  local entry = known[key]
  if entry.record then
    return redis.pcall("SET", key, entry.record, "PX", entry.ttl)
  end
  local algorithm = entry.algorithm
  local value = entry.module.pack(entry.state, VERSION, algorithm)
  local rest = math.fmod(entry.expires, 1000)
  local ms = (entry.expires - rest) / 1000 + (rest > 0 and 1 or 0)
  local least = (now - math.fmod(now, 1000)) / 1000 + 1
  return redis.pcall("SET", key, value, "PXAT", string.format("%.0f", math.max(ms, least)))
end

local replies, writers, first = {now}, {}, 1
for i, arguments in ipairs(ARGV) do
  local group
  group, first = group_of(arguments, first)
  local reply, writes = answer(group)
  replies[i + 1] = reply
  if writes then
    writers[#writers + 1] = i + 1
  end
end
for _, key in ipairs(changed) do
  local done = write(key)
  if type(done) == "table" and done.err then
    for _, i in ipairs(writers) do
      replies[i] = FAILED .. done.err
    end
    break
  end
end
return replies
