-- Token bucket: a burst at once, refilled at a rate. See core/src/limit/token_bucket.rs.
-- A limit is {count, per, burst}, a state is a level.

local level = use("level")
local max = math.max

local function admitted(limit, before, after, now)
  return {
    allowed = true, remaining = max(limit.burst - after.used, 0), used_before = before.used, used = after.used,
    retry = 0, reset = level.until_less(after, limit, 0, now, 0), wait = 0,
  }
end

local function take(limit, before, now, units)
  if before.used + units <= limit.burst then
    if units == 0 then
      return admitted(limit, before, before, now)
    end
    local after = {at = before.at, used = before.used + units, credit = before.credit, per = before.per}
    return admitted(limit, before, after, now), after
  end
  local verdict = admitted(limit, before, before, now)
  verdict.allowed = false
  verdict.retry = NEVER
  if units <= limit.burst then
    verdict.retry = level.until_less(before, limit, limit.burst - units, now, 0)
  end
  return verdict
end

local function refund(limit, before, now, units)
  local after = level.refunded(before, units)
  return admitted(limit, before, after, now), after.used < before.used and after or nil
end

local function step(limit, state, now, ask)
  local before = state and level.drained(state, limit, now) or level.empty(limit, now)
  if ask.refund then
    return refund(limit, before, now, ask.units)
  end
  return take(limit, before, now, ask.units)
end

local function expires(limit, state)
  return level.emptied(state, limit)
end

return {step = step, expires = expires, pack = level.pack, unpack = level.unpack}
