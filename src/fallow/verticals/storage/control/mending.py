"""What finds segments that need repair, repairs them, and moves the pieces of nodes that leave: running."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from nacl.signing import SigningKey

from fallow.ports.mishaps import steadily
from fallow.ports.tasks import background
from fallow.ports.vertical.control import ControlGround
from fallow.verticals.storage.client.lines import Lines
from fallow.verticals.storage.client.pieces import Mover, Reach
from fallow.verticals.storage.client.waiting import Watch
from fallow.verticals.storage.control.adopting import Adopting
from fallow.verticals.storage.control.exits import Exits
from fallow.verticals.storage.control.hints import HintedAudits
from fallow.verticals.storage.control.limits import Secrets, Signer
from fallow.verticals.storage.control.nodes import Nodes
from fallow.verticals.storage.control.places import UNIFORM
from fallow.verticals.storage.control.repairing import Repairs
from fallow.verticals.storage.control.scanning import Scan
from fallow.verticals.storage.control.whole_audits import WholeAudits


@asynccontextmanager
async def mending(ground: ControlGround, nodes: Nodes) -> AsyncIterator[None]:
    """Find and repair what needs it, and look at what readers say was altered, while the context is open."""
    clock = ground.clock
    async with asyncio.TaskGroup() as group:
        lines = Lines(ground.net, ground.relay, ground.direct, clock, random_bytes=secrets.token_bytes, group=group)
        watch = Watch(clock)
        repairing = repairs(ground, nodes, lines, watch)
        try:
            async with background(
                lines.run(),
                watch.run(),
                steadily("storage.scan", Scan(clock, ground.database, nodes).scan, clock),
                steadily("storage.repair", repairing.repair, clock),
                steadily("storage.hints", hinted(ground, nodes, lines, watch).run, clock),
                steadily("storage.adopting", adopting(ground, nodes).run, clock),
                steadily("storage.exits", Exits(ground, nodes, repairing).run, clock),
            ):
                yield
        finally:
            lines.close()


def repairs(ground: ControlGround, nodes: Nodes, reach: Reach, watch: Watch) -> Repairs:
    """What repairs, as a client of the network with keys of its own."""
    own = Secrets(ground.secret)

    def mover(number: int | None = None) -> Mover:
        return _mover(ground, own.repairer(number), reach, watch)

    return Repairs(
        clock=ground.clock,
        database=ground.database,
        nodes=nodes,
        signer=Signer(ground.net, ground.sign, own, secrets.token_bytes),
        audits=WholeAudits(ground, nodes),
        mover=mover(),
        bringer=cache(mover),
        uniform=UNIFORM,
    )


def hinted(ground: ControlGround, nodes: Nodes, reach: Reach, watch: Watch) -> HintedAudits:
    """What reads as readers do, each time with another key."""
    return HintedAudits(
        clock=ground.clock,
        database=ground.database,
        nodes=nodes,
        signer=Signer(ground.net, ground.sign, Secrets(ground.secret), secrets.token_bytes),
        audits=WholeAudits(ground, nodes),
        reader=lambda: _mover(ground, SigningKey.generate(), reach, watch),
    )


def _mover(ground: ControlGround, key: SigningKey, reach: Reach, watch: Watch) -> Mover:
    def sign(message: bytes) -> bytes:
        return key.sign(message).signature

    return Mover(ground.net, ground.network_key, bytes(key.verify_key), sign, reach, ground.clock, watch)


def adopting(ground: ControlGround, nodes: Nodes) -> Adopting:
    """What finds pieces again that repairs moved behind the time that was restored."""
    own = Secrets(ground.secret)
    return Adopting(
        net=ground.net, clock=ground.clock, database=ground.database, nodes=nodes, secrets=own, ask=ground.ask
    )
