-- Token bucket: a burst at once, refilled at a rate. See core/src/limit/token_bucket.rs.
-- A limit is {count, per, capacity}, a state is a level.

local level = use("level")
local until_less = level.until_less

local function verdict_of(limit, used_before, after, now)
  local used, remaining = after.used, 0
  if used < limit.capacity then
    remaining = limit.capacity - used
  end
  return {
    allowed = true, remaining = remaining, used_before = used_before, used = used,
    retry = 0, reset = until_less(after, limit, 0, now, 0), wait = 0,
  }
end

local function step(limit, state, now, ask)
  local bucket, units, capacity = level.drained(state, limit, now), ask.units, limit.capacity
  local used = bucket.used
  if ask.refund then
    level.refund(bucket, units)
  elseif used + units <= capacity then
    bucket.used = used + units
  else
    local verdict = verdict_of(limit, used, bucket, now)
    verdict.allowed = false
    verdict.retry = NEVER
    if units <= capacity then
      verdict.retry = until_less(bucket, limit, capacity - units, now, 0)
    end
    return verdict
  end
  return verdict_of(limit, used, bucket, now), bucket.used ~= used and bucket or nil
end

return {step = step, expires = level.expires, pack = level.pack, unpack = level.unpack}
