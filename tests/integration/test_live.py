"""Buyers look into their running work, on a network of real processes."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import signal
import struct
import termios
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest

from fallow import Requirements
from fallow.bootstrap.listening import free_port
from fallow.domain.errors import Conflict, NotFound
from fallow.domain.streams import LogSource
from fallow.verticals.compute.worker.worker import ComputeWorker
from tests import programs
from tests.container_jobs import image, oci_archive
from tests.network import FALLOW, NEEDS, Net, clean_environment, fallow, first_line, start, stop, until_async
from tests.unit.wasm_programs import SPIN, wasm, write

pytestmark = pytest.mark.xdist_group("network")

SERVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body[::-1])

http.server.ThreadingHTTPServer(("127.0.0.1", 8000), Handler).serve_forever()
"""


async def order_python(net: Net, folder: Path, script: str, *, nodes: Sequence[str] = ()) -> str:
    """Order a script, on one of the `nodes` if there are any, and return the job's id."""
    path = folder / "script.py"
    path.write_text(script)
    needs = Requirements(cpu_milli=200, memory_mib=128, disk_mib=64, nodes_allowed=list(nodes))
    order = await net.buyer.python_order(path, requirements=needs)
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
    job_id = await order_python(net, tmp_path, SERVER)
    await net.runs(job_id)
    stranger = await net.new_buyer()
    with pytest.raises(NotFound):
        await stranger.client.reach(job_id, 0, "port")
    with forwarded(net, job_id, 8000, tmp_path) as here:
        await _answers(f"http://{here}")
    await net.buyer.cancel(job_id)
    await net.finished(job_id)


@pytest.mark.capability("podman")
@pytest.mark.capability("memory-cgroup")
async def test_a_container_is_looked_into_while_it_runs(net: Net, tmp_path: Path) -> None:
    """Its log while it writes it, two of its ports at once, and a command with a terminal."""
    (tmp_path / "image.tar").write_bytes(oci_archive(image()))
    serves = [f"echo {port} > {port}/port; httpd -p 127.0.0.1:{port} -h {port}" for port in (8000, 8001)]
    script = f"cd /work; mkdir 8000 8001; {'; '.join(serves)}; echo serves; echo oops >&2; exec sleep 100"
    order = await net.buyer.container_order(
        {"archive": tmp_path / "image.tar"}, ["sh", "-c", script], requirements=NEEDS
    )
    assert (await net.buyer.quote(order)).candidates
    await net.buyer.submit(order)
    try:
        lines: list[tuple[LogSource, bytes]] = [("stdout", b"serves\n"), ("stderr", b"oops\n")]
        for source, line in lines:
            async for piece in net.buyer.logs(order.id, source=source, follow=True):
                assert piece == line
                break
        assert (await net.buyer.job(order.id)).state == "running"
        async with httpx2.AsyncClient(timeout=120) as client:
            with forwarded(net, order.id, 8000, tmp_path) as one, forwarded(net, order.id, 8001, tmp_path) as two:
                assert (await client.get(f"http://{one}/port")).text == "8000\n"
                assert (await client.get(f"http://{two}/port")).text == "8001\n"
        said = await typed(net, order.id, "echo who; read name; echo hello $name; exit 9", "you\r")
        assert said == (9, "who\r\nyou\r\nhello you\r\n")
    finally:
        await net.buyer.cancel(order.id)
        await net.finished(order.id)
        for agent in net.running.agents:
            await ComputeWorker(agent.home / "cache" / "compute").erase(for_good=True)


@contextmanager
def forwarded(net: Net, job_id: str, port: int, folder: Path) -> Iterator[str]:
    """Address that leads to a port of a running job."""
    log = folder / f"forward-{port}.log"
    forward = start("job", "forward", job_id, str(port), log=log, **_profile(net))
    try:
        yield first_line(forward, log).partition(" ")[0]
    finally:
        stop(forward)


async def typed(net: Net, job_id: str, script: str, keys: str) -> tuple[int, str]:
    """Sit at a terminal of 30 rows and 100 columns: run a script in a job, type, and see what is shown."""
    master, slave = os.openpty()
    fcntl.ioctl(master, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
    shown = b""
    with os.fdopen(master, "r+b", 0) as ours:
        with os.fdopen(slave, "rb", 0) as theirs:
            process = await asyncio.create_subprocess_exec(
                *(FALLOW, "job", "exec", job_id, "-i", "-t", "--", "sh", "-c", script),
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                env=clean_environment() | _profile(net),
            )
        try:
            async with asyncio.timeout(120):
                while b"\n" not in shown:
                    shown += await asyncio.to_thread(ours.read, 100)
                ours.write(keys.encode())
                code = await process.wait()
        finally:
            if process.returncode is None:
                process.kill()  # so that whoever reads its terminal meets the end
        with suppress(OSError):  # nobody is left on the terminal
            while piece := ours.read(1000):
                shown += piece
    return code, shown.decode()


@pytest.mark.capability("bubblewrap")
async def test_bytes_go_straight_to_a_machine_whose_owner_opens_a_port(net: Net, tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    async with net.agent("open-door", options=["--direct", str(port)]) as machine:

        async def reached() -> bool:
            return str(port) in (await machine.ask("status"))["direct"]

        await until_async(reached, "the network has tried the door, and the owner sees it")
        job_id = await order_python(net, tmp_path, SERVER, nodes=[machine.node])
        await net.runs(job_id)
        log = tmp_path / "forward.log"
        forward = start("job", "forward", job_id, "8000", "--json", log=log, **_profile(net))
        try:
            here = json.loads(first_line(forward, log))
            await _answers(f"http://{here['host']}:{here['port']}")
            assert json.loads(first_line(forward, log)) == {"path": "direct"}
        finally:
            stop(forward)
        await net.buyer.cancel(job_id)
        await net.finished(job_id)


async def _answers(url: str) -> None:
    """Have a body turned round by the program behind a URL, once it listens."""
    body = os.urandom(3_000_000)
    async with httpx2.AsyncClient(base_url=url, timeout=120) as client:

        async def answers() -> bool:
            try:
                return (await client.post("/", content=body)).content == body[::-1]
            except httpx2.TransportError:  # the program has not begun to listen
                return False

        await until_async(answers, "the program answers")


def _profile(net: Net) -> dict[str, Any]:
    return {"FALLOW_URL": net.url, "FALLOW_API_KEY": net.first.key}


SERVES = "import signal\nprint('serves', flush=True)\nsignal.pause()\n"


@pytest.mark.capability("bubblewrap")
@pytest.mark.capability("memory-cgroup")
async def test_a_command_runs_in_the_sandbox_of_a_running_job(net: Net, tmp_path: Path) -> None:
    job_id = await order_python(net, tmp_path, SERVES)
    await anext(net.buyer.logs(job_id, follow=True))
    done = await net.buyer.exec(job_id, ["python3", "-c", "import os; print(input(), os.getpid())"], stdin="hello\n")
    assert (done.code, done.stdout.split()[0], done.stderr) == (0, b"hello", b"")
    profile = _profile(net)
    script = "import sys; print(sys.stdin.read()[::-1]); print('no', file=sys.stderr); sys.exit(5)"
    said = await fallow("job", "exec", job_id, "-i", "--", "python3", "-c", script, stdin="abc", **profile)
    assert (said.code, said.out, said.err) == (5, "cba\n", "no\n")
    await _leaves_nothing_behind(net, job_id, tmp_path)
    stranger = await net.new_buyer()
    with pytest.raises(NotFound):
        await stranger.client.exec(job_id, ["true"])
    with pytest.raises(NotFound):
        await stranger.client.reach(job_id, 0, "exec")
    await net.buyer.cancel(job_id)
    await net.finished(job_id)
    with pytest.raises(NotFound, match="no open item"):
        await net.buyer.exec(job_id, ["true"])


LINGERS = "import time; print('lingers', flush=True); time.sleep(600)"
OTHERS = """
import os, pathlib
others = (path for path in pathlib.Path("/proc").glob("[0-9]*/cmdline") if path.parent.name != str(os.getpid()))
print(sum(b"lingers" in path.read_bytes() for path in others))
"""


async def _leaves_nothing_behind(net: Net, job_id: str, folder: Path) -> None:
    """Whoever leaves with Ctrl-C ends his command; that he says so, see `tests.contract.test_direct`."""
    log = folder / "lingers.log"
    running = start("job", "exec", job_id, "--", "python3", "-c", LINGERS, log=log, **_profile(net))
    try:
        assert first_line(running, log) == "lingers\n"
        assert (await net.buyer.exec(job_id, ["python3", "-c", OTHERS])).stdout == b"1\n"
        running.send_signal(signal.SIGINT)

        async def alone() -> bool:
            return (await net.buyer.exec(job_id, ["python3", "-c", OTHERS])).stdout == b"0\n"

        await until_async(alone, "the command has ended", every=2)
    finally:
        stop(running)


async def test_a_wasm_program_says_why_no_command_runs_beside_it(net: Net) -> None:
    job_id = await order_wasm(net, write(1, 100, 6), SPIN)
    await anext(net.buyer.logs(job_id, follow=True))
    with pytest.raises(NotFound, match="neither processes nor a shell"):
        await net.buyer.exec(job_id, ["true"])
    said = await fallow("job", "exec", job_id, "--", "true", **_profile(net))
    assert (said.code, "stream.no_inside" in said.err) == (1, True)
    await net.buyer.cancel(job_id)
    await net.finished(job_id)
