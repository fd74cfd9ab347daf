"""Lua before authentication: the scheme of a bearer token in the one spelling that Envoy's filter knows.

The name of a scheme has no case and may be followed by several blanks (RFC 9110 §11.1 and §11.4); the filter compares
``Bearer `` letter by letter.
"""

from typing import Final

from envoy_config.fields import Json, extension

SOURCE: Final = """
function envoy_on_request(handle)
  local headers = handle:headers()
  local sent = headers:get("authorization")
  if sent == nil or headers:getNumValues("authorization") ~= 1 then return end
  local token = sent:match("^[Bb][Ee][Aa][Rr][Ee][Rr] +([^ ].*)$")
  if token == nil then return end
  local plain = "Bearer " .. token
  if sent ~= plain then headers:replace("authorization", plain) end
end
"""


def bearer_scheme_filter() -> Json:
    """Return the HTTP filter."""
    return extension(
        "inferencegateway.dev/bearer-scheme",
        "envoy.extensions.filters.http.lua.v3.Lua",
        default_source_code={"inline_string": SOURCE},
    )
