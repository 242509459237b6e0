"""A segment to its nodes: coded while it is sent, with spare places for nodes that fail or are slow."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from fallow.domain.errors import FallowError, Unavailable
from fallow.ports.tasks import first_error
from fallow.verticals.storage.client.asking import Asker
from fallow.verticals.storage.client.pieces import Mover, put_piece
from fallow.verticals.storage.client.waiting import Change, ticking
from fallow.verticals.storage.client.window import Window
from fallow.verticals.storage.coding.code import Code
from fallow.verticals.storage.coding.portions import Portions
from fallow.verticals.storage.core.calls.segments import BeginSegment, EndSegment, MorePlaces, Place, Plan
from fallow.verticals.storage.core.sealing import KEY_BYTES, NONCE_BYTES, wrap_key

TICK_S: Final = 0.05
GRACE_MS: Final = 500
"""How long slow nodes are waited for once enough have their piece, or twice as long as it took until then."""
RACES: Final = 4
"""Into how many parts that time is cut, behind each of which spare places are tried for what still lacks."""
MORE_MAX: Final = 3
"""Times that further places are asked for."""

_log = logging.getLogger(__name__)


class Spot(NamedTuple):
    """Where a segment belongs. `part` is the one that it is to be a part of (0: none); `object` the object's stream.

    `secret` is the object's: segments' keys are sealed under it.
    """

    account: str
    bucket: str
    stream: bytes
    object: bytes
    part: int
    number: int
    secret: bytes


def place_of(stream: bytes, part: int, index: int) -> bytes:
    """Name a segment of an object, for the seal of its key."""
    return stream + part.to_bytes(4) + index.to_bytes(8)


@lru_cache(maxsize=16)
def code_of(needed: int, pieces: int) -> Code:
    """Return the code of a profile."""
    return Code(needed, pieces)


async def send_segment(
    mover: Mover,
    asker: Asker,
    spot: Spot,
    payload: memoryview,
    random_bytes: Callable[[int], bytes],
    again_s: Sequence[float] = (),
) -> None:
    """Store a segment. It takes memory for a few portions beside its payload.

    Where too few nodes could be reached it is begun anew after each of these pauses.

    Raises:
        FallowError: too few nodes take it, or the network refuses.
    """
    place = place_of(spot.object, spot.part, spot.number)
    for pause_s in (*again_s, None):
        key = random_bytes(KEY_BYTES)
        plan = await asker.ask(
            BeginSegment(
                account=spot.account,
                bucket=spot.bucket,
                stream=spot.stream,
                index=spot.number,
                payload=len(payload),
                client=mover.public,
                key=wrap_key(spot.secret, place, key, random_bytes(NONCE_BYTES)),
            )
        )
        portions = Portions(code_of(plan.needed, plan.pieces), key, payload)
        try:
            receipts = await _Sending(mover, asker, spot.account, plan, portions).send()
        except Unavailable as error:
            if pause_s is None:
                raise
            _log.info("a segment is sent again: %s", error)
            await mover.clock.sleep(pause_s)
        else:
            await asker.ask(EndSegment(account=spot.account, segment=plan.segment, receipts=receipts))
            return


class _Sending:
    """One segment under way."""

    def __init__(self, mover: Mover, asker: Asker, account: str, plan: Plan, portions: Portions) -> None:
        self._mover = mover
        self._asker = asker
        self._account = account
        self._plan = plan
        self._portions = portions
        self._changed = Change()
        self._window = Window(portions, plan.pieces, plan.enough, mover.clock, self._changed)
        self._receipts: dict[int, bytes] = {}
        self._flying: dict[int, set[asyncio.Task[None]]] = {}
        self._spare = [place for place in plan.places if place.number >= plan.pieces]
        self._failed: list[int] = []
        self._asked = 0
        self._error: FallowError | None = None

    async def send(self) -> dict[int, bytes]:
        """Return the receipts of at least enough pieces."""
        with first_error():
            async with asyncio.TaskGroup() as group:
                making = group.create_task(self._window.make())
                tick = group.create_task(ticking(self._mover.clock, TICK_S, self._changed))
                try:
                    for place in self._plan.places:
                        if place.number < self._plan.pieces:
                            self._begin(group, place.number, place, in_step=True)
                    self._failed += [number for number in range(self._plan.pieces) if number not in self._flying]
                    await self._steer(group)
                finally:
                    for task in (making, tick, *(task for tasks in self._flying.values() for task in tasks)):
                        task.cancel()
        return self._receipts

    async def _steer(self, group: asyncio.TaskGroup) -> None:
        began_ms = self._mover.clock.monotonic_ms()
        until_ms = race_ms = grace_ms = 0
        while len(self._receipts) < self._plan.pieces:
            await self._replace(group)
            going, now_ms = self._going(), self._mover.clock.monotonic_ms()
            if len(self._receipts) + len(going) < self._plan.enough:
                raise self._error or Unavailable("storage.too_few_nodes", "Too few nodes take the object.")
            if not going or (until_ms and now_ms >= until_ms):
                return
            if len(self._receipts) >= self._plan.enough:
                if not until_ms:
                    grace_ms = max(GRACE_MS, 2 * (now_ms - began_ms))
                    until_ms, race_ms = now_ms + grace_ms, now_ms + grace_ms // RACES
                if now_ms >= race_ms:
                    race_ms += grace_ms // RACES
                    self._race(group, going)
            await self._changed.wait()

    def _going(self) -> list[int]:
        return [number for number, tasks in self._flying.items() if tasks and number not in self._receipts]

    def _begin(self, group: asyncio.TaskGroup, number: int, place: Place, *, in_step: bool) -> None:
        task = group.create_task(self._bring(number, place, in_step=in_step))
        self._flying.setdefault(number, set()).add(task)

        def over(task: asyncio.Task[None]) -> None:
            self._flying[number].discard(task)
            if not self._flying[number] and number not in self._receipts:
                self._failed.append(number)
            self._changed.tell()

        task.add_done_callback(over)

    async def _bring(self, number: int, place: Place, *, in_step: bool) -> None:
        try:
            self._receipts[number] = await put_piece(
                self._mover,
                place,
                self._portions.piece_bytes,
                self._window.parts(number, in_step=in_step),
                lambda: self._window.hash_of(number),
            )
        except FallowError as error:
            _log.info("node %s did not take a piece: %s", place.node.hex(), error)
            self._error = error
        else:
            for other in self._flying[number]:
                if other is not asyncio.current_task():
                    other.cancel()
        finally:
            if in_step:
                self._window.leave(number)

    async def _replace(self, group: asyncio.TaskGroup) -> None:
        """Find other places for what failed."""
        failed, self._failed = self._failed, []
        while failed and self._spare:
            self._begin(group, failed.pop(0), self._spare.pop(0), in_step=False)
        if failed and self._asked < MORE_MAX:
            self._asked += 1
            try:
                more = MorePlaces(account=self._account, segment=self._plan.segment, numbers=failed)
                further = await self._asker.ask(more)
            except FallowError as error:
                _log.info("no further places: %s", error)
                self._error = error
                return
            self._spare += further
            self._failed = failed
            await self._replace(group)

    def _race(self, group: asyncio.TaskGroup, going: list[int]) -> None:
        """Bring pieces of the slowest nodes to spare places, too: whoever has one first is its node."""
        for number in going[: len(self._spare)]:
            if not self._spare:
                return
            self._begin(group, number, self._spare.pop(0), in_step=False)
