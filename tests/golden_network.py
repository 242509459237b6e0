"""One of each record in which the network tells of itself, for the golden bytes."""

from __future__ import annotations

from fallow.domain.network_facts import SeedDrawn
from fallow.domain.records import Body

NETWORK_BODIES: tuple[Body, ...] = (
    SeedDrawn(
        number=3, commitment=b"c" * 200, value=bytes(32), pledges=[b"p" * 180, b"q" * 180], parts=[b"t" * 32, b""]
    ),
)
