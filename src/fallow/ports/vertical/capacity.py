"""How a node shows at roll calls what it has."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol


class Exercise(NamedTuple):
    """Work for a roll call: with `cpu_milli` for `work_ms`, on a `challenge` (32 bytes) that nobody could foresee.

    Each node has steps of its own. `cancel` ends it at once: whoever needs the machine comes first.
    """

    challenge: bytes
    node: bytes
    cpu_milli: int
    work_ms: int
    cancel: asyncio.Event


class Effort(Protocol):
    """What a node did in an exercise: so many units, and bytes that bind it to them."""

    units: int
    commitment: bytes

    def show(self, wanted: Sequence[int]) -> bytes:
        """Return these units with what shows that they are among those done."""
        ...


class Claim(NamedTuple):
    """What a node said of its effort."""

    challenge: bytes
    node: bytes
    units: int
    commitment: bytes


class Capacity(Protocol):
    """How the network checks an effort. Pure."""

    def wanted(self, units: int, chance: bytes) -> list[int]:
        """Draw which units a node shows."""
        ...

    def holds(self, claim: Claim, wanted: Sequence[int], shown: bytes) -> bool:
        """Whether what was shown is what the node bound itself to, and is right. Takes a while; for a thread."""
        ...
