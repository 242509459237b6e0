"""Where nodes can be dialled: asked of the relays, beside, and forgotten after a minute."""

from __future__ import annotations

from fallow.adapters.memory.bus import MemoryBus, MemoryHub
from fallow.domain.calls.base import NodeRef
from fallow.domain.calls.streams import RelayAt, relay_of
from fallow.domain.streams import DirectAddress
from fallow.ports.rpc import serve
from fallow.verticals.storage.control.directs import KNOWN_MS, Directs
from tests.unit.agent_fakes import settle
from tests.unit.fake_network import HandClock

NODE = b"n" * 32
AT = DirectAddress(host="192.0.2.7", port=8440, certificate="its certificate")


class Relay:
    """Holds the node's session."""

    def __init__(self) -> None:
        self.asked = 0
        self.at: DirectAddress | None = AT

    async def answer(self, who: NodeRef) -> RelayAt:
        """Say where the node is."""
        self.asked += 1
        return RelayAt(node=who.node, url="wss://relay", direct=self.at)


async def test_a_node_that_was_reached_is_dialled_from_the_second_time_on() -> None:
    bus, clock, relay = MemoryBus(MemoryHub()), HandClock(), Relay()
    directs = Directs(bus, clock)
    async with serve(bus, relay_of(NODE.hex()), NodeRef, relay.answer, queue=""), directs.running():
        assert directs.of(NODE) is None
        assert directs.of(NODE) is None, "nobody waits, and nobody asks twice"
        await settle()
        assert directs.of(NODE) == AT
        assert relay.asked == 1


async def test_what_a_relay_said_is_asked_again_after_a_minute() -> None:
    bus, clock, relay = MemoryBus(MemoryHub()), HandClock(), Relay()
    directs = Directs(bus, clock)
    async with serve(bus, relay_of(NODE.hex()), NodeRef, relay.answer, queue=""), directs.running():
        directs.of(NODE)
        await settle()
        relay.at = None
        clock.ms += KNOWN_MS
        assert directs.of(NODE) == AT, "the last word counts until the next one"
        await settle()
        assert directs.of(NODE) is None
        assert relay.asked == 2


async def test_a_node_of_which_no_relay_knows_is_reached_as_all_others() -> None:
    bus, clock = MemoryBus(MemoryHub()), HandClock()
    directs = Directs(bus, clock)
    async with directs.running():
        directs.of(NODE)
        await settle()
        assert directs.of(NODE) is None


def test_nothing_is_asked_outside_of_its_context() -> None:
    assert Directs(MemoryBus(MemoryHub()), HandClock()).of(NODE) is None
