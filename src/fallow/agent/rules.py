"""Answers the network when the owner looks at this machine's rules in the console, or asks for others."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Final

from fallow.agent.owner import Owner
from fallow.domain import calls
from fallow.domain.errors import NotAllowed, Unavailable
from fallow.domain.idle_rules import QUESTIONS_AT_ONCE, QUESTIONS_PER_S, RulesStanding
from fallow.ports.bus import Bus
from fallow.ports.clock import Clock
from fallow.ports.rates import Buckets, Rate
from fallow.ports.rpc import serve

RETRY_S: Final = 1.0
RATE: Final = Rate(QUESTIONS_PER_S, QUESTIONS_AT_ONCE)
"""How often the network may ask. It keeps to that itself."""


class Rules:
    """Of the node that is called `node` (hex), and bound to `account`."""

    def __init__(self, owner: Owner, clock: Clock, *, node: str, account: str) -> None:
        self._owner = owner
        self._clock = clock
        self._rate = Buckets(RATE, clock)
        self._node = node
        self._account = account

    async def run(self, bus: Bus) -> None:
        """Answer until cancelled."""
        while True:
            with suppress(Unavailable):
                async with serve(
                    bus, calls.rules.rules_of(self._node), calls.rules.TellRules, self.answer, queue="agent"
                ):
                    await asyncio.Event().wait()
            await self._clock.sleep(RETRY_S)

    async def answer(self, request: calls.rules.TellRules) -> RulesStanding:
        """Take what is asked, and say how the rules stand.

        Raises:
            NotAllowed: another account asks than the one that this node is bound to; or as `Owner.ask`.
            TooMuch: too often.
            Conflict, Unavailable: as `Owner.ask`.
        """
        self._rate.take("")
        if request.asked is not None and request.asked.account != self._account:
            raise NotAllowed("agent.other_account", "This machine obeys the account that it is bound to alone.")
        return self._owner.ask(request.asked)
