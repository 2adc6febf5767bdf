-- Another path and another header in every request: nothing that a server remembers helps it.
local number = 0
request = function()
  number = number + 1
  wrk.headers["X-Request-Id"] = string.format("%08x-%d", number * 2654435761 % 4294967296, number)
  return wrk.format("GET", "/" .. number)
end
