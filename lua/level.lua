-- How full a bucket is: whole units in use, and what has been earned towards the next one.
-- A level is {at, used, credit, per}; see core/src/limit/level.rs.

local FORMAT = ">Bc1I7I7I7I7"

-- What is still in use at `now`, or at the level's own time if the clock went backwards. Always a new table.
local function drained(level, rate, now)
  local per = rate.per
  if not level then
    return {at = now, used = 0, credit = 0, per = per}
  end
  local at, used, kept = level.at, level.used, 0
  if level.per == per and level.credit < per then
    kept = level.credit
  end
  local elapsed = 0
  if now > at then
    elapsed, at = now - at, now
  end
  local whole, beyond, credit = muldiv(elapsed, rate.count, kept, per)
  if beyond > 0 or whole >= used then
    return {at = at, used = 0, credit = 0, per = per}
  end
  return {at = at, used = used - whole, credit = credit, per = per}
end

-- Microseconds from `now` until at most `units` are in use, rounded up, less `patience`; 0..2^53 - 1.
local function until_less(level, rate, units, now, patience)
  if level.used <= units then
    return 0
  end
  local wait, beyond, rest = muldiv(level.used - units - 1, rate.per, rate.per - level.credit, rate.count)
  if rest > 0 then
    wait = wait + 1
  end
  local delta = -patience
  if level.at > now then
    delta = level.at - now - patience
  end
  if beyond > 1 then
    return MAX
  end
  if beyond == 1 then
    return wait + delta >= 0 and MAX or min(MAX + 1 + (wait + delta), MAX)
  end
  if delta >= 0 then
    return wait > MAX - delta and MAX or wait + delta
  end
  return max(wait + delta, 0)
end

-- Takes `units` out, but never more than are in use.
local function refund(level, units)
  if level.used > units then
    level.used = level.used - units
  else
    level.used, level.credit = 0, 0
  end
end

-- The first instant at which nothing of what a step has left is in use.
local function expires(rate, level)
  return min(level.at + until_less(level, rate, 0, level.at, 0), MAX)
end

local function packed(level, version, algorithm)
  return pack(FORMAT, version, algorithm, level.at, level.used, level.credit, level.per)
end

-- The level in a stored value, if it is one.
local function parsed(value)
  if #value ~= 30 then
    return nil
  end
  local _, _, at, used, credit, per = unpack(FORMAT, value)
  if at > MAX or used > MAX or per > MAX or per < 1 or credit >= per then
    return nil
  end
  return {at = at, used = used, credit = credit, per = per}
end

return {
  drained = drained, until_less = until_less, refund = refund, expires = expires, pack = packed, unpack = parsed,
}
