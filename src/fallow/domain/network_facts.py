"""What the network tells of itself in records, so that whoever has the archive needs to ask it nothing."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from fallow.domain.records import Body, Count


class SeedDrawn(Body, frozen=True, kw_only=True):
    """An epoch of draws is over: its seed, with all that anybody needs to make it again (`fallow.domain.epochs.seeds`).

    `commitment` is the operator's `Commitment`, `value` what it fits. `pledges` are the validators', as they signed
    them; `parts` stand in the same order, empty where a validator has not shown what it pledged.
    """

    kind: ClassVar[str] = "seed.drawn"
    version: ClassVar[int] = 1
    number: Count
    commitment: Annotated[bytes, Meta(max_length=512)]
    value: Annotated[bytes, Meta(min_length=32, max_length=32)]
    pledges: Annotated[list[Annotated[bytes, Meta(max_length=512)]], Meta(max_length=31)] = []
    parts: Annotated[list[Annotated[bytes, Meta(max_length=32)]], Meta(max_length=31)] = []


NETWORK_FACTS: tuple[type[Body], ...] = (SeedDrawn,)
