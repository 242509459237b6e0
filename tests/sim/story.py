"""What happened in a simulation: a digest of all of it, and its last lines to be read."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections import deque

LINES_MAX = 400


class Story(logging.Handler):
    """Takes notes, and what the production code logs; each line is stamped with the virtual time."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: deque[str] = deque(maxlen=LINES_MAX)
        self._digest = hashlib.sha256()
        self._last = ""

    @property
    def digest(self) -> str:
        """Equal for two runs in which the same happened at the same times."""
        return self._digest.hexdigest()

    def note(self, line: str) -> None:
        """Add one line, unless it is the last one again."""
        stamped = f"{_now():9.3f}  {line}"
        self._digest.update(stamped.encode())
        if line != self._last:
            self.lines.append(stamped)
        self._last = line

    def message(self, data: bytes) -> None:
        """Count a message that arrived."""
        self._digest.update(b"%.6f" % _now())
        self._digest.update(data)

    def emit(self, record: logging.LogRecord) -> None:
        """Take what was logged."""
        self.note(f"{record.name.removeprefix('fallow.')}: {record.getMessage()}")

    def tail(self, lines: int = 60) -> str:
        """The last lines."""
        return "\n".join(list(self.lines)[-lines:])


def _now() -> float:
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return 0.0
