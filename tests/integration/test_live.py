"""Buyers look into their running work, on a network of real processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from fallow import Requirements
from fallow.domain.errors import Conflict, NotFound
from tests import programs
from tests.network import NEEDS, Net, fallow
from tests.unit.wasm_programs import SPIN, wasm, write


async def order_python(net: Net, folder: Path, script: str) -> str:
    """Order a script, and return the job's id."""
    path = folder / "script.py"
    path.write_text(script)
    order = await net.buyer.python_order(path, requirements=Requirements(cpu_milli=200, memory_mib=128, disk_mib=64))
    await net.buyer.submit(order)
    return order.id


async def order_wasm(net: Net, *body: str) -> str:
    """Order a program."""
    order = await net.buyer.wasm_order(wasm(*body), requirements=NEEDS, fuel=10**14, time_limit_s=120)
    await net.buyer.submit(order)
    return order.id


async def test_the_output_of_a_wasm_program_is_seen_while_it_runs(net: Net) -> None:
    job_id = await order_wasm(net, write(1, 100, 6), write(2, 100, 6), SPIN)
    for source in ("stdout", "stderr"):
        async for piece in net.buyer.logs(job_id, source=source, follow=True):
            assert piece == b"hello\n"
            break
    assert (await net.buyer.job(job_id)).state == "running"
    assert [piece async for piece in net.buyer.logs(job_id)] == [b"hello\n"]
    stranger = await net.new_buyer()
    with pytest.raises(NotFound):
        await anext(stranger.client.logs(job_id))
    await net.buyer.cancel(job_id)
    await net.finished(job_id)


@pytest.mark.capability("bubblewrap")
async def test_following_ends_with_the_program_and_misses_nothing(net: Net, tmp_path: Path) -> None:
    script = "import time\nfor n in range(2000):\n    print(n, flush=True)\n    time.sleep(0.0005)\nprint('end')\n"
    job_id = await order_python(net, tmp_path, script)
    seen: list[str] = []
    pieces = []
    async for piece in net.buyer.logs(job_id, follow=True):
        pieces.append(piece)
        seen.append((await net.buyer.job(job_id)).state)
    assert b"".join(pieces).decode().split() == [*map(str, range(2000)), "end"]
    assert seen[0] == "running", "the first lines came before the end"
    assert (await (await net.buyer.result(job_id)).stdout()) == b"".join(pieces)


async def test_what_does_not_run_has_no_live_log(net: Net) -> None:
    nobody = Requirements(nodes_allowed=["00" * 32])
    order = await net.buyer.wasm_order(programs.hello(), requirements=nobody)
    await net.buyer.submit(order)
    with pytest.raises(Conflict, match="no node works on it"):
        await anext(net.buyer.logs(order.id))
    await net.buyer.cancel(order.id)


async def test_the_command_prints_it(net: Net) -> None:
    job_id = await order_wasm(net, write(1, 100, 6))
    await net.finished(job_id)
    said = await fallow("job", "logs", job_id, "--follow", **_profile(net))
    assert (said.code, said.out, said.err) == (0, "hello\n", "")


def _profile(net: Net) -> dict[str, str]:
    return {"FALLOW_URL": net.url, "FALLOW_API_KEY": net.first.key}
