"""Lua for answers: drops the usage event a client did not ask for, and reads usage.

It reads usage from everything as one position of the switch, and from whole answers beside Envoy's own filters, which
know no text completions and embeddings.

An unescaped ``"usage":`` cannot occur inside a JSON string (its quotes would be escaped), so plain patterns are sound.
Cost: about 4 microseconds per event where it applies; nothing measurable where the mark is absent.
"""

from typing import Final, Literal

from envoy_config import names
from envoy_config.fields import Json, extension

_SHARED: Final = """
local NAMESPACE = "%(namespace)s"
local LIMIT = 1048576

-- Returns the last byte of the first event from start on, with its terminator (two line ends in a row, each of them LF,
-- CRLF or CR), and the last byte of its content; nothing while the terminator is not there.
local function event_end(text, start)
  local at = start
  while true do
    local first = text:find("[\\r\\n]", at)
    if first == nil then return nil end
    local after = first + 1
    if text:byte(first) == 13 and text:byte(after) == 10 then after = after + 1 end
    local second = text:byte(after)
    if second == 10 or second == 13 then
      if second == 13 and text:byte(after + 1) == 10 then after = after + 1 end
      return after, first - 1
    end
    at = after
  end
end

local function data_of(event)
  local lines = {}
  for line in event:gmatch("[^\\r\\n]+") do lines[#lines + 1] = line:match("^data: ?(.*)$") end
  return table.concat(lines, "\\n")
end

local function is_usage_event(event)
  if event:find('"usage"', 1, true) == nil or event:find('"choices"', 1, true) == nil then return false end
  local data = data_of(event)
  local _, colon = data:find('"choices"%%s*:%%s*')
  if colon == nil or data:find("^%%s*{") == nil then return false end
  return data:find("^%%[%%s*%%]", colon + 1) ~= nil and data:find('"usage"%%s*:%%s*{') ~= nil
end

-- Whether the incomplete event tail will stay whatever follows: it is too large, or its data is no JSON object.
local function stays(tail)
  return #tail > LIMIT + 2 or tail:find("^data: *%%[") ~= nil
end

-- Returns what of the stream may leave after bytes, without usage events. state: pending is the incomplete event,
-- passing means that part of it has left, removed is the fate of the event before, and late that its last line end may
-- still get its line feed.
local function without_usage_events(state, bytes)
  local text, kept, start = state.pending .. bytes, {}, 1
  if state.late and bytes ~= "" then
    state.late = false
    if text:byte(1) == 10 then
      start = 2
      if not state.removed then kept[1] = "\\n" end
    end
  end
  local from = math.max(start, #state.pending - 1) -- before that no terminator begins
  while true do
    local last, content = event_end(text, from)
    if last == nil then break end
    local event = text:sub(start, last)
    state.removed = not state.passing and content - start < LIMIT and is_usage_event(event)
    if not state.removed then kept[#kept + 1] = event end
    state.passing, start, from = false, last + 1, last + 1
    state.late = last == #text and text:byte(last) == 13
  end
  local tail = text:sub(start)
  if state.passing or stays(tail) then
    -- the last line end may belong to the terminator
    local held = tail:match("\\r\\n$") or tail:match("[\\r\\n]$") or ""
    kept[#kept + 1] = tail:sub(1, #tail - #held)
    state.passing, tail = state.passing or #tail > #held, held
  end
  state.pending = tail
  return table.concat(kept)
end
"""

_READ: Final = """
local FIELDS = {
  {"prompt_tokens", "%(prompt)s"}, {"input_tokens", "%(prompt)s"},
  {"completion_tokens", "%(completion)s"}, {"output_tokens", "%(completion)s"},
  {"total_tokens", "%(total)s"}, {"cached_tokens", "%(cached)s"}, {"cache_read_input_tokens", "%(cached)s"},
  {"cache_creation_input_tokens", "%(cache_write)s"}, {"reasoning_tokens", "%(reasoning)s"},
}

-- Reads every complete usage object in text into metadata; returns the rest that may hold the start of another.
local function read_usage(handle, text)
  local start = 1
  while true do
    local first, open = text:find('"usage"%%s*:%%s*{', start)
    if first == nil then break end
    local object = text:match("^%%b{}", open)
    if object == nil then return text:sub(first) end
    for _, field in ipairs(FIELDS) do
      local value = object:match('"' .. field[1] .. '"%%s*:%%s*(%%d+)')
      if value ~= nil then
        handle:streamInfo():dynamicMetadata():set(NAMESPACE, field[2], tonumber(value))
      end
    end
    start = open + #object
  end
  return text:sub(math.max(start, #text - 16))
end
"""

_RESPONSE: Final = """
function envoy_on_response(handle)
  local metadata = handle:streamInfo():dynamicMetadata():get(NAMESPACE)
  local kind = handle:headers():get("content-type") or ""
  local strip = metadata ~= nil and metadata["%(added)s"] == true and kind:find("^text/event%%-stream") ~= nil
  local read = %(read)s
  if not strip and not read then return end
  if strip then handle:headers():remove("content-length") end
  local state, carried = {pending = "", passing = false, removed = false, late = false}, ""
  for chunk in handle:bodyChunks() do
    local bytes = chunk:length() > 0 and chunk:getBytes(0, chunk:length()) or ""
    if read then
      carried = read_usage(handle, carried .. bytes)
      if #carried > LIMIT then carried = "" end
    end
    if strip then
      local out = without_usage_events(state, bytes)
      if out ~= bytes then chunk:setBytes(out) end
    end
  end
end
"""


_READ_WHEN: Final = {
    "nothing": "false",
    "whole answers": 'metadata ~= nil and kind:find("^application/[%w.+-]*json") ~= nil',
    "everything": "true",
}
"""What usage is read from, and the condition that says so in Lua."""

Reads = Literal["nothing", "whole answers", "everything"]


def lua_source(*, reads: Reads) -> str:
    """Return the filter's source; it writes usage into dynamic metadata from what it *reads*.

    Whole answers are the JSON replies to requests that the picker decided.
    """
    values = {
        "namespace": names.METADATA_NAMESPACE,
        "added": names.INCLUDE_USAGE_ADDED,
        "prompt": names.USAGE_PROMPT,
        "completion": names.USAGE_COMPLETION,
        "total": names.USAGE_TOTAL,
        "cached": names.USAGE_CACHED,
        "cache_write": names.USAGE_CACHE_WRITE,
        "reasoning": names.USAGE_REASONING,
        "read": _READ_WHEN[reads],
    }
    read = "local function read_usage(handle, text) return '' end\n" if reads == "nothing" else _READ
    return (_SHARED % values) + (read % values) + (_RESPONSE % values)


def lua_filter(*, reads: Reads) -> Json:
    """Return the HTTP filter; *reads* as in `lua_source`."""
    return extension(
        "envoy.filters.http.lua",
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": lua_source(reads=reads)},
    )
