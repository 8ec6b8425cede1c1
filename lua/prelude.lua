-- What every module may use. A module is the text of one file, made into a table when it is first asked for:
-- Redis runs all of this anew in every call, so that what is not needed must cost nothing.

-- The `retry` of a verdict that no time will change.
local NEVER = -1

local modules, made = {}, {}

local function use(name)
  local module = made[name]
  if not module then
    module = modules[name]()
    made[name] = module
  end
  return module
end
