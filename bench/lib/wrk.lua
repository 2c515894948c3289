-- The requests of the benchmark, and wrk's result as one line of JSON.
-- Arguments: method, then the bearer token ("-" for none).
function init(args)
  wrk.method = args[1]
  -- What a usual client sends.
  wrk.headers["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64) bench"
  wrk.headers["Accept"] = "application/json"
  wrk.headers["Accept-Encoding"] = "identity"
  wrk.headers["Accept-Language"] = "en"
  if args[2] ~= "-" then wrk.headers["Authorization"] = "Bearer " .. args[2] end
  if wrk.method == "POST" then
    wrk.headers["Content-Type"] = "application/json"
    local head, tail = '{"role":"user","text":"', '"}'
    wrk.body = head .. string.rep("a", 1024 - #head - #tail) .. tail
  end
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '{"requests":%d,"micros":%d,"bytes":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, summary.bytes, failed.status,
    failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50), latency:percentile(99)))
end
