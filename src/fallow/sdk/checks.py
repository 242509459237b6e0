"""Recomputing which results were checked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import msgspec

from fallow.domain.draws import Commitment, Draw, Purpose, Seed, faults
from fallow.domain.errors import InvalidInput, NotFound
from fallow.domain.identity import address_text
from fallow.domain.orders import Order
from fallow.domain.views.checks import DrawView, RollCallView, SeedPartsView, SeedView
from fallow.domain.views.jobs import JobView
from fallow.domain.views.network import NetworkView
from fallow.sdk.wire import Wire

if TYPE_CHECKING:
    from fallow.domain.epochs.seeds import Joint

PAGE = 1000


class DrawsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What recomputing an epoch's draws showed; `faults` is empty when every draw came from the seed.

    `parts` are the validators whose parts are in it, beside the operator's; `silent` pledged one and did not show it.
    """

    number: int
    draws: int
    hits: int
    faults: list[str]
    parts: list[str] = []
    silent: list[str] = []


class CheckCalls(Wire):
    """Seeds and draws."""

    async def seeds(self) -> list[SeedView]:
        """Commitments to the seeds of draws, the latest first, with the seeds of epochs that are over."""
        return await self._call("GET", "/v1/checks", list[SeedView])

    async def seed_parts(self, number: int) -> SeedPartsView:
        """What validators add to the seed of an epoch of draws."""
        return await self._call("GET", f"/v1/checks/{number}/parts", SeedPartsView)

    async def draws(self, number: int) -> AsyncIterator[DrawView]:
        """Give all draws of an epoch that is over."""
        query: dict[str, str | int] = {"limit": PAGE}
        while True:
            page = await self._call("GET", f"/v1/checks/{number}/draws", list[DrawView], query=query)
            for draw in page:
                yield draw
            if len(page) < PAGE:
                return
            query |= {"after_lease": page[-1].lease, "after_purpose": page[-1].purpose}

    async def roll_calls(self, *, found: bool = False, limit: int = 50) -> list[RollCallView]:
        """Show the latest roll calls, the last one first; with `found` only those that convicted somebody."""
        query: dict[str, str | int] = {"found": str(found).lower(), "limit": limit}
        return await self._call("GET", "/v1/roll-calls", list[RollCallView], query=query)

    async def plant(self, order: Order) -> JobView:
        """Operator: have work done that canaries are made of; it must give the same bytes on every machine."""
        return await self._call("POST", "/v1/operator/canaries", JobView, body=order)

    async def verify_draws(self, number: int, *, kept: str = "") -> DrawsReport:
        """Recompute an epoch's draws from its seed. `kept` is the commitment (hex) that you noted before it began.

        Raises:
            NotFound: the epoch is not over, or unknown.
            InvalidInput, NotAllowed: the commitment is malformed, or not signed by this network.
        """
        network = await self._call("GET", "/v1/network", NetworkView)
        shown = next((seed for seed in await self.seeds() if seed.number == number), None)
        if shown is None or shown.seed is None:
            raise NotFound("checks.not_closed", f"No epoch of draws {number} is over.", "List them: fallow checks ls")
        commitment = Commitment.open(_bytes(kept or shown.commitment), bytes.fromhex(network.public_key))
        joint = _joint(Seed(number, bytes.fromhex(shown.seed)), network.net, await self.seed_parts(number))
        draws = [_draw(view) async for view in self.draws(number)]
        found = faults(commitment, bytes.fromhex(shown.seed), draws, joint.value if joint else None)
        if (commitment.net, commitment.number) != (network.net, number):
            found.append(f"the commitment is about epoch {commitment.number} of network {commitment.net}")
        return DrawsReport(
            number=number,
            draws=len(draws),
            hits=sum(draw.hit for draw in draws),
            faults=found,
            parts=[address_text(one) for one in joint.parts] if joint else [],
            silent=[address_text(one) for one in joint.silent] if joint else [],
        )


def _joint(operator: Seed, net: str, added: SeedPartsView) -> Joint | None:
    if not added.parts:
        return None
    from fallow.domain.epochs.seeds import joint_of  # noqa: PLC0415 - not installed with every part of Fallow

    return joint_of(operator, net, [(_bytes(one.pledge), _bytes(one.part or "")) for one in added.parts])


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError as error:
        raise InvalidInput("checks.commitment", "A commitment is written in hex digits.") from error


def _draw(view: DrawView) -> Draw:
    return Draw(
        view.number,
        bytes.fromhex(view.lease),
        Purpose(view.purpose),
        bytes.fromhex(view.node),
        view.at,
        view.one_in,
        view.hit,
    )
