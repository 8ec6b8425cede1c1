-- Fixed window: a count that starts afresh with every window. See core/src/limit/fixed_window.rs.
-- A limit is {limit, kind, counts, length, windows}, a state is {start, finish, count}.

local EPOCH, ANCHORED = 0, 1
local FORMAT = ">Bc1I7I7I7"

-- Start and end of the window that holds `now`. A calendar's come from the caller; if none of them holds
-- `now`, the error tells which instant the caller has to add.
local function bounds(limit, now)
  if limit.kind == EPOCH then
    local start = now - now % limit.length
    return start, min(start + limit.length, MAX)
  end
  if limit.kind == ANCHORED then
    return now, min(now + limit.length, MAX)
  end
  for _, window in ipairs(limit.windows) do
    if window[1] <= now and (now < window[2] or window[2] == MAX) then
      return window[1], window[2]
    end
  end
  error({window = now})
end

local function fresh(limit, now)
  local start, finish = bounds(limit, now)
  return {start = start, finish = finish, count = 0}
end

-- The present window, with the stored count if the stored window overlaps it.
local function carried(limit, state, now)
  now = max(now, state.start)
  if limit.kind == ANCHORED then
    local finish = max(state.finish, min(state.start + limit.length, MAX))
    if now < finish or finish == MAX then
      return {start = state.start, finish = finish, count = state.count}
    end
    return fresh(limit, now)
  end
  local start, finish = bounds(limit, now)
  if state.finish <= start and state.finish < MAX then
    return {start = start, finish = finish, count = 0}
  end
  if state.finish > finish then
    local _, later = bounds(limit, max(state.finish - 1, 0))
    finish = later
  end
  return {start = start, finish = finish, count = state.count}
end

local function admitted(limit, before, after, now)
  return {
    allowed = true, remaining = max(limit.limit - after.count, 0),
    used_before = before.count, used = after.count,
    retry = 0, reset = max(after.finish - now, 0), wait = 0,
  }
end

local function take(limit, before, now, units)
  local after = {start = before.start, finish = before.finish, count = min(before.count + units, MAX)}
  local allowed = after.count <= limit.limit
  local charged = units > 0 and (allowed or limit.counts)
  if not charged then
    after = before
  end
  local verdict = admitted(limit, before, after, now)
  verdict.allowed = allowed
  if not allowed then
    verdict.retry = units > limit.limit and NEVER or max(before.finish - now, 0)
  end
  return verdict, charged and after or nil
end

local function refund(limit, before, now, units)
  local after = {start = before.start, finish = before.finish, count = max(before.count - units, 0)}
  return admitted(limit, before, after, now), after.count < before.count and after or nil
end

local function step(limit, state, now, ask)
  local before = state and carried(limit, state, now) or fresh(limit, now)
  if ask.refund then
    return refund(limit, before, now, ask.units)
  end
  return take(limit, before, now, ask.units)
end

-- When no present window overlaps the one that a step has left: that step has seen to it that it ends with one.
local function expires(_, state)
  return state.finish
end

local function packed(state, version, algorithm)
  return pack(FORMAT, version, algorithm, state.start, state.finish, state.count)
end

local function parsed(value)
  if #value ~= 23 then
    return nil
  end
  local _, _, start, finish, count = unpack(FORMAT, value)
  if max(start, finish, count) > MAX then
    return nil
  end
  return {start = start, finish = finish, count = count}
end

return {step = step, expires = expires, pack = packed, unpack = parsed}
