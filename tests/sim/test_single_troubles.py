"""One kind of trouble at a time, in an otherwise calm simulation: clocks that jump, a folder from a backup."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.sim.loop import SimLoop
from tests.sim.story import Story
from tests.sim.world import World

HOUR_MS = 3_600_000
Trouble = Callable[[World, asyncio.TaskGroup], Awaitable[None]]


def simulate(seed: int, folder: Path, trouble: Trouble) -> World:
    """Live through a seed in which nothing but `trouble` goes wrong, with all checks at its end."""
    loop = SimLoop(seed)

    async def live() -> World:
        world = World(seed, folder, Story())

        async def rage(group: asyncio.TaskGroup, seconds: float) -> None:  # noqa: ARG001 - as `Chaos.rage`
            await trouble(world, group)

        world.chaos.storm = lambda: None  # type: ignore[method-assign]
        world.chaos.rage = rage  # type: ignore[method-assign]
        await world.live()
        return world

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        world = runner.run(live())
    assert not loop.trouble
    return world


@pytest.mark.parametrize("step_ms", [-HOUR_MS, -700, HOUR_MS, 30 * 24 * HOUR_MS])
def test_a_nodes_clock_that_jumps_costs_nobody_anything(step_ms: int, tmp_path: Path) -> None:
    async def jump(world: World, _: asyncio.TaskGroup) -> None:
        for machine in world.machines:
            await asyncio.sleep(4)
            machine.clock.step(step_ms)

    world = simulate(5, tmp_path, jump)
    assert not any(machine.worker.oversold for machine in world.machines)


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_an_agent_whose_folder_comes_from_a_backup_goes_on(seed: int, tmp_path: Path) -> None:
    async def restore(world: World, group: asyncio.TaskGroup) -> None:
        machine, backup = world.machines[0], tmp_path / "backup"
        await asyncio.sleep(8)
        await machine.kill()
        shutil.copytree(machine.home.path, backup)
        machine.start(group)
        await asyncio.sleep(25)
        await machine.kill()
        shutil.rmtree(machine.home.path)
        shutil.copytree(backup, machine.home.path)
        machine.start(group)

    simulate(seed, tmp_path / "world", restore)
