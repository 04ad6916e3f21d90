-- The request generator of wrk: every request is made before the first is sent, so that the client spends its time on sending.
-- Arguments after `--`: token file ("-" for none), how many of its tokens, method, path, body bytes, "close" or "keep".

local requests, at = {}, 0

local function headers(token, connection)
  local fields = { ["Host"] = "localhost" }
  if token then fields["Authorization"] = "Bearer " .. token end
  if connection == "close" then fields["Connection"] = "close" end
  return fields
end

function init(args)
  local file, tokens, method, path = args[1], tonumber(args[2]), args[3], args[4]
  local bytes, connection = tonumber(args[5]), args[6]
  local body = bytes > 0 and string.rep("x", bytes) or nil
  if file == "-" then
    requests[1] = wrk.format(method, path, headers(nil, connection), body)
    return
  end
  for token in io.lines(file) do
    if #requests == tokens then break end
    requests[#requests + 1] = wrk.format(method, path, headers(token, connection), body)
  end
end

function request()
  at = at % #requests + 1
  return requests[at]
end

function done(summary, latency, _)
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests": %d, "micros": %d, "p50": %d, "p99": %d, "refused": %d, "errors": %d}\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
