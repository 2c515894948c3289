-- Telegram updates of mixed senders for wrk, each a delivery of its own; the result as one line of JSON.
-- Arguments: secret token, first update id, accounts, characters of text.
local secret, id, accounts, words

function init(args)
  secret, id, accounts = args[1], tonumber(args[2]), tonumber(args[3])
  words = string.rep("a", tonumber(args[4]))
end

function request()
  id = id + 1
  -- Every other one is from the owner, the rest from a stranger who has been given a code.
  local from = 111111111
  if id % 2 == 1 then from = 900000001 end
  local person = string.format('{"id":%d,"is_bot":false,"first_name":"A","language_code":"en"}', from)
  local body = string.format(
    '{"update_id":%d,"message":{"message_id":%d,"from":%s,"chat":{"id":%d,"first_name":"A","type":"private"},"date":%d,"text":"%s"}}',
    id, id, person, from, os.time(), words)
  return wrk.format("POST", "/telegram/" .. math.floor(id / 2) % accounts, {
    ["Content-Type"] = "application/json",
    ["X-Telegram-Bot-Api-Secret-Token"] = secret,
  }, body)
end

function done(summary, latency)
  local failed = summary.errors
  io.write(string.format(
    '{"requests":%d,"micros":%d,"bytes":%d,"refused":%d,"broken":%d,"p50":%d,"p99":%d}\n',
    summary.requests, summary.duration, summary.bytes, failed.status,
    failed.connect + failed.read + failed.write + failed.timeout,
    latency:percentile(50), latency:percentile(99)))
end
