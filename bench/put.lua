-- Puts events, each under a key of its own, for wrk:
--
--   wrk -s put.lua URL -- EVENT_BYTES
--
-- Keys are like the original's, 27 characters in the order of time: the second that the run
-- started in, then twelve digits that count. No two threads make the same key, nor do two runs, as
-- long as each takes a second or more.

local threads = {}

function setup(thread)
  table.insert(threads, thread)
  thread:set('number', #threads)
  for _, each in ipairs(threads) do
    each:set('step', #threads)
  end
end

local before, after

function init(arguments)
  local event = '{"customer":1,"action":"site visit","note":"'
  event = event .. string.rep('x', tonumber(arguments[1]) - #event - 2) .. '"}'
  before = '{"key":"' .. os.date('!%Y%m%dT%H%M%S')
  after = '","event":' .. event .. '}'
  local length = #before + 12 + #after
  before = 'POST /_put HTTP/1.1\r\nHost: ' .. wrk.headers['Host'] ..
    '\r\nContent-Length: ' .. length .. '\r\n\r\n' .. before
end

local format = string.format
local count = 0

-- wrk also calls this once before all threads are set up, when `step` is not yet what it will be.
function request()
  count = count + 1
  return before .. format('%012d', count * step + number) .. after
end
