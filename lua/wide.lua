-- Whole numbers beyond 2^53, the last that a double holds exactly: in eight digits of 16 bits.

-- n, below 2^53, in four digits of 16 bits, least significant first.
local function digits(n)
  local d1 = n % 65536
  n = (n - d1) / 65536
  local d2 = n % 65536
  n = (n - d2) / 65536
  local d3 = n % 65536
  return {d1, d2, d3, (n - d3) / 65536}
end

-- a * b + c in eight digits.
local function product(a, b, c)
  local x, y, sum = digits(a), digits(b), digits(c)
  local out = {sum[1], sum[2], sum[3], sum[4], 0, 0, 0, 0}
  for i = 1, 4 do
    for j = 1, 4 do
      out[i + j - 1] = out[i + j - 1] + x[i] * y[j]
    end
  end
  local carry = 0
  for i = 1, 8 do
    local digit = out[i] + carry
    out[i] = digit % 65536
    carry = (digit - out[i]) / 65536
  end
  return out
end

-- Long division by d up to 2^37: a remainder and the next digit fit into 53 bits together.
local function divide_by_digits(number, d)
  local quotient, rest = {}, 0
  for i = 8, 1, -1 do
    local part = rest * 65536 + number[i]
    rest = part % d
    quotient[i] = (part - rest) / d
  end
  return quotient, rest
end

-- Long division by a larger d, bit by bit, without ever doubling past 2^53.
local function divide_by_bits(number, d)
  local quotient, rest = {}, 0
  for i = 8, 1, -1 do
    local digit, out, bit = number[i], 0, 32768
    for _ = 1, 16 do
      out = out + out
      if rest >= d - rest then
        rest = rest - (d - rest)
        out = out + 1
      else
        rest = rest + rest
      end
      if digit >= bit then
        digit = digit - bit
        rest = rest + 1
        if rest == d then
          rest = 0
          out = out + 1
        end
      end
      bit = bit / 2
    end
    quotient[i] = out
  end
  return quotient, rest
end

-- (a * b + c) / d, as `muldiv` gives it.
local function muldiv(a, b, c, d)
  local number = product(a, b, c)
  local quotient, rest
  if d <= 137438953472 then
    quotient, rest = divide_by_digits(number, d)
  else
    quotient, rest = divide_by_bits(number, d)
  end
  local top = quotient[4] % 32
  local low = quotient[1] + quotient[2] * 65536 + quotient[3] * 4294967296 + top * 281474976710656
  local high = (quotient[4] - top) / 32 + (quotient[5] + quotient[6] + quotient[7] + quotient[8]) * 2048
  return low, high, rest
end

return {muldiv = muldiv}
