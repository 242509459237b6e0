"""Announces what the archive shows as slashes on the chain, each once, and takes them after the time for an appeal.

Evidence is in the archive, what was announced in the sender's log and at the contract. So a start after any crash goes
on where the last one was. Stopping a slash is the guardian's; one that was stopped is not announced again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from fallow.domain.epochs.offences import Offence, take_call
from fallow.domain.gateway_facts import LimitMade
from fallow.domain.identity import address_text
from fallow.ports.archive import Archive
from fallow.ports.chain import ContractRefused
from fallow.ports.clock import Clock
from fallow.services.sender.evidence import Evidence
from fallow.services.sender.looking import looking
from fallow.services.sender.service import Sender
from fallow.services.sender.vault import Vault

LOOK_S = 60.0

_log = logging.getLogger(__name__)


class Slasher:
    """The operator's process that slashes: the vault names the account of `sender` as its slasher."""

    def __init__(
        self,
        *,
        network_key: bytes,
        archive: Archive,
        vault: Vault,
        sender: Callable[[], AbstractAsyncContextManager[Sender]],
        clock: Clock,
        limits_made: Mapping[str, LimitMade],
    ) -> None:
        self._evidence = Evidence(archive, network_key, limits_made)
        self._vault = vault
        self._sender = sender
        self._clock = clock
        self._announced: set[str] = set()
        self._open_from = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Slash while the context is open."""
        async with looking("chain.slashes", self.look, self._clock, every_s=LOOK_S, not_done="nothing is slashed"):
            yield

    async def look(self) -> tuple[int, int]:
        """Announce what is new, and take what is due; returns how many of each.

        Raises:
            Unavailable: the chain or the archive is away.
            Conflict: another process sends with the operator's key just now.
        """
        found = await asyncio.to_thread(self._evidence.offences)
        announced = [await self._announce(each) for each in found if each.id not in self._announced]
        return sum(announced), await self._take_due()

    async def _announce(self, offence: Offence) -> bool:
        """Announce one, unless its pool is empty: then it is looked at again as long as it counts."""
        pool = await self._vault.pool(offence.operator)
        if not pool.staked and not pool.leaving:
            return False
        async with self._sender() as sender:
            known = sender.knows(offence.id)
            await sender.send(offence.id, self._vault.contract, offence.call)
        self._announced.add(offence.id)
        if not known:
            whose, evidence = address_text(offence.operator), offence.evidence.hex()
            _log.warning("a slash of %s is announced: %s, evidence %s", whose, offence.reason, evidence)
        return not known

    async def _take_due(self) -> int:
        taken, number, settled = 0, self._open_from, True
        while (slash := await self._vault.slash(number)) is not None:
            if not slash.settled and slash.takes_effect_at_s <= self._clock.now_ms() // 1000:
                taken += await self._take(number)
            settled = settled and slash.settled
            number += 1
            self._open_from = number if settled else self._open_from
        return taken

    async def _take(self, number: int) -> bool:
        """Take one; who was faster, or stopped it, is welcome."""
        try:
            async with self._sender() as sender:
                await sender.send_anew(f"slash/take/{number}", self._vault.contract, take_call(number))
        except ContractRefused:
            return False
        return True
