"""What a network publishes of its epochs, as somebody outside of it sees it. Calls block; use them in a thread."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol


class Published(Protocol):
    """Every call raises Unavailable where the network cannot be reached or does not answer as it should."""

    def first(self) -> int | None:
        """Number of the first epoch that the network has closed; None while it has closed none."""
        ...

    def read(self, epoch: int, name: str) -> Iterator[bytes]:
        """Read a file of an epoch, in pieces.

        Raises:
            NotFound: there is none.
        """
        ...

    def vote(self, epoch: int, vote: bytes) -> None:
        """Hand in a vote. The same again changes nothing.

        Raises:
            NotAllowed, InvalidInput, Conflict: the network does not take it.
        """
        ...

    def next_seed(self) -> bytes | None:
        """The operator's signed commitment to the seed of the next epoch of draws, if there is one."""
        ...

    def pledges(self, number: int) -> list[bytes]:
        """What validators pledged to add to a seed, as they signed it."""
        ...

    def pledge(self, pledge: bytes) -> None:
        """Hand in a pledge of the seed after the next one; raises as `vote`."""
        ...

    def show_part(self, number: int, validator: bytes, part: bytes) -> None:
        """Show the part of the next seed that was pledged; raises as `vote`."""
        ...
