-- How full a bucket is: whole units in use, and what has been earned towards the next one.
-- A level is {at, used, credit, per}; see core/src/limit/level.rs.

local muldiv = use("wide").muldiv
local max, min = math.max, math.min
local MAX = 9007199254740991
local TWO_53 = 9007199254740992
local FORMAT = ">BBI7I7I7I7"

-- Nothing in use.
local function empty(rate, now)
  return {at = now, used = 0, credit = 0, per = rate.per}
end

-- What is still in use at `now`, or at the level's own time if the clock went backwards.
local function drained(level, rate, now)
  local at = max(now, level.at)
  local kept = 0
  if level.per == rate.per and level.credit < level.per then
    kept = level.credit
  end
  local whole, beyond, credit = muldiv(at - level.at, rate.count, kept, rate.per)
  if beyond > 0 or whole >= level.used then
    return empty(rate, at)
  end
  return {at = at, used = level.used - whole, credit = credit, per = rate.per}
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
  local delta = max(level.at - now, 0) - patience
  if beyond > 1 then
    return MAX
  end
  if beyond == 1 then
    return wait + delta >= 0 and MAX or min(TWO_53 + (wait + delta), MAX)
  end
  if delta >= 0 then
    return wait > MAX - delta and MAX or wait + delta
  end
  return max(wait + delta, 0)
end

-- With `units` fewer in use; never fewer than none.
local function refunded(level, units)
  local used = max(level.used - units, 0)
  return {at = level.at, used = used, credit = used > 0 and level.credit or 0, per = level.per}
end

-- The first instant at which nothing is in use.
local function emptied(level, rate)
  local own = drained(level, rate, level.at)
  return min(level.at + until_less(own, rate, 0, level.at, 0), MAX)
end

local function pack(level, version, algorithm)
  return struct.pack(FORMAT, version, algorithm, level.at, level.used, level.credit, level.per)
end

-- The level in a stored value, if it is one.
local function unpack(value)
  if #value ~= 30 then
    return nil
  end
  local _, _, at, used, credit, per = struct.unpack(FORMAT, value)
  if max(at, used, per) > MAX or per < 1 or credit >= per then
    return nil
  end
  return {at = at, used = used, credit = credit, per = per}
end

return {
  empty = empty, drained = drained, until_less = until_less, refunded = refunded, emptied = emptied,
  pack = pack, unpack = unpack,
}
