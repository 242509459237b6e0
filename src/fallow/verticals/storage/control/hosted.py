"""Who stands for the network's own gateways: the archive is told, and without stake nothing goes through them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

import msgspec

from fallow.domain.decisions import Decision
from fallow.domain.errors import Unavailable
from fallow.domain.gateway_facts import GatewayOverstated
from fallow.domain.identity import address_text
from fallow.domain.metrics import Family, gauges
from fallow.domain.rewards.oracle import TOKEN_UNITS
from fallow.ports.clock import Clock
from fallow.ports.database import Database, Transaction
from fallow.ports.decisions import DecisionStore
from fallow.ports.vertical.control import ControlGround, Hosted
from fallow.verticals.storage.core.handed_in import Overstated
from fallow.verticals.storage.core.hosted import GatewayView, GetGateways

LOOK_S: Final = 60.0
COUNTS_MS: Final = 3_600_000
"""How long it counts while the chain is away. Stake is at hand for days after its holder began to take it out."""
STAKED: Final = "fallow_storage_gateway_staked_tokens"
NOBODY: Final = "nobody"
_FIRST: Final = """
INSERT INTO storage.overstated (serial) SELECT unnest($1::bytea[]) ON CONFLICT DO NOTHING RETURNING serial
"""
HINT: Final = "Tell the operator. Until then your own machine does the same: fallow s3 serve"


_log = logging.getLogger(__name__)


class HostedGateways:
    """Of one network: they all sign with one key."""

    def __init__(self, ground: ControlGround) -> None:
        self._clock: Clock = ground.clock
        self._database: Database = ground.database
        self._decisions: DecisionStore = ground.decisions
        self._hosted: Hosted = ground.hosted
        self._staked: tuple[int, int] | None = None
        """Units, and when that was."""

    async def announce(self) -> None:
        """Have it recorded who stands for them; each start of the network does, so that every archive can have it."""
        if self._hosted.vouched is not None:
            async with self._database.transaction() as tx:
                await self._decisions.add(tx, [Decision(self._clock.now_ms(), self._hosted.vouched)])

    async def follow(self) -> None:
        """Ask once a minute what is at stake with their owner, until cancelled: who reads waits for no chain."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_S)

    async def look(self) -> None:
        """Ask it now."""
        if self._hosted.vouched is None:
            return
        try:
            units = await self._hosted.stake_of(self._hosted.vouched.owner)
        except Unavailable as error:
            _log.warning("what is at stake for the gateway is not known now: %s", error)
            return
        self._staked = units, self._clock.monotonic_ms()

    def check(self, client: bytes) -> None:
        """Let a client have limits to sign orders under. Others than these gateways sign for themselves.

        Raises:
            Unavailable: `storage.gateway_stake`: nobody stands for these gateways, with too little, or nobody knows.
        """
        hosted = self._hosted
        if client != hosted.key or not hosted.stake_min:
            return
        least = f"The operator wants {hosted.stake_min // TOKEN_UNITS:,} tokens at stake"
        if hosted.vouched is None or not self._stands_at(self._clock.now_ms()):
            raise Unavailable("storage.gateway_stake", f"{least} for this gateway, and nobody stands for it now.", HINT)
        staked, owner = self._stake(), address_text(hosted.vouched.owner)
        if staked is None:
            raise Unavailable(
                "storage.gateway_stake", f"{least} for this gateway, and the chain does not answer.", HINT
            )
        if staked < hosted.stake_min:
            raise Unavailable("storage.gateway_stake", f"{least} for this gateway; {owner} has fewer there.", HINT)

    async def get(self, _: GetGateways) -> list[GatewayView]:
        """See the call."""
        hosted, vouched = self._hosted, self._hosted.vouched
        if vouched is None:
            return [GatewayView(key=hosted.key, least_units=str(hosted.stake_min))]
        staked = self._stake()
        return [
            GatewayView(
                key=hosted.key,
                owner=address_text(vouched.owner),
                until_ms=vouched.until_ms,
                staked_units="" if staked is None else str(staked),
                least_units=str(hosted.stake_min),
            )
        ]

    async def measure(self) -> Sequence[Family]:
        """Tell how much is at stake for them, and whose it is; nothing where nobody knows."""
        vouched, units = self._hosted.vouched, self._stake()
        says = "Tokens at stake with who stands for the network's own gateways."
        if vouched is None or not self._stands_at(self._clock.now_ms()):
            return [gauges(STAKED, says, "owner", {NOBODY: 0})]
        return (
            [] if units is None else [gauges(STAKED, says, "owner", {address_text(vouched.owner): units / TOKEN_UNITS})]
        )

    async def convict(self, tx: Transaction, overstated: list[Overstated]) -> None:
        """Have it recorded where they ordered beyond a limit that somebody stands for.

        Once a limit: nodes may hand the same order in again and again, or a larger one under the same limit.
        """
        vouched, now = self._hosted.vouched, self._clock.now_ms()
        if vouched is None:
            return
        said = msgspec.structs.asdict(vouched)
        shown = {
            one.limit.serial: Decision(now, GatewayOverstated(**said, limit=one.sealed, order=one.order))
            for one in overstated
            if one.limit.client == vouched.key and self._stands_at(one.limit.made_ms)
        }
        if shown:
            new = await tx.fetch(_FIRST, list(shown))
            await self._decisions.add(tx, [shown[row["serial"]] for row in new])

    def _stands_at(self, at_ms: int) -> bool:
        vouched = self._hosted.vouched
        return vouched is not None and vouched.from_ms <= at_ms < vouched.until_ms

    def _stake(self) -> int | None:
        """Units at stake with the owner; None: nobody knows."""
        if self._staked is None or self._clock.monotonic_ms() - self._staked[1] >= COUNTS_MS:
            return None
        return self._staked[0]
