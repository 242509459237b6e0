"""An agent dies at every named step of a lease and its windows, and comes back: nothing is lost, nothing is paid twice.

The production agent in virtual time: at its step it stops for good, what it had not written is gone, and what another
part of it still wanted to do reaches nobody. The checks are those of every simulation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fallow.agent.outbox import Outbox
from fallow.domain.facts import LeaseAccepted, UsageReceipt
from tests.sim.loop import SimLoop
from tests.sim.machine import Machine, SimWorker
from tests.sim.story import Story
from tests.sim.world import World

BACK_AFTER_S = 2.0


class Point:
    """A step at which the first machine that comes to it dies, once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.machines: list[Machine] = []
        self.hit: asyncio.Event | None = None
        self.victim: Machine | None = None

    async def reached(self, name: str, mine: Callable[[Machine], bool]) -> None:
        """Die here if this is the step; whoever dies never returns."""
        if name != self.name or self.victim is not None:
            return
        self.victim = next(machine for machine in self.machines if mine(machine))
        self.victim.dead = self.victim.bus.dead = True
        assert self.hit is not None
        self.hit.set()
        await asyncio.Event().wait()


def _step(bodies: tuple[Any, ...]) -> str:
    match bodies[0]:
        case LeaseAccepted():
            return "accept"
        case UsageReceipt(final=True):
            return "final"
        case UsageReceipt():
            return "window"
    return ""


@pytest.fixture
def point(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Point:
    """Have every machine look at each step whether it is the one."""
    point = Point(request.param)

    def around(name: str) -> None:
        original: Callable[..., Awaitable[None]] = getattr(Outbox, name)

        async def wrapped(self: Outbox, *bodies: Any) -> None:
            step = "promise" if name == "promised" else _step(bodies)
            await point.reached(f"before the {step} is kept", lambda machine: machine.outbox is self)
            await original(self, *bodies)
            await point.reached(f"after the {step} is kept", lambda machine: machine.outbox is self)

        monkeypatch.setattr(Outbox, name, wrapped)

    for name in ("append", "append_surely", "promised"):
        around(name)
    work = SimWorker._work

    async def worked(self: SimWorker, assignment: Any) -> Any:
        await point.reached("when the program starts", lambda machine: machine.worker is self)
        finished = await work(self, assignment)
        await point.reached("when the program has ended", lambda machine: machine.worker is self)
        return finished

    monkeypatch.setattr(SimWorker, "_work", worked)
    return point


class OneDeath(World):
    """A world in which nothing goes wrong but that one machine dies at one step, and starts again."""

    def __init__(self, folder: Path, point: Point) -> None:
        super().__init__(11, folder, Story())
        self.point = point
        point.machines, point.hit = self.machines, asyncio.Event()
        for machine in self.machines:
            machine.worker.lies = 0.0
        self.chaos.storm = lambda: None  # type: ignore[method-assign]
        self.chaos.rage = self._one_death  # type: ignore[method-assign]

    async def _one_death(self, group: asyncio.TaskGroup, seconds: float) -> None:  # noqa: ARG002 - as `Chaos.rage`
        assert self.point.hit is not None
        async with asyncio.timeout(300):
            await self.point.hit.wait()
        victim = self.point.victim
        assert victim is not None
        await victim.kill()
        await asyncio.sleep(BACK_AFTER_S)
        victim.start(group)


STEPS = (
    "before the accept is kept",
    "after the accept is kept",
    "when the program starts",
    "before the window is kept",
    "after the window is kept",
    "when the program has ended",
    "before the final is kept",
    "after the final is kept",
    "before the promise is kept",
    "after the promise is kept",
)


@pytest.mark.parametrize("point", STEPS, indirect=True)
def test_an_agent_that_dies_at_a_step_comes_back(point: Point, tmp_path: Path) -> None:
    loop = SimLoop(11)

    async def live() -> None:
        await OneDeath(tmp_path, point).live()

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(live())
    assert point.victim is not None
    assert not loop.trouble
