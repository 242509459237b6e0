"""What decoding bytes from outside can end in."""

from __future__ import annotations

from typing import Final

import msgspec

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for malformed bytes: for text that is no UTF-8 and for endless nesting it has no error of its
own, and a service that forgets them can be ended by any stranger."""
