"""What an operator keeps of the incentives that stake with him earned, and why stake is slashed, as records."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import Meta

from fallow.domain.chain_facts import Holder
from fallow.domain.identity import address_text
from fallow.domain.records import Body, Count

TAKE_ALL_PPM = 1_000_000
TakePpm = Annotated[int, Meta(ge=0, le=TAKE_ALL_PPM)]


class StakeTake(Body, frozen=True, kw_only=True):
    """An operator's word, which its account signed (`take_text`): of what others' stake earned he keeps `take_ppm`."""

    kind: ClassVar[str] = "stake.take"
    version: ClassVar[int] = 1
    account: Holder
    take_ppm: TakePpm
    at_ms: Count
    signature: Annotated[bytes, Meta(min_length=65, max_length=65)]


STAKE_FACTS: tuple[type[Body], ...] = (StakeTake,)


def take_text(net: str, account: bytes, take_ppm: int, at_ms: int) -> str:
    """What an operator signs, as wallets show it."""
    return (
        f"Delegations to {address_text(account)} on the network {net}\n"
        f"I keep, in millionths of what they earn: {take_ppm}\n"
        f"milliseconds since 1970: {at_ms}"
    )
