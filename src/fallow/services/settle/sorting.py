"""Items in the order of their keys, however many: sorted runs on the disk, merged when they are read."""

from __future__ import annotations

import heapq
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from fallow.domain.reconciling import Item

RUN_ITEMS = 1 << 17
"""Held in memory at a time."""

KEY_BYTES_MAX, WHO_BYTES_MAX, AMOUNT_BYTES = 40, 32, 32


class Sorter:
    """Takes items in any order, and gives them in that of their keys. Its files in `folder` end with it."""

    def __init__(self, folder: Path, *, run_items: int = RUN_ITEMS) -> None:
        self._folder = folder
        self._run_items = run_items
        self._waiting: list[Item] = []
        self._runs: list[IO[bytes]] = []
        self._open = ExitStack()
        self._own: Path | None = None
        self.count = 0
        self.total = 0

    def add(self, items: Iterable[Item]) -> None:
        """Take items."""
        for item in items:
            self._waiting.append(item)
            self.count += 1
            self.total += item.amount
            if len(self._waiting) == self._run_items:
                self._write()

    def __iter__(self) -> Iterator[Item]:
        """Give all that were taken; each call begins again, one at a time."""
        for run in self._runs:
            run.seek(0)
        return heapq.merge(sorted(self._waiting), *map(_read, self._runs))

    def close(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._open.close()

    def _write(self) -> None:
        if self._own is None:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._own = Path(self._open.enter_context(tempfile.TemporaryDirectory(dir=self._folder)))
        run = self._open.enter_context((self._own / str(len(self._runs))).open("x+b"))
        run.writelines(map(_packed, sorted(self._waiting)))
        self._runs.append(run)
        self._waiting.clear()


def _packed(item: Item) -> bytes:
    return b"".join(
        [
            bytes([len(item.key), len(item.who), item.due]),
            item.key.ljust(KEY_BYTES_MAX, b"\0"),
            item.amount.to_bytes(AMOUNT_BYTES),
            item.who.ljust(WHO_BYTES_MAX, b"\0"),
        ]
    )


def _read(run: IO[bytes]) -> Iterator[Item]:
    size = 3 + KEY_BYTES_MAX + AMOUNT_BYTES + WHO_BYTES_MAX
    while row := run.read(size):
        key, who, due = row[0], row[1], bool(row[2])
        amount, name = row[3 + KEY_BYTES_MAX :][:AMOUNT_BYTES], row[3 + KEY_BYTES_MAX + AMOUNT_BYTES :]
        yield Item(row[3:][:key], int.from_bytes(amount), name[:who], due)
