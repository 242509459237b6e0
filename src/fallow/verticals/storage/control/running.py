"""The network's side of storage, put together from its parts."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fallow.domain.calls.base import AccountRef
from fallow.domain.calls.verticals import ALERTS
from fallow.ports.mishaps import steadily
from fallow.ports.rpc import serve
from fallow.ports.tasks import background
from fallow.ports.vertical.control import ControlGround
from fallow.verticals.storage.control.directs import Directs
from fallow.verticals.storage.control.ground import Ground
from fallow.verticals.storage.control.keeping import Keeping
from fallow.verticals.storage.control.measuring import Measuring
from fallow.verticals.storage.control.mending import mending
from fallow.verticals.storage.control.operations import Operations
from fallow.verticals.storage.control.paying import Paying
from fallow.verticals.storage.control.places import Places
from fallow.verticals.storage.control.segments import SegmentRows
from fallow.verticals.storage.control.service import QUEUE, Control, Objects
from fallow.verticals.storage.core.calls.base import SUBJECT


@asynccontextmanager
async def running(ground: ControlGround) -> AsyncIterator[None]:
    """Keep objects and look after their pieces while the context is open."""
    operations = Operations(ground.database, ground.clock)
    paying = Paying(ground.bus, ground.clock)
    objects = Objects(
        Ground(
            database=ground.database,
            segments=SegmentRows(ground.clock),
            clock=ground.clock,
            may_open=paying.may_open,
            may_use=paying.may_use,
            counted=operations.count,
            keeping=Keeping(ground.clock),
            random_bytes=secrets.token_bytes,
            offers=ground.offers,
        )
    )
    directs = Directs(ground.bus, ground.clock)
    places = Places(ground, objects, paying, direct=directs.of)
    ground.watch(Measuring(ground.clock, ground.database, places.nodes).measure)
    ground.watch(places.hosted.measure)
    async with (
        operations.running(),
        directs.running(),
        places.running(),
        background(steadily("storage.uploads", objects.stale.give_up, ground.clock)),
        mending(ground, places.nodes),
        serve(ground.bus, f"{SUBJECT}.{ALERTS}", AccountRef, places.lenders.alerts, queue=QUEUE),
        Control(ground.bus, ground.clock, ground.database, objects, places.handlers()).running(),
    ):
        yield
