"""Lua for answers: drops the usage event a client did not ask for and, as one position of the switch, reads usage.

An unescaped ``"usage":`` cannot occur inside a JSON string (its quotes would be escaped), so plain patterns are sound.
Cost: about 4 microseconds per event where it applies; nothing measurable where the mark is absent.
"""

from typing import Final

from envoy_config import names
from envoy_config.fields import Json, extension

_SHARED: Final = """
local NAMESPACE = "%(namespace)s"
local LIMIT = 1048576

-- Position of the end of the first event in text from start on: a blank line in any of the three line endings.
local function event_end(text, start)
  local _, last = text:find("\\n\\r?\\n", start)
  local _, bare = text:find("\\r\\r", start, true)
  if bare ~= nil and (last == nil or bare < last) then return bare end
  return last
end

local function is_usage_event(event)
  return event:find('"choices"%%s*:%%s*%%[%%s*%%]') ~= nil and event:find('"usage"%%s*:%%s*{') ~= nil
end

-- What may leave although its event is not complete: anything that cannot become a JSON data event.
local function may_pass(tail)
  return #tail > LIMIT or tail:find("^:") ~= nil or tail:find("^data:%%s*%%[") ~= nil
end

-- Returns the text without usage events, the incomplete rest, and whether anything was taken out.
local function without_usage_events(text)
  local kept, start, dropped = {}, 1, false
  while true do
    local last = event_end(text, start)
    if last == nil then break end
    local event = text:sub(start, last)
    if is_usage_event(event) then dropped = true else kept[#kept + 1] = event end
    start = last + 1
  end
  local tail = text:sub(start)
  if tail ~= "" and may_pass(tail) then
    kept[#kept + 1] = tail
    tail = ""
  end
  return table.concat(kept), tail, dropped
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
  local pending, carried = "", ""
  for chunk in handle:bodyChunks() do
    local bytes = chunk:length() > 0 and chunk:getBytes(0, chunk:length()) or ""
    if read then
      carried = read_usage(handle, carried .. bytes)
      if #carried > LIMIT then carried = "" end
    end
    if strip then
      local held = pending ~= ""
      local out, tail, dropped = without_usage_events(pending .. bytes)
      pending = tail
      if held or dropped or tail ~= "" then chunk:setBytes(out) end
    end
  end
end
"""


def lua_source(*, read_usage: bool) -> str:
    """Return the filter's source; with *read_usage* it also writes usage into dynamic metadata."""
    values = {
        "namespace": names.METADATA_NAMESPACE,
        "added": names.INCLUDE_USAGE_ADDED,
        "prompt": names.USAGE_PROMPT,
        "completion": names.USAGE_COMPLETION,
        "total": names.USAGE_TOTAL,
        "cached": names.USAGE_CACHED,
        "cache_write": names.USAGE_CACHE_WRITE,
        "reasoning": names.USAGE_REASONING,
        "read": "true" if read_usage else "false",
    }
    read = _READ if read_usage else "local function read_usage(handle, text) return '' end\n"
    return (_SHARED % values) + (read % values) + (_RESPONSE % values)


def lua_filter(*, read_usage: bool) -> Json:
    """Return the HTTP filter."""
    return extension(
        "envoy.filters.http.lua",
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": lua_source(read_usage=read_usage)},
    )
