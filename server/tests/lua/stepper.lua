-- Steps one limit after the other, as the test says, in place of main.lua's end. An argument is the time, what to
-- do, a value and its length, and a group of one hit. 0 goes on from the state that the step before has left, 1
-- begins with the value, or with none if that is empty; 2 more leaves everything as it is.

local wide = use("wide")
local by_digits, by_bits = 0, 0
local muldiv = wide.muldiv
wide.muldiv = function(a, b, c, d)
  if d <= 137438953472 then
    by_digits = by_digits + 1
  else
    by_bits = by_bits + 1
  end
  return muldiv(a, b, c, d)
end

local function stepped(hit, value, instant)
  local state, _, found = nil, nil, 0
  if value then
    state, _, found = parsed(value)
  end
  local verdict, after = use(hit.algorithm).step(hit.limit, state, instant, hit)
  verdict.found = found
  local expires, packed = 0, ""
  if after then
    expires = use(hit.algorithm).expires(hit.limit, after)
    packed = use(hit.algorithm).pack(after, VERSION, hit.algorithm)
  end
  return reply_of({verdict}) .. pack(">I7", expires) .. packed, after and packed or value
end

local value
local replies = {}
for i, argument in ipairs(ARGV) do
  local instant, mode, length, place = unpack(">I7BI2", argument)
  if mode % 2 == 1 then
    value = length > 0 and argument:sub(place, place + length - 1) or nil
  end
  local kind, _, count, first = unpack(">c1I7I2", argument, place + length)
  local hit = hits_of(kind, count, argument, first, 1)[1]
  local fine, reply, left = pcall(stepped, hit, value, instant)
  if fine then
    replies[i] = reply
    if mode < 2 then
      value = left
    end
  elseif type(reply) == "table" then
    replies[i] = "\1" .. pack(">I7", reply.window)
  else
    error(reply)
  end
end
replies[#replies + 1] = by_digits
replies[#replies + 1] = by_bits
return replies
