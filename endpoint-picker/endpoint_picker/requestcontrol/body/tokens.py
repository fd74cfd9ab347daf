"""How many tokens a prompt has, estimated without a tokenizer.

Text counts four bytes of UTF-8 to the token, about right for English and code and too low for scripts that use three
bytes to the character but little merging. Token ids count as they are. Whatever is no text counts a constant per
piece, because its real cost depends on the model's encoder: what matters is that a picture is not free. A message
counts a little more than its text for the role and separators that chat templates add.
"""

from typing import Final

BYTES_PER_TOKEN: Final = 4
MESSAGE_TOKENS: Final = 4
IMAGE_TOKENS: Final = 1000
AUDIO_TOKENS: Final = 500
VIDEO_TOKENS: Final = 4000
FILE_TOKENS: Final = 2000


def estimate_tokens(*, text_bytes: int, token_ids: int = 0, messages: int = 0, media_tokens: int = 0) -> int:
    """Return the estimate for a prompt of so much text, ids, messages and media; 0 only for an empty one."""
    text_tokens = (text_bytes + BYTES_PER_TOKEN - 1) // BYTES_PER_TOKEN
    return text_tokens + token_ids + messages * MESSAGE_TOKENS + media_tokens
