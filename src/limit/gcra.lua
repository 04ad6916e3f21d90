-- The generic cell rate algorithm for several keys at once: all of them count a request, or none does.
-- KEYS: what is counted. ARGV, five a key: ticks that a request costs, ticks that may be used at once, so many ticks are given
-- back in so many seconds, and whether the limit is on trial (1) and holds nobody back.
-- Answers two numbers a key: whether the request passes (1), and the ticks used then.
-- A key holds the moment at which all it has used is given back, in ticks since 1970: below 2^53, so exact.
local time = redis.call('TIME')
local secs, micros = tonumber(time[1]), tonumber(time[2])
local answers, changes, all = {}, {}, true
for at, key in ipairs(KEYS) do
  local first = 5 * (at - 1)
  local cost, capacity = tonumber(ARGV[first + 1]), tonumber(ARGV[first + 2])
  local ticks, per = tonumber(ARGV[first + 3]), tonumber(ARGV[first + 4])
  local within = (secs % per) * 1000000 + micros
  local now = math.floor(secs / per) * ticks + math.floor(within * ticks / (per * 1000000))
  local used = math.max(0, (tonumber(redis.call('GET', key)) or 0) - now)
  if used > capacity then -- the clock of this server was set back
    used = capacity
    changes[#changes + 1] = { key, now + used, used, ticks, per, true }
  end
  local passes = used + cost <= capacity
  if passes then
    used = used + cost
    changes[#changes + 1] = { key, now + used, used, ticks, per, false }
  elseif ARGV[first + 5] ~= '1' then
    all = false
  end
  answers[#answers + 1] = passes and 1 or 0
  answers[#answers + 1] = used
end
for _, change in ipairs(changes) do
  if all or change[6] then
    local millis = math.ceil(change[3] * change[5] * 1000 / change[4]) + 1
    redis.call('SET', change[1], string.format('%.0f', change[2]), 'PX', string.format('%.0f', millis))
  end
end
return answers
