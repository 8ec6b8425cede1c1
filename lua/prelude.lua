-- What every module may use. Redis makes all tables and functions of a script anew in every call, and that costs
-- more than what they then do: a module is made when it is first asked for, from the text of its file.

local pack, unpack = struct.pack, struct.unpack
local max, min = math.max, math.min

-- The last whole number that a double tells from the next.
local MAX = 9007199254740991

-- The `retry` of a verdict that no time will change.
local NEVER = -1

local made, make = {}, nil

local function use(name)
  local module = made[name]
  if not module then
    module = make(name)
    made[name] = module
  end
  return module
end

-- (a * b + c) / d, all whole, below 2^53, and d at least 1: the quotient's low 53 bits, the rest of it (0 if it is
-- below 2^53, exact up to 1), and the remainder.
--
-- Lua 5.1 has only doubles. A product below 2^53 is exact, and so is `%`, which is a - floor(a / b) * b: if b does
-- not divide a, then a / b is at least 1 / b below the next whole number, and rounding moves it by at most
-- (a / b) / 2^53, which is less.
local function muldiv(a, b, c, d)
  local small = a * b + c
  if small <= MAX then
    local rest = small % d
    return (small - rest) / d, 0, rest
  end
  return use("wide").muldiv(a, b, c, d)
end
