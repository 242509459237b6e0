"""A body of unknown length, cut into segments, by as much memory as all bodies of a process may take."""

from __future__ import annotations

import mmap
from contextlib import suppress
from typing import Final

from fallow.verticals.storage.client.store import Body
from fallow.verticals.storage.core.layout import SEGMENT_BYTES

SMALL_BYTES: Final = 1 << 20
"""What each body may hold of a segment, however many there are."""


class Room:
    """Bytes beyond `SMALL_BYTES` that all bodies together may still hold."""

    def __init__(self, free: int) -> None:
        self.free = free


class Held:
    """Bytes of a segment. More than `SMALL_BYTES` lie in pages of 2 MiB, where the system has such.

    Small pages are cleared one by one as they are touched first, which takes seven times as long as to copy the bytes.
    """

    def __init__(self) -> None:
        self._small = bytearray()
        self._pages: memoryview | None = None
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, data: memoryview) -> None:
        """Hold more, up to `SEGMENT_BYTES` in all."""
        end = self._size + len(data)
        if self._pages is None and end <= SMALL_BYTES:
            self._small += data
        else:
            if self._pages is None:
                self._pages = _pages(SEGMENT_BYTES)
                self._pages[: self._size] = self._small
                self._small = bytearray()
            self._pages[self._size : end] = data
        self._size = end

    def view(self) -> memoryview:
        """All of it."""
        return memoryview(self._small if self._pages is None else self._pages)[: self._size]


class Cutter:
    """Holds one segment at a time, in `held`; `over` once nothing comes behind it. `close` it.

    Nobody waits for room. A body may hold as much of it as is still free (the dynamic thresholds of Choudhury and
    Hahne, 1998), and where that is less than a segment, the segment ends there. So who is slow, or stands still with
    much in hand, makes others' segments shorter, and keeps nobody from storing.
    """

    def __init__(self, body: Body, room: Room) -> None:
        self.held = Held()
        self.over = False
        self._body = body
        self._room = room
        self._taken = 0
        self._rest = memoryview(b"")

    async def fill(self) -> None:
        """Take in what comes next, until as much as may be is held and it is known whether that is the last of it."""
        self._rest = self._hold(self._rest)
        while not self._rest and not self.over:
            chunk = await anext(self._body, None)
            if chunk is None:
                self.over = True
            else:
                self._rest = self._hold(memoryview(chunk))

    def take(self) -> memoryview:
        """Hand out what is held; its room is taken until it is given back."""
        taken, self.held = self.held.view(), Held()
        return taken

    def give_back(self, size: int) -> None:
        """So many bytes that were handed out are needed no more."""
        self._take_room(-_beyond(size))

    def close(self) -> None:
        """Give all room back."""
        self._take_room(-self._taken)

    def _hold(self, data: memoryview) -> memoryview:
        """Hold of bytes what there is room for; returns the rest."""
        before = len(self.held)
        more = max(0, self._room.free - _beyond(before)) // 2
        size = min(SEGMENT_BYTES, max(before, SMALL_BYTES) + more) - before
        self.held.add(data[:size])
        self._take_room(_beyond(len(self.held)) - _beyond(before))
        return data[size:]

    def _take_room(self, size: int) -> None:
        self._taken += size
        self._room.free -= size


def _pages(size: int) -> memoryview:
    """Memory that takes none before it is written to."""
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # kernels that are built without them (all that are PREEMPT_RT) refuse
            pages.madvise(mmap.MADV_HUGEPAGE)
    return memoryview(pages)


def _beyond(size: int) -> int:
    return max(0, size - SMALL_BYTES)
