"""Buyers look into their running work, on a network of real processes."""

from __future__ import annotations

import os
from pathlib import Path

import httpx2
import pytest

from fallow import Requirements
from fallow.domain.errors import Conflict, NotFound
from tests import programs
from tests.network import NEEDS, Net, fallow, first_line, start, stop, until_async
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


@pytest.mark.capability("bubblewrap")
async def test_a_port_of_a_running_job_is_reached_from_its_buyers_machine(net: Net, tmp_path: Path) -> None:
    script = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body[::-1])

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""
    job_id = await order_python(net, tmp_path, script)
    await net.runs(job_id)
    stranger = await net.new_buyer()
    with pytest.raises(NotFound):
        await stranger.client.reach(job_id, 0, "port")
    log = tmp_path / "forward.log"
    forward = start("job", "forward", job_id, "8000", log=log, **_profile(net))
    try:
        here = first_line(forward, log).partition(" ")[0]
        body = os.urandom(3_000_000)
        async with httpx2.AsyncClient(base_url=f"http://{here}", timeout=30) as client:

            async def answers() -> bool:
                try:
                    return (await client.post("/", content=body)).content == body[::-1]
                except httpx2.TransportError:  # the program has not begun to listen
                    return False

            await until_async(answers, "the program answers")
    finally:
        stop(forward)
    await net.buyer.cancel(job_id)
    await net.finished(job_id)


def _profile(net: Net) -> dict[str, str]:
    return {"FALLOW_URL": net.url, "FALLOW_API_KEY": net.first.key}
