"""Many rows become values in portions: a role's event loop has other work, and a network has many nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, TypeVar

from fallow.ports.database import Row

ROWS_A_TURN: Final = 2_000
"""Some milliseconds."""

Key = TypeVar("Key")
Value = TypeVar("Value")


async def by_turns(rows: Sequence[Row], read: Callable[[Row], tuple[Key, Value]]) -> dict[Key, Value]:
    """Read a key and a value of each row; between two portions others get their turn."""
    found: dict[Key, Value] = {}
    for start in range(0, len(rows), ROWS_A_TURN):
        found.update(map(read, rows[start : start + ROWS_A_TURN]))
        await asyncio.sleep(0)
    return found
