-- Sliding window: the count of this window, plus that of the one before weighted by how much of it is left.
-- See core/src/limit/sliding_window.rs. A limit is {limit, length}, a state {start, length, previous, current}.

local FORMAT = ">Bc1I7I7I7I7"

-- A state written under another length, as one under this length: all units count from the last instant at
-- which one of them may have been taken.
local function adopted(limit, state)
  if state.length == limit.length then
    return state
  end
  local finish = state.start
  if state.current > 0 then
    finish = min(state.start + state.length, MAX)
  end
  local last = max(finish - 1, 0)
  local start = last - last % limit.length
  return {start = start, length = limit.length, previous = 0, current = min(state.previous + state.current, MAX)}
end

-- The counts as they stand in the window that holds `now`: `elapsed` after its start, `lag` after `now`.
local function view_of(limit, state, now)
  state = adopted(limit, state)
  local at = max(now, state.start)
  local elapsed = at % limit.length
  local start = at - elapsed
  local passed = max(start - state.start, 0)
  local previous, current = 0, 0
  if passed == 0 then
    previous, current = state.previous, state.current
  elseif passed <= limit.length then
    previous = state.current
  end
  return {
    start = start, length = limit.length, previous = previous, current = current,
    elapsed = elapsed, lag = max(at - now, 0),
  }
end

-- Units in use: those of this window, and those of the one before by what is left of it, rounded up.
local function used(view)
  local weighted, _, rest = muldiv(view.previous, view.length - view.elapsed, 0, view.length)
  if rest > 0 then
    weighted = weighted + 1
  end
  return view.current + weighted
end

-- How far into the next window `count` units weigh at most `room`; `count` is more than `room`.
local function fades(count, room, length)
  local weight, beyond = muldiv(room, length, 0, count)
  return beyond > 0 and 0 or max(length - weight, 0)
end

-- How long until at most `units` are in use if nothing is taken.
local function until_at_most(view, units)
  if used(view) <= units then
    return 0
  end
  local after_start
  if units >= view.current then
    after_start = fades(view.previous, units - view.current, view.length)
  else
    after_start = min(view.length + fades(view.current, units, view.length), MAX)
  end
  return min(view.lag + max(after_start - view.elapsed, 0), MAX)
end

local function admitted(limit, before, after)
  local now_used = used(after)
  return {
    allowed = true, remaining = max(limit.limit - now_used, 0), used_before = used(before), used = now_used,
    retry = 0, reset = until_at_most(after, 0), wait = 0,
  }
end

local function changed(view, previous, current)
  return {
    start = view.start, length = view.length, previous = previous, current = current,
    elapsed = view.elapsed, lag = view.lag,
  }
end

local function take(limit, view, units)
  if used(view) + units > limit.limit then
    local verdict = admitted(limit, view, view)
    verdict.allowed = false
    verdict.retry = NEVER
    if units <= limit.limit then
      verdict.retry = until_at_most(view, limit.limit - units)
    end
    return verdict
  end
  if units == 0 then
    return admitted(limit, view, view)
  end
  local after = changed(view, view.previous, view.current + units)
  return admitted(limit, view, after), after
end

-- Gives back what was taken last. A unit of the window before frees only what it still weighs.
local function refund(limit, view, units)
  local older = max(units - view.current, 0)
  local after = changed(view, max(view.previous - older, 0), max(view.current - units, 0))
  local differs = after.previous ~= view.previous or after.current ~= view.current
  return admitted(limit, view, after), differs and after or nil
end

local function step(limit, state, now, ask)
  local nothing = {start = 0, length = limit.length, previous = 0, current = 0}
  local view = view_of(limit, state or nothing, now)
  if ask.refund then
    return refund(limit, view, ask.units)
  end
  return take(limit, view, ask.units)
end

-- When what a step has left weighs nothing.
local function expires(limit, state)
  if state.previous == 0 and state.current == 0 then
    return state.start
  end
  local finish = min(state.start + limit.length, MAX)
  return state.current == 0 and finish or min(finish + limit.length, MAX)
end

local function packed(state, version, algorithm)
  return pack(FORMAT, version, algorithm, state.start, state.length, state.previous, state.current)
end

local function parsed(value)
  if #value ~= 30 then
    return nil
  end
  local _, _, start, length, previous, current = unpack(FORMAT, value)
  if max(start, length, previous + current) > MAX or length < 1 then
    return nil
  end
  return {start = start, length = length, previous = previous, current = current}
end

return {step = step, expires = expires, pack = packed, unpack = parsed}
