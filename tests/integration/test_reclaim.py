"""The owner wants the machine back: a real sandbox, at full load, is gone. How soon, `make bench-reclaim` measures."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from fallow.agent.policy import Unknown
from fallow.agent.policy_file import IdlePolicy
from fallow.agent.probes import LinuxProbes
from tests.reclaim_world import BOUND_S, RealWorld, ending, sandboxes, until
from tests.unit.owner_fakes import FakeProbes, reading


async def test_the_sandbox_is_gone_at_once_and_work_comes_back_later(tmp_path: Path) -> None:
    world = RealWorld(tmp_path, IdlePolicy(away_minutes=5, reopen_after_s=1))
    probes, others = FakeProbes(), sandboxes()  # a test before may have left one that waits for work
    async with world.serving(probes) as agent:
        process = await world.work(1)
        async with ending(process.pid) as ended:
            probes.reading = reading(idle_s=0.0)
            async with asyncio.timeout(BOUND_S):
                await ended.wait()
        receipt = await world.receipt(1)
        assert (receipt["ok"], receipt["reason"], receipt["caused_by"]) == (False, "owner.present", "owner")
        assert set(sandboxes()) <= set(others)
        assert (await agent.status()).free == (await agent.status()).offered
        probes.reading = reading()
        await until(lambda: [offer["open"] for offer in world.ingest.bodies("offer.made")] == [True, False, True])
        assert (await world.work(2)).is_running()


async def test_a_game_that_starts_is_seen_by_the_real_probes(tmp_path: Path) -> None:
    sleep = shutil.which("sleep")
    if sleep is None:
        pytest.fail("there is no `sleep` to copy")
    game = tmp_path / "fallow-game"
    shutil.copy(sleep, game)
    world = RealWorld(tmp_path, IdlePolicy(programs=("fallow-game",), on_battery=True, gpu_memory_mib=0))
    clock = world.real_clock
    # pid: the game below is a child of this process, as the sandboxes are; here only the sandboxes count as ours.
    probes = LinuxProbes(
        lambda: clock.now_ms() / 1000,
        lambda: clock.monotonic_ms() / 1000,
        pid=1 << 30,
        metered=lambda: Unknown("not asked"),
    )
    async with world.serving(probes) as agent:
        process = await world.work(1)
        async with ending(process.pid) as ended:
            playing = await asyncio.create_subprocess_exec(game, "600")
            try:
                async with asyncio.timeout(BOUND_S):
                    await ended.wait()
            finally:
                playing.kill()
                await playing.wait()
        assert (await world.receipt(1))["reason"] == "owner.program"
        status = await agent.status()
        assert status.owner is not None
        assert "fallow-game runs." in [sentence for _, sentence in status.owner.reasons]
