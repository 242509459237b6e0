"""A bus that loses, delays, reorders and repeats messages, and cuts parties off; all by the seed."""

# ruff: noqa: D102

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextvars import Context
from functools import partial
from typing import NamedTuple

from fallow.adapters.memory.bus import MemoryBus, MemoryHub, _check_payload, _Envelope
from fallow.adapters.memory.subjects import check_subject
from fallow.domain.errors import Unavailable


class Weather(NamedTuple):
    """Chances that a message is lost or comes twice, and that it is slow; up to how many seconds each way takes."""

    loss: float
    repeat: float
    slow: float
    delay_s: float
    slow_s: float


CALM = Weather(0, 0, 0, 0.01, 0)


class Net(MemoryHub):
    """`cut` parties neither send nor hear; `mute` ones only hear, `deaf` ones only send.

    `note` is told of every message that arrives.
    """

    def __init__(self, seed: int, note: Callable[[bytes], None]) -> None:
        super().__init__()
        self.weather = CALM
        self.cut: set[str] = set()
        self.mute: set[str] = set()
        self.deaf: set[str] = set()
        self.counts = dict.fromkeys(("lost", "repeated", "slow", "unheard"), 0)
        self._chance = random.Random(f"{seed}/net")
        self._note = note

    def party(self, name: str) -> PartyBus:
        return PartyBus(self, name)

    def listeners(self, subject: str) -> int:
        return len(self._listeners.find(subject))

    def send(self, envelope: _Envelope, sender: PartyBus) -> None:
        if sender.party in self.cut | self.mute:
            self.counts["unheard"] += 1
            return
        loop = asyncio.get_running_loop()
        for delay_s in self._ways():
            copy = envelope
            if envelope.reply is not None:
                inner: asyncio.Future[bytes] = loop.create_future()
                inner.add_done_callback(partial(self._answer, envelope.reply, sender), context=Context())
                copy = envelope._replace(reply=inner)
            loop.call_later(delay_s, self._arrive, copy, context=Context())  # it is on its way, whoever stops

    def deliver(self, envelope: _Envelope) -> int:
        """As the hub does, but not to those who cannot hear."""
        chosen = self._choose(envelope.message.subject)
        for listener in chosen:
            if self._hears(listener.bus) and not listener.inbox.put(envelope):
                listener.bus.dropped += 1
        return len(chosen)

    def _arrive(self, envelope: _Envelope) -> None:
        if self.up:
            self._note(envelope.message.subject.encode() + b"\0" + envelope.message.data)
            self.deliver(envelope)

    def _answer(self, outer: asyncio.Future[bytes], sender: PartyBus, inner: asyncio.Future[bytes]) -> None:
        """An answer takes the way back."""

        def arrive() -> None:
            if self.up and self._hears(sender) and not outer.done():
                self._note(inner.result())
                outer.set_result(inner.result())

        if inner.cancelled():
            return
        for delay_s in self._ways():
            asyncio.get_running_loop().call_later(delay_s, arrive, context=Context())

    def _hears(self, bus: MemoryBus) -> bool:
        if isinstance(bus, PartyBus) and not bus.dead and bus.party not in self.cut | self.deaf:
            return True
        self.counts["unheard"] += 1
        return False

    def _ways(self) -> Iterator[float]:
        """How long each copy of a message takes."""
        weather, chance = self.weather, self._chance
        if chance.random() < weather.loss:
            self.counts["lost"] += 1
            return
        for copy in range(2):
            if copy == 1:
                if chance.random() >= weather.repeat:
                    return
                self.counts["repeated"] += 1
            slow = chance.random() < weather.slow
            self.counts["slow"] += slow
            yield chance.random() * (weather.slow_s if slow else weather.delay_s)


class PartyBus(MemoryBus):
    """One process's connection. Once it is `dead`, nothing leaves or reaches it."""

    def __init__(self, net: Net, party: str) -> None:
        super().__init__(net)
        self.party = party
        self.dead = False
        self._net = net

    async def _send(self, envelope: _Envelope) -> int:
        check_subject(envelope.message.subject)
        _check_payload(envelope.message.data)
        self._check_up()
        if envelope.reply is not None and not self._net.listeners(envelope.message.subject):
            await asyncio.sleep(0)
            return 0
        self._net.send(envelope, self)
        await asyncio.sleep(0)
        return 1

    def _check_up(self) -> None:
        if self.dead:
            raise Unavailable("bus.disconnected", "This process is dead.")
        super()._check_up()
