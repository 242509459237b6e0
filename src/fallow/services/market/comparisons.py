"""Has results compared, one item after the other, and tells the market what that has shown."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial

from fallow.domain.errors import FallowError
from fallow.ports.clock import Clock
from fallow.ports.vertical.control import Comparer
from fallow.services.market.brain import Brain
from fallow.services.market.comparing import Asked
from fallow.services.market.rounds import Rounds

RETRY_S = 5.0

_log = logging.getLogger(__name__)


class Comparisons:
    """Works while its market leads. Accounts take turns: a map that takes long to compare holds up its buyer alone."""

    def __init__(self, rounds: Rounds, comparers: Mapping[str, Comparer], clock: Clock) -> None:
        self._rounds = rounds
        self._comparers = comparers
        self._clock = clock

    async def run(self) -> None:
        """Compare for ever."""
        last = b""
        while True:
            await self._rounds.to_compare.wait()
            asked = self._rounds.brain.judging.comparing.next_for(last)
            if asked is None:
                self._rounds.to_compare.clear()
                continue
            last = asked.account
            try:
                await self._compare(asked)
            except (FallowError, OSError) as error:
                _log.warning("results of job %s cannot be compared now: %s", asked.job, error)
                await self._clock.sleep(RETRY_S)

    async def _compare(self, asked: Asked) -> None:
        comparer = self._comparers[asked.vertical]
        compared = await comparer.compare(asked.account.hex(), asked.tolerance, asked.results)
        await self._rounds.ask(partial(Brain.compared, asked=asked, compared=compared))
