"""Lists that are longer than one answer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import TypeVar

PAGE = 1000

T = TypeVar("T")
PlaceT = TypeVar("PlaceT", int, str)


async def paged(
    ask: Callable[[PlaceT | None], Awaitable[Sequence[T]]],
    place: Callable[[T], PlaceT],
    after: PlaceT | None = None,
) -> AsyncIterator[T]:
    """Give all of a list, page by page: `ask` gets what is behind a place in it, and `place` tells where one stands."""
    while page := await ask(after):
        for one in page:
            yield one
        after = place(page[-1])
