"""What operators keep of what others' stake with them earns: their signed word becomes a record."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from fallow.domain import calls
from fallow.domain.decisions import Decision
from fallow.domain.errors import InvalidInput, NotAllowed
from fallow.domain.identity import address
from fallow.domain.stake_facts import StakeTake, take_text
from fallow.domain.wallets import signer_of
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.database import Database
from fallow.ports.decisions import DecisionStore
from fallow.ports.rpc import Empty, serve

TIME_MS: Final = 600_000
"""By how much the time that an operator signed may be off: what is older could be somebody's who found it."""


class Takes:
    """Answers `settle.set_take`. Several copies may run."""

    def __init__(self, *, net: str, bus: Bus, clock: Clock, database: Database, decisions: DecisionStore) -> None:
        self._net = net
        self._bus = bus
        self._clock = clock
        self._database = database
        self._decisions = decisions

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve while the context is open."""
        async with serve(self._bus, calls.tokens.SET_TAKE, calls.tokens.SetTake, self.set, queue="settle"):
            yield

    async def set(self, said: calls.tokens.SetTake) -> Empty:
        """Have it recorded. Said again it is recorded again, and the fold takes the first one alone.

        Raises:
            NotAllowed: the account did not sign this.
            InvalidInput: it is of another time.
        """
        account, signature = address(said.account), bytes.fromhex(said.signature[2:])
        if signer_of(take_text(self._net, account, said.take_ppm, said.at_ms), signature) != account:
            raise NotAllowed("stake.signature", f"{said.account} did not sign this.")
        now = self._clock.now_ms()
        if abs(said.at_ms - now) > TIME_MS:
            raise InvalidInput("stake.time", "That was signed at another time.", "Set the clock, and sign it anew.")
        body = StakeTake(account=account, take_ppm=said.take_ppm, at_ms=said.at_ms, signature=signature)
        async with self._database.transaction() as tx:
            await self._decisions.add(tx, [Decision(now, body)])
        return {}
