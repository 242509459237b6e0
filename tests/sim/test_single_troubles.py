"""One kind of trouble at a time, in an otherwise calm simulation: nobody is to blame for it, and nobody pays for it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from fallow.domain.facts import UsageReceipt
from fallow.services.market.rounds import TERM_MS
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

        for machine in world.machines:
            machine.worker.lies = 0.0
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


def nobody_is_wronged(world: World, *, short_ms: int = 0) -> None:
    """No provider is said to have caused anything, and each is believed the time that he worked, but for `short_ms`."""
    assert world.facts is not None
    assert [lease for lease in world.facts.leases if lease.caused_by == "provider"] == []
    receipts = [record.body for record in world.facts.records if record.kind == UsageReceipt.kind]
    done = {receipt["lease"] for receipt in receipts if receipt["final"] and receipt["ok"]}
    used = {(receipt["lease"], receipt["window"]): receipt["used_ms"] for receipt in receipts}
    paid = [lease for lease in world.facts.leases if lease.id in done and lease.ok]
    assert paid
    for lease in paid:
        worked_ms = sum(used[lease.id, window] for window in range(lease.window + 1))
        assert worked_ms - short_ms <= lease.used_ms <= worked_ms, lease


@pytest.mark.parametrize("step_ms", [-30 * 24 * HOUR_MS, -HOUR_MS, -700, 700, HOUR_MS, 30 * 24 * HOUR_MS])
@pytest.mark.parametrize("restarts", [False, True])
def test_the_networks_clock_that_jumps_costs_nobody_anything(step_ms: int, restarts: bool, tmp_path: Path) -> None:
    async def jump(world: World, group: asyncio.TaskGroup) -> None:
        await asyncio.sleep(9)
        for core in world.cores:
            if restarts:
                await core.kill()
            core.clock.step(step_ms)
            if restarts:
                core.start(group)
        await asyncio.sleep(20)

    # What passes between the last stamp of a process and its end is not known to the next one.
    nobody_is_wronged(simulate(5, tmp_path, jump), short_ms=TERM_MS if restarts and step_ms < 0 else 0)


@pytest.mark.parametrize("seconds", [1.0, 9.0, 40.0])
@pytest.mark.parametrize("seed", [5, 6])
def test_a_network_that_did_not_run_for_a_while_blames_nobody(seconds: float, seed: int, tmp_path: Path) -> None:
    async def stop(world: World, _: asyncio.TaskGroup) -> None:
        await asyncio.sleep(9)
        async with asyncio.TaskGroup() as group:
            for core in world.cores:
                group.create_task(core.sleep_through(seconds))
        await asyncio.sleep(20)

    nobody_is_wronged(simulate(seed, tmp_path, stop))


def test_a_full_disk_costs_nobody_anything(tmp_path: Path) -> None:
    async def fill(world: World, _: asyncio.TaskGroup) -> None:
        await asyncio.sleep(9)
        for machine in world.machines:
            machine.fill_disk(full=True)
        await asyncio.sleep(30)

    nobody_is_wronged(simulate(5, tmp_path, fill))


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
