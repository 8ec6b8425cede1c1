-- Leaky bucket: requests leave at a rate and wait for their turn in a bounded queue.
-- See core/src/limit/leaky_bucket.rs. A limit is {count, per, capacity}, a state is a level.

local level = use("level")
local until_less = level.until_less

-- Free places, or fewer if the patience would run out before they are taken.
local function remaining(limit, after, now, patience)
  local places = max(limit.capacity - after.used, 0)
  if patience == MAX then
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

local function verdict_of(limit, used_before, after, now, patience)
  return {
    allowed = true, remaining = remaining(limit, after, now, patience), used_before = used_before,
    used = after.used, retry = 0, reset = until_less(after, limit, 0, now, 0), wait = 0,
  }
end

local function refused(limit, bucket, now, ask, overdue)
  local verdict = verdict_of(limit, bucket.used, bucket, now, ask.patience)
  verdict.allowed = false
  verdict.retry = NEVER
  if ask.units <= limit.capacity then
    verdict.retry = max(until_less(bucket, limit, limit.capacity - ask.units, now, 0), overdue)
  end
  return verdict
end

local function step(limit, state, now, ask)
  local bucket, units, patience = level.drained(state, limit, now), ask.units, ask.patience
  local used, wait = bucket.used, 0
  if ask.refund then
    level.refund(bucket, units)
  else
    local overdue = 0
    if patience < MAX then
      overdue = until_less(bucket, limit, 0, now, patience)
    end
    if overdue > 0 or used + units > limit.capacity then
      return refused(limit, bucket, now, ask, overdue)
    end
    wait = until_less(bucket, limit, 0, now, 0)
    bucket.used = used + units
  end
  local verdict = verdict_of(limit, used, bucket, now, patience)
  verdict.wait = wait
  return verdict, bucket.used ~= used and bucket or nil
end

return {step = step, expires = level.expires, pack = level.pack, unpack = level.unpack}
