"""Tells the network that this node can be dialled, where its owner allows it, and hears whether that is so."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Final

from fallow.agent.door import NodeDoor
from fallow.domain.errors import FallowError
from fallow.domain.streams import DirectOffer
from fallow.ports.clock import Clock
from fallow.ports.dialling import DialledSession
from fallow.ports.streams import Link

AGAIN_S: Final = 60.0

_log = logging.getLogger(__name__)

Listen = Callable[[Callable[[Link, str], Awaitable[None]]], AbstractAsyncContextManager[tuple[int, str]]]
"""Opens the port, and yields its number and the certificate (PEM) that is shown there."""


class Direct:
    """Listens, and offers that to the relay over the node's own session. `state` is a sentence for the owner."""

    def __init__(self, door: NodeDoor, session: DialledSession, listen: Listen, clock: Clock) -> None:
        self.state = "It is not known yet whether buyers reach this machine."
        self._door = door
        self._session = session
        self._listen = listen
        self._clock = clock

    async def run(self) -> None:
        """Do so until cancelled; what fails is tried again in a minute."""
        while True:
            try:
                async with self._listen(self._door.attend) as (port, certificate):
                    while True:
                        await self._offer(port, certificate)
                        await self._clock.sleep(AGAIN_S)
            except FallowError as error:
                self._note(f"Buyers do not reach this machine: {error.message}")
            await self._clock.sleep(AGAIN_S)

    async def _offer(self, port: int, certificate: str) -> None:
        """Offer once, until the network does not reach this machine (any more), or the session is over."""
        door = self._door
        offer = DirectOffer(net=door.net, node=door.key.node, port=port, certificate=certificate, probe=door.probe)
        await self._session.linked.wait()
        try:
            stream = self._session.open(offer.seal(door.key.sign))
            while answer := await stream.read():
                self._note(f"Buyers reach this machine at {answer.decode(errors='replace')[:64]} port {port}.")
        except FallowError as error:
            self._note(f"Buyers do not reach this machine: {error.message} {error.hint}".rstrip())

    def _note(self, state: str) -> None:
        if state != self.state:
            _log.info("%s", state)
        self.state = state
