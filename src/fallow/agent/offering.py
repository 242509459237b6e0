"""Keeps what the network knows of this machine's offer in step with what its owner wants."""

from __future__ import annotations

import asyncio
import logging

from fallow.agent.home import Mode
from fallow.agent.leases import Leases
from fallow.agent.outbox import Outbox
from fallow.agent.owner import Owner, Shape
from fallow.agent.presence import Presence
from fallow.domain.errors import Unavailable
from fallow.domain.resources import Terms

_log = logging.getLogger(__name__)


class Offering:
    """`owner` watches over the policy; without one there are no rules but the owner's own commands."""

    def __init__(self, presence: Presence, leases: Leases, outbox: Outbox, owner: Owner | None) -> None:
        self._presence = presence
        self._leases = leases
        self._outbox = outbox
        self._owner = owner
        self._said: Shape | None = None
        self._changed = asyncio.Event()

    @property
    def closed_for(self) -> str:
        """The code of the reason why the owner wants nothing new; empty when there is none."""
        mode = self._presence.state.mode
        if mode != "open":
            return f"owner.{mode}"
        return self._owner.closed_for if self._owner is not None else ""

    @property
    def owners_reasons(self) -> list[str]:
        """The codes of all reasons why the owner wants nothing new, the strongest first."""
        mode = self._presence.state.mode
        verdict = self._owner.verdict if self._owner is not None else None
        rules = [code for code, _ in verdict.reasons] if verdict is not None and not verdict.open else []
        return [*([f"owner.{mode}"] if mode != "open" else []), *rules]

    async def begin(self) -> None:
        """Make the first offer, after a first look at the machine."""
        if self._owner is not None:
            await self._owner.look()
        shape = self._apply()
        await self._outbox.append_surely(self._presence.offer(shape))
        self._said = shape

    async def run(self) -> None:
        """Obey until cancelled."""
        if self._owner is not None:
            async with asyncio.TaskGroup() as group:
                # Apart from the looking: a slow disk must not hold up the owner.
                group.create_task(self._say())
                await self._owner.run(self._obey)

    async def turn(self, mode: Mode) -> None:
        """Do as the owner commands, and say so.

        Raises:
            Unavailable: the disk is full; a pause has ended what ran all the same.
        """
        if self._presence.state.mode != mode:
            self._presence.set_mode(mode)
            _log.info("the owner set the mode to %s", mode)
            if mode == "paused":
                self._leases.stop_all("owner.paused", "owner")
            await self._outbox.append(self._presence.offer(self._shape))

    async def end(self) -> None:
        """Take the offer back. Raises Unavailable when the disk is full."""
        await self._outbox.append(self._presence.offer(self._shape._replace(open=False)))

    @property
    def terms(self) -> Terms:
        """What is asked now: the owner's terms, and no less than what work costs him."""
        return self._presence.terms(self._shape)

    @property
    def asked(self) -> Terms:
        """What the owner asks, in his policy or when he joined."""
        return self._presence.asked(self._shape)

    @property
    def _shape(self) -> Shape:
        if self._owner is not None:
            return self._owner.shape
        return Shape(open=True, total=self._presence.state.settings.total, floor=0)

    def _apply(self) -> Shape:
        shape = self._shape
        self._leases.resize(shape.total)
        return shape

    async def _obey(self) -> None:
        """End what must end, at once; what the network has to know is said by `_say`."""
        if self._owner is not None and self._owner.verdict.stop_running:
            self._leases.stop_all(self._owner.closed_for, "owner")
        if self._apply() != self._said:
            self._changed.set()

    async def _say(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            shape = self._shape
            try:
                await self._outbox.append(self._presence.offer(shape))
            except Unavailable as error:  # the next look tries again; proposals are declined meanwhile
                _log.warning("the offer could not be changed: %s", error)
            else:
                self._said = shape
