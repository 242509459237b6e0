"""How long ago somebody last used this machine with their hands.

Two things tell. Terminals: the kernel stamps a terminal when somebody types into it (to 8 seconds). Keys and mice: the
kernel tells when a program (the desktop) reads an event of /dev/input; the times of those files are of no use, since
reading does not change them. This process learns *that* there was an event, and never which: it does not read any.
Watching needs the right to read the device (root, or the group `input`). Where there are devices that it may not watch,
the answer is Unknown: a person could sit there unseen.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from fallow.agent.policy import Unknown

_IN_ACCESS = 0x1
_EVENTS_BYTES = 64 * 1024


class Attention:
    """Watches `dev` (/dev); `seconds` is a wall clock. The time before it began counts as use: nobody saw it."""

    def __init__(self, dev: Path, seconds: Callable[[], float]) -> None:
        self.source = ""
        self._dev = dev
        self._seconds = seconds
        self._last_s = seconds()
        self._watches = _Watches()
        self._blind: list[str] = []
        self._consoles: list[Path] = []
        self.refresh()

    def refresh(self) -> None:
        """Look for devices that came or went."""
        self._consoles = list(self._dev.glob("tty[0-9]*"))
        devices = sorted(self._dev.glob("input/event*"))
        self._blind = [str(path) for path in devices if not self._watches.add(path)]
        seen = len(devices) - len(self._blind)
        self.source = f"terminals in {self._dev}; {seen} of {len(devices)} input devices"

    def idle_s(self) -> float | Unknown:
        """Seconds since the last use that was seen."""
        now = self._seconds()
        if self._watches.happened():
            self._last_s = now
        # A stamp in the future is a clock that was set back: not a use.
        uses = [used for used in self._terminals() if used <= now]
        self._last_s = max(self._last_s, *uses) if uses else self._last_s
        self._last_s = min(self._last_s, now)
        if self._blind:
            why = "may not be watched by this user; add it to the group input, and start the agent again"
            return Unknown(f"{self._blind[0]} {why}.")
        return now - self._last_s

    def close(self) -> None:
        """Stop watching."""
        self._watches.close()

    def _terminals(self) -> list[float]:
        found = []
        for path in (*self._dev.glob("pts/[0-9]*"), *self._consoles):
            with suppress(OSError):
                found.append(path.stat().st_atime)
        return found


class _Watches:
    """The kernel's notices that files were read (inotify)."""

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd: int = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)

    def add(self, path: Path) -> bool:
        """Watch a file; False when that is not allowed. The same file again changes nothing."""
        return self._fd >= 0 and self._libc.inotify_add_watch(self._fd, os.fsencode(path), _IN_ACCESS) >= 0

    def happened(self) -> bool:
        """Whether any was read since the last time."""
        with suppress(OSError):
            return bool(os.read(self._fd, _EVENTS_BYTES))
        return False

    def close(self) -> None:
        """Let go."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
