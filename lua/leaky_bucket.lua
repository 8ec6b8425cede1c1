-- Leaky bucket: requests leave at a rate and wait for their turn in a bounded queue.
-- See core/src/limit/leaky_bucket.rs. A limit is {count, per, capacity}, a state is a level.

local level = use("level")
local muldiv = use("wide").muldiv
local max, min = math.max, math.min
local FOR_EVER = 9007199254740991

-- Free places, or fewer if the patience would run out before they are taken.
local function remaining(limit, after, now, patience)
  local places = max(limit.capacity - after.used, 0)
  if patience == FOR_EVER then
    return places
  end
  local lag = max(after.at - now, 0)
  local bearable, beyond = 0, 0
  if lag <= patience then
    bearable, beyond = muldiv(patience - lag, limit.count, after.credit, limit.per)
  end
  if beyond > 0 then
    return places
  end
  if bearable < after.used then
    return 0
  end
  return min(places, bearable - after.used + 1)
end

local function admitted(limit, before, after, now, ask)
  return {
    allowed = true, remaining = remaining(limit, after, now, ask.patience),
    used_before = before.used, used = after.used,
    retry = 0, reset = level.until_less(after, limit, 0, now, 0), wait = 0,
  }
end

local function take(limit, before, now, ask)
  local overdue = 0
  if ask.patience < FOR_EVER then
    overdue = level.until_less(before, limit, 0, now, ask.patience)
  end
  if before.used + ask.units <= limit.capacity and overdue == 0 then
    local after = before
    if ask.units > 0 then
      after = {at = before.at, used = before.used + ask.units, credit = before.credit, per = before.per}
    end
    local verdict = admitted(limit, before, after, now, ask)
    verdict.wait = level.until_less(before, limit, 0, now, 0)
    return verdict, ask.units > 0 and after or nil
  end
  local verdict = admitted(limit, before, before, now, ask)
  verdict.allowed = false
  verdict.retry = NEVER
  if ask.units <= limit.capacity then
    verdict.retry = max(level.until_less(before, limit, limit.capacity - ask.units, now, 0), overdue)
  end
  return verdict
end

local function refund(limit, before, now, ask)
  local after = level.refunded(before, ask.units)
  return admitted(limit, before, after, now, ask), after.used < before.used and after or nil
end

local function step(limit, state, now, ask)
  local before = state and level.drained(state, limit, now) or level.empty(limit, now)
  if ask.refund then
    return refund(limit, before, now, ask)
  end
  return take(limit, before, now, ask)
end

local function expires(limit, state)
  return level.emptied(state, limit)
end

return {step = step, expires = expires, pack = level.pack, unpack = level.unpack}
