"""The record kinds of storage."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from fallow.domain.records import Body

Sealed = Annotated[bytes, Meta(max_length=1024)]
Pair = Annotated[list[Sealed], Meta(min_length=2, max_length=2)]
"""A list, since records know no tuples."""


class StorageServed(Body, frozen=True, kw_only=True):
    """What a node has moved: for each order limit the sealed OrderLimit, and the sealed Order that says most."""

    kind: ClassVar[str] = "storage.served"
    version: ClassVar[int] = 1
    served: Annotated[list[Pair], Meta(min_length=1, max_length=20)]
