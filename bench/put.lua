-- Puts events, each under a key of its own, for wrk:
--
--   wrk -s put.lua URL -- EVENT_BYTES [INTERFACE]
--
-- INTERFACE is that of the server: `peer` (the default), `etcd` (a transaction that creates the key), or `webdis`
-- (the command SETNX of Redis, whose path ends with the key).
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

local format = string.format

local alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/'

local function base64(text)
  return (text:gsub('..?.?', function(bytes)
    local first, second, third = bytes:byte(1, 3)
    local bits = first * 65536 + (second or 0) * 256 + (third or 0)
    local digits = ''
    for _ = 1, 4 do
      local digit = bits % 64
      digits = alphabet:sub(digit + 1, digit + 1) .. digits
      bits = (bits - digit) / 64
    end
    return digits:sub(1, #bytes + 1) .. ('='):rep(3 - #bytes)
  end))
end

-- For each interface, a function from the start of all keys and the event to a function, which makes the text of a
-- request from the number in its key.
local request_of = {}

local function head(method, path, size)
  return method .. ' ' .. path .. ' HTTP/1.1\r\nHost: ' .. wrk.headers['Host'] .. '\r\nContent-Length: ' .. size .. '\r\n\r\n'
end

function request_of.peer(start, event)
  local before, after = '{"key":"' .. start, '","event":' .. event .. '}'
  before = head('POST', wrk.path, #before + 12 + #after) .. before
  return function(number)
    return before .. format('%012d', number) .. after
  end
end

function request_of.webdis(start, event)
  local before, after = head('PUT', wrk.path .. start .. '|', #event):match('^(.*)|(.*)$')
  after = after .. event
  return function(number)
    return before .. format('%012d', number) .. after
  end
end

-- A key's start and its number have 15 and 12 characters: multiples of three, which are encoded by themselves.
function request_of.etcd(start, event)
  local digits = {}
  for number = 0, 999 do
    digits[number] = base64(format('%03d', number))
  end
  local before = '{"compare":[{"target":"CREATE","createRevision":"0","key":"' .. base64(start)
  local between = '"}],"success":[{"requestPut":{"key":"' .. base64(start)
  local after = '","value":"' .. base64(event) .. '"}}]}'
  before = head('POST', wrk.path, #before + 16 + #between + 16 + #after) .. before
  return function(number)
    local encoded = ''
    for _ = 1, 4 do
      encoded = digits[number % 1000] .. encoded
      number = math.floor(number / 1000)
    end
    return before .. encoded .. between .. encoded .. after
  end
end

local to_request

function init(arguments)
  local event = '{"customer":1,"action":"site visit","note":"'
  event = event .. string.rep('x', tonumber(arguments[1]) - #event - 2) .. '"}'
  to_request = request_of[arguments[2] or 'peer'](os.date('!%Y%m%dT%H%M%S'), event)
end

local count = 0

-- wrk also calls this once before all threads are set up, when `step` is not yet what it will be.
function request()
  count = count + 1
  return to_request(count * step + number)
end
