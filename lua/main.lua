-- Decides groups of hits, each on its own, and writes what they changed: only this file speaks to Redis (README.md).
-- Versions to come are below TEXT; a larger first byte is somebody's text, and no state at all.
local VERSION, TEXT = 1, 32
local ANSWERED = "\0"
local OTHER_ALGORITHM, CORRUPT = 4, 8

local time = redis.call("TIME")
local now = time[1] * 1000000 + time[2]

-- What is known of each key, and the keys to be written, in the order in which they were first changed.
local known, changed = {}, {}

-- Reads the parameters of a limit from the arguments. Returns the place after them.
local function limit_of(algorithm, arguments, place)
  if algorithm == "T" or algorithm == "L" then
    local count, per, capacity, after = unpack(">I7I7I7", arguments, place)
    return {count = count, per = per, capacity = capacity}, after
  elseif algorithm ~= "F" then
    local most, length, after = unpack(">I7I7", arguments, place)
    return {limit = most, length = length}, after
  end
  local most, kind, counts, after = unpack(">I7BB", arguments, place)
  local limit = {limit = most, kind = kind, counts = counts == 1, length = nil, windows = nil}
  if kind < 2 then
    limit.length, after = unpack(">I7", arguments, after)
    return limit, after
  end
  local windows = {}
  for i = 1, arguments:byte(after) do
    local start, finish = unpack(">I7I7", arguments, after + 14 * i - 13)
    windows[i] = {start, finish}
  end
  limit.windows = windows
  return limit, after + 1 + 14 * #windows
end

-- The hits of a group from the place of its first one on; their keys begin at KEYS[first].
local function hits_of(kind, count, arguments, place, first)
  local hits = {}
  for i = 1, count do
    local flags, units, patience, algorithm, limit
    flags, units, patience, algorithm, place = unpack(">BI7I7c1", arguments, place)
    if kind ~= "R" then
      limit, place = limit_of(algorithm, arguments, place)
    end
    hits[i] = {
      key = KEYS[first + i - 1], flags = flags, refund = flags % 2 == 1, units = units, patience = patience,
      algorithm = algorithm, limit = limit, after = nil,
    }
  end
  return hits
end

-- The value under a key, and whether it is one of another type.
local function stored(key)
  local value = redis.pcall("GET", key)
  if type(value) ~= "table" then
    return value, false
  end
  if string.find(value.err, "WRONGTYPE", 1, true) then
    return nil, true
  end
  -- not to be taken for a key without a state
  error(value)
end

-- The state in a stored value, and its algorithm; or what is wrong with it.
local function parsed(value)
  local version = value:byte()
  if version and version > VERSION and version < TEXT and #value > 1 then
    error({newer = true})
  end
  local algorithm = value:sub(2, 2)
  local module = version == VERSION and use(algorithm)
  local state = module and module.unpack(value)
  if not state then
    return nil, nil, CORRUPT
  end
  return state, algorithm, 0
end

-- The state that `hit` sees, and what was found in its place if that is none of its algorithm. `own` holds, by
-- key, the hit of the same group that was last to change it. Every key is read once.
local function state_of(hit, own)
  local key, algorithm = hit.key, hit.algorithm
  local mine = own and own[key]
  if mine then
    if mine.algorithm == algorithm then
      return mine.after, 0
    end
    return nil, OTHER_ALGORITHM
  end
  local entry = known[key]
  if not entry then
    local value, other_type = stored(key)
    local state, its_algorithm, found = nil, nil, other_type and CORRUPT or 0
    if value then
      state, its_algorithm, found = parsed(value)
    end
    entry = {state = state, algorithm = its_algorithm, found = found, limit = nil}
    known[key] = entry
  end
  if entry.state and entry.algorithm ~= algorithm then
    return nil, OTHER_ALGORITHM
  end
  return entry.state, entry.found
end

-- Steps every hit in order without writing. Returns the verdicts, and by key the hits that change something.
local function steps(hits)
  local verdicts, own = {}, nil
  for i = 1, #hits do
    local hit = hits[i]
    local state, found = state_of(hit, own)
    local verdict, after = use(hit.algorithm).step(hit.limit, state, now, hit)
    verdict.found = found
    verdicts[i] = verdict
    if after then
      hit.after = after
      own = own or {}
      own[hit.key] = hit
    end
  end
  return verdicts, own
end

-- Keeps the states of `own` for the groups that follow, and for the end.
local function commit(own)
  for key, hit in pairs(own) do
    local entry = known[key]
    if not entry.limit then
      changed[#changed + 1] = key
    end
    entry.state, entry.algorithm, entry.found, entry.limit = hit.after, hit.algorithm, 0, hit.limit
  end
end

-- The reply to a group that has verdicts.
local function reply_of(verdicts)
  local reply = ANSWERED
  for i = 1, #verdicts do
    local verdict = verdicts[i]
    local flags, retry = verdict.found, verdict.retry
    if verdict.allowed then
      flags = flags + 1
    end
    if retry == NEVER then
      flags, retry = flags + 2, 0
    end
    reply = reply .. pack(
      ">BI7I7I7I7I7I7", flags, verdict.remaining, verdict.used_before, verdict.used, retry, verdict.reset, verdict.wait
    )
  end
  return reply
end

-- What few calls need. Making it costs as much as a decision: it is made when it is first asked for.
local function seldom()
  if made.seldom then
    return made.seldom
  end

  -- What a hit would be told if it only looked.
  local function look(hit, own)
    local ask = {units = 0, patience = hit.patience, refund = false}
    local verdict = use(hit.algorithm).step(hit.limit, state_of(hit, own), now, ask)
    verdict.found = 0
    return verdict
  end

  -- Whether the verdicts refuse the request: see core/src/rules/decision.rs.
  local function refuses(hits, verdicts)
    local alternatives, all = false, true
    for i = 1, #hits do
      local hit = hits[i]
      local shadow, alternative = hit.flags % 4 > 1, hit.flags > 3
      local over = not verdicts[i].allowed and not shadow
      if over and not alternative then
        return true
      end
      if alternative then
        alternatives = true
        all = all and over
      end
    end
    return alternatives and all
  end

  -- A refused request charges nothing: whoever would have admitted it is told as if nobody had asked.
  local function uncharge(hits, verdicts)
    for i = 1, #hits do
      if verdicts[i].allowed then
        verdicts[i] = look(hits[i], nil)
      end
    end
  end

  -- The mark and the reply remembered under the group's id, and when that was.
  local function remembered(id)
    local entry = known[id]
    if entry then
      return entry.mark, entry.reply, now
    end
    local value = stored(id)
    if not value or #value < 2 then
      return nil
    end
    local version, mark = value:byte(1, 2)
    if version > VERSION and version < TEXT then
      error({newer = true})
    end
    mark = string.char(mark)
    if version ~= VERSION or #value < 9 or not mark:find("[cnx]") then
      return nil
    end
    return mark, value:sub(10), (unpack(">I7", value, 3))
  end

  -- How much of what `hit` was charged at the instant `at`, when `used` units were in use after it, is still there
  -- to be given back: what is in use beyond what those have drained to, or in a later window, is somebody else's.
  local function left(hit, state, at, used)
    local algorithm = hit.algorithm
    if not state or algorithm == "G" then
      return hit.units
    elseif algorithm == "T" or algorithm == "L" then
      local drained, beyond = muldiv(max(now - at, 0), hit.limit.count, 0, hit.limit.per)
      return beyond > 0 and 0 or min(hit.units, max(used - drained, 0))
    end
    return state.start > at and 0 or hit.units
  end

  -- Remembers under the group's id what it was answered, and what of it was charged.
  local function remember(id, ttl, mark, reply)
    if not known[id] then
      changed[#changed + 1] = id
    end
    known[id] = {mark = mark, reply = reply, ttl = ttl}
  end

  -- The reply to a group that was charged or taken back before, if it was.
  local function again(hits, id)
    local mark, reply = remembered(id)
    if mark ~= "x" then
      return mark and reply
    end
    local verdicts = {}
    for i = 1, #hits do
      verdicts[i] = look(hits[i], nil)
    end
    return reply_of(verdicts)
  end

  -- Takes back what a group with this id has charged, or sees to it that it will charge nothing.
  local function cancel(_, hits, id, ttl)
    local mark, reply, at = remembered(id)
    local own, verdicts = {}, {}
    for i = 1, #hits do
      local hit = hits[i]
      local flags = mark == "c" and reply:byte(2 + (i - 1) * 43) or 0
      if flags % 2 == 1 and not hit.refund and hit.units > 0 then
        local state = state_of(hit, own)
        -- after the flags, what remains, and what was in use before: see reply_of
        local used = unpack(">I7", reply, 17 + (i - 1) * 43)
        local ask = {units = left(hit, state, at, used), patience = hit.patience, refund = true}
        local _, after = use(hit.algorithm).step(hit.limit, state, now, ask)
        if after then
          hit.after = after
          own[hit.key] = hit
        end
      end
    end
    for i = 1, #hits do
      verdicts[i] = look(hits[i], own)
    end
    commit(own)
    remember(id, ttl, "x", "")
    return reply_of(verdicts), true
  end

  -- Counts as envoyproxy/ratelimit does, in its own keys. Every command of it stands for itself.
  local function count(_, hits)
    local reply = ANSWERED
    for i = 1, #hits do
      local hit, after, before = hits[i], nil, nil
      if hit.units == 0 or hit.refund then
        local value = redis.call("GET", hit.key) or "0"
        if not value:find("^-?%d+$") then
          error({err = "ERR value is not an integer or out of range"})
        end
        after = tonumber(value)
        before = after
        if hit.refund and after > 0 then
          after = tonumber(redis.call("DECRBY", hit.key, string.format("%.0f", min(hit.units, after))))
        end
      else
        after = redis.call("INCRBY", hit.key, string.format("%.0f", hit.units))
        -- the place of the patience holds the lifetime, in seconds
        redis.call("EXPIRE", hit.key, hit.patience)
      end
      after = min(max(after, 0), MAX)
      before = min(max(before or after - hit.units, 0), MAX)
      reply = reply .. pack(">I7I7", before, after)
    end
    return reply, false
  end

  -- The reply to a group that has met an error: "\1" and an instant whose window is missing, "\2" for a state of a
  -- newer version, "\3" and what Redis has said.
  local function failed(problem)
    if type(problem) ~= "table" then
      return "\3" .. tostring(problem)
    elseif problem.window then
      return "\1" .. pack(">I7", problem.window)
    elseif problem.newer then
      return "\2"
    end
    return "\3" .. tostring(problem.err)
  end

  made.seldom = {
    refuses = refuses, uncharge = uncharge, again = again, remember = remember, cancel = cancel, count = count,
    failed = failed,
  }
  return made.seldom
end

-- Charges a group. Returns its reply, and whether that waits for the writes at the end. Marks under an id: c, what
-- the verdicts admit was charged; n, nothing was; x, it was taken back.
local function charge(kind, hits, id, ttl)
  local reply = id and seldom().again(hits, id)
  if reply then
    -- what was first charged in this call still has to be written
    return reply, known[id] ~= nil
  end
  local verdicts, own = steps(hits)
  local mark = "c"
  if kind == "A" and seldom().refuses(hits, verdicts) then
    seldom().uncharge(hits, verdicts)
    own, mark = nil, "n"
  end
  if own then
    commit(own)
  end
  reply = reply_of(verdicts)
  if id then
    seldom().remember(id, ttl, mark, reply)
  end
  return reply, own ~= nil or id ~= nil
end

-- Writes what is known of a key.
local function write(key)
  local entry = known[key]
  if entry.mark then
    return redis.pcall("SET", key, string.char(VERSION) .. entry.mark .. pack(">I7", now) .. entry.reply, "PX", entry.ttl)
  end
  local module = use(entry.algorithm)
  local value = module.pack(entry.state, VERSION, entry.algorithm)
  -- in whole milliseconds, rounded up, and later than now
  local expires = max(module.expires(entry.limit, entry.state), now - now % 1000 + 1000)
  local rest = expires % 1000
  if rest > 0 then
    expires = expires - rest + 1000
  end
  return redis.pcall("SET", key, value, "PXAT", string.format("%d", expires / 1000))
end

local replies, writers, first = {now}, {}, 1
for i = 1, #ARGV do
  local arguments = ARGV[i]
  local kind, ttl, count, place = unpack(">c1I7I2", arguments)
  local id = nil
  if ttl > 0 then
    id = KEYS[first]
    first = first + 1
  end
  local hits = hits_of(kind, count, arguments, place, first)
  first = first + count
  local handler = kind == "X" and seldom().cancel or kind == "R" and seldom().count or charge
  local fine, reply, writes = pcall(handler, kind, hits, id, ttl)
  if fine then
    replies[i + 1] = reply
  else
    replies[i + 1] = seldom().failed(reply)
  end
  if fine and writes then
    writers[#writers + 1] = i + 1
  end
end
for i = 1, #changed do
  local done = write(changed[i])
  if done.err then
    for j = 1, #writers do
      replies[writers[j]] = seldom().failed(done)
    end
    break
  end
end
return replies
