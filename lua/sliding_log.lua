-- Sliding log: every admission of the last window is remembered. See core/src/limit/sliding_log.rs.
-- A limit is {limit, length}, a state a list of {at, units}, oldest first, each instant once.


-- What of a log still counts at a moment: `at` is `now`, or the newest entry if the clock went backwards.
local function view_of(limit, entries, now)
  local newest = entries[#entries]
  local at = newest and max(now, newest[1]) or now
  local live, used = {}, 0
  for _, entry in ipairs(entries) do
    if at - entry[1] < limit.length then
      live[#live + 1] = entry
      used = min(used + entry[2], MAX)
    end
  end
  return {live = live, used = used, at = at, now = now, length = limit.length}
end

local function lag(view)
  return max(view.at - view.now, 0)
end

-- How long until at most `units` are in use if nothing is taken.
local function until_at_most(view, units)
  local left, wait = view.used, 0
  for _, entry in ipairs(view.live) do
    if left <= units then
      break
    end
    left = max(left - entry[2], 0)
    wait = min(view.length - (view.at - entry[1]) + lag(view), MAX)
  end
  return wait
end

local function admitted(limit, view, used)
  return {
    allowed = true, remaining = max(limit.limit - used, 0), used_before = view.used, used = used,
    retry = 0, reset = until_at_most(view, 0), wait = 0,
  }
end

-- The log with `units` more, taken at `at`; at least one.
local function charged(view, units)
  local entries = {}
  for i, entry in ipairs(view.live) do
    entries[i] = entry
  end
  local last = entries[#entries]
  if last and last[1] == view.at then
    entries[#entries] = {view.at, last[2] + units}
  else
    entries[#entries + 1] = {view.at, units}
  end
  return entries
end

-- The log without the `units` that were taken last.
local function refunded(view, units)
  local entries, owed = {}, units
  for i, entry in ipairs(view.live) do
    entries[i] = entry
  end
  while #entries > 0 do
    local last = entries[#entries]
    if last[2] > owed then
      entries[#entries] = {last[1], last[2] - owed}
      return entries
    end
    owed = owed - last[2]
    entries[#entries] = nil
  end
  return entries
end

local function take(limit, view, units)
  local used = view.used + units
  if used > limit.limit then
    local verdict = admitted(limit, view, view.used)
    verdict.allowed = false
    verdict.retry = NEVER
    if units <= limit.limit then
      verdict.retry = until_at_most(view, limit.limit - units)
    end
    return verdict
  end
  local verdict = admitted(limit, view, used)
  if units == 0 then
    return verdict
  end
  verdict.reset = min(limit.length + lag(view), MAX)
  return verdict, charged(view, units)
end

local function refund(limit, view, units)
  local used = max(view.used - units, 0)
  local verdict = admitted(limit, view, used)
  if used == view.used then
    return verdict
  end
  local entries = refunded(view, units)
  local rest = {live = entries, used = used, at = view.at, now = view.now, length = view.length}
  verdict.reset = until_at_most(rest, 0)
  return verdict, entries
end

local function step(limit, state, now, ask)
  local view = view_of(limit, state or {}, now)
  if ask.refund then
    return refund(limit, view, ask.units)
  end
  return take(limit, view, ask.units)
end

-- When all of what a step has left is out of the window.
local function expires(limit, state)
  local newest = state[#state]
  return newest and min(newest[1] + limit.length, MAX) or 0
end

local function packed(state, version, algorithm)
  local parts = {pack(">Bc1", version, algorithm)}
  for i, entry in ipairs(state) do
    parts[i + 1] = pack(">I7I2", entry[1], entry[2])
  end
  return table.concat(parts)
end

local function parsed(value)
  if (#value - 2) % 9 ~= 0 then
    return nil
  end
  local state, before = {}, -1
  for place = 3, #value, 9 do
    local at, units = unpack(">I7I2", value, place)
    if at > MAX or at <= before or units < 1 then
      return nil
    end
    state[#state + 1] = {at, units}
    before = at
  end
  return state
end

return {step = step, expires = expires, pack = packed, unpack = parsed}
