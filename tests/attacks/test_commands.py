"""Attacks by way of commands in running sandboxes: on the machine, by numbers, and on those who enter."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from fallow.agent.commands import AT_ONCE_MAX, RATE
from fallow.domain.commands import Kind, Pieces, encode
from fallow.domain.errors import Conflict, InvalidInput, NotAllowed, TooMuch
from fallow.domain.streams import Exec
from fallow.ports.session import SessionStream
from tests.network import until
from tests.python_jobs import left_over
from tests.streams_world import opening, read_all
from tests.unit.test_commands import job, lasts
from tests.unit.test_live import Machine, machine

WAITS = "import signal; print('waits', flush=True); signal.pause()  # here"
LOOKS_FOR_A_WAY_OUT = """
import ctypes, json, os, socket
libc = ctypes.CDLL(None, use_errno=True)
found = {}
def tried(name, what):
    try:
        found[name] = repr(what())
    except OSError as error:
        found[name] = "refused"
def call(name, *arguments):
    if libc[name](*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
tried("root", lambda: os.setuid(0))
tried("namespace", lambda: call("unshare", 0x10000000))
tried("mount", lambda: call("mount", b"none", b"/tmp", b"tmpfs", 0, None))
tried("trace", lambda: call("ptrace", 16, 1, 0, 0))
tried("write", lambda: open("/usr/mine", "w"))
tried("machine", lambda: os.listdir("/root"))
tried("network", lambda: socket.create_connection(("127.0.0.1", PORT), 1))
tried("vsock", lambda: socket.socket(40, socket.SOCK_STREAM))
tried("group", lambda: open("/sys/fs/cgroup/memory/cgroup.procs", "w"))
found["descriptors"] = sorted(os.listdir("/proc/self/fd"))[:-1]
print(json.dumps(found))
"""
PRIES = """
import os
print("pries", flush=True)
known = {name for name in os.listdir("/proc") if name.isdecimal()}
look = lambda path: os.listdir(path) if path.endswith("fd") else open(path, "rb").read(1)
while True:
    for name in os.listdir("/proc"):
        if not name.isdecimal() or name in known:
            continue
        try:
            command = open(f"/proc/{name}/cmdline", "rb").read()
        except OSError:
            continue
        if b"enter_child" not in command:
            continue
        for secret in ("exe", "environ", "mem", "fd"):
            try:
                look(f"/proc/{name}/{secret}")
                # What it has become meanwhile may be looked into: it is the job's own.
                if b"enter_child" in open(f"/proc/{name}/cmdline", "rb").read():
                    print("TOOK", secret, flush=True)
            except OSError:
                pass
        print("saw", flush=True)
"""
MOUNT_OF_ITSELF = "import os; print(bool(os.statvfs('/proc/self/exe').f_flag & os.ST_RDONLY))"
FORKS = """
import os, time
made = 0
try:
    while True:
        if not os.fork():
            time.sleep(54322)
        made += 1
except OSError:
    print(made, flush=True)
    time.sleep(54322)
"""


async def test_a_command_is_as_shut_in_as_the_job(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as owners:
        script = LOOKS_FOR_A_WAY_OUT.replace("PORT", str(owners.getsockname()[1]))
        async with job(tmp_path) as running:
            said = await running.python(script)
        owners.setblocking(False)
        with pytest.raises(BlockingIOError):
            owners.accept()
    assert said.err == ""
    found = json.loads(said.out)
    assert found.pop("descriptors") == ["0", "1", "2"]
    assert (len(found), set(found.values())) == (9, {"refused"})


async def test_a_command_gets_no_hold_of_the_program_that_lets_it_in(tmp_path: Path) -> None:
    """Its file is the machine's: a command that were run from it could change it where the job's user owns it."""
    by_script = "open('/work/script', 'w').write('#!/proc/self/exe\\n' + TEXT); os.chmod('/work/script', 0o755)"
    async with job(tmp_path) as running:
        made = await running.python(f"import os\nTEXT = {MOUNT_OF_ITSELF!r}\n{by_script}")
        said = [made, await running.run("/proc/self/exe", "-c", MOUNT_OF_ITSELF), await running.run("/work/script")]
    assert [(one.out.strip(), one.err) for one in said] == [("", ""), ("True", ""), ("True", "")]


async def test_a_job_takes_nothing_from_who_enters_its_sandbox(tmp_path: Path) -> None:
    """Whoever enters a sandbox could be looked into from there: its program, its memory, the files that it has open."""
    async with job(tmp_path, PRIES) as running:
        entered, printed = 0, ""
        while entered < 10 or "saw" not in printed:  # it has its chances, however seldom it comes to the processor
            assert (await running.run("python3", "-c", "")).exit.code == 0
            entered, printed = entered + 1, (running.case.workspace / "stdout").read_text()
    assert "TOOK" not in printed


async def test_a_fork_bomb_stands_under_the_limits_of_the_job_and_ends_with_its_stream(tmp_path: Path) -> None:
    async with job(tmp_path) as running:
        async with running.command("python3", "-c", FORKS) as command:
            assert int(await command.stdout.readline()) < 128
        assert left_over("time.sleep(54322)") == []
        assert (await running.run("python3", "-c", "")).exit.code == 0


async def test_memory_that_a_command_takes_is_the_jobs(tmp_path: Path) -> None:
    async with job(tmp_path, memory_mib=64) as running:
        hungry = await running.python("held = bytearray(256 << 20)\nfor at in range(0, len(held), 4096): held[at] = 1")
    assert hungry.exit.code == 137


async def test_a_flood_of_commands_is_bounded(tmp_path: Path) -> None:
    """The relay bounds a buyer's streams; the node what runs at once, and what begins, in one lease."""
    async with job(tmp_path / "job") as running, machine(tmp_path) as node:
        node.held.open(running.inside)
        lasting = [command(node, "python3", "-c", WAITS) for _ in range(AT_ONCE_MAX)]
        for stream in lasting:
            assert next(Pieces().feed(await stream.read())).payload.startswith(b"waits")
        with pytest.raises(TooMuch, match="run in this sandbox"):
            await read_all(command(node, "true"))
        for stream in lasting:
            stream.reset(Conflict("test.gone", "Gone."))
        await until(lambda: not left_over(WAITS), "they have ended")
        await until(lambda: not node.live._commands._running, "the agent knows it")
        for _ in range(RATE.burst - AT_ONCE_MAX):
            assert await read_all(command(node, "python3", "-c", "")) == encode(Kind.EXIT, b"\0")
        with pytest.raises(TooMuch, match="begun too soon"):
            await read_all(command(node, "true"))


async def test_nonsense_on_a_commands_stream_ends_the_command(tmp_path: Path) -> None:
    async with job(tmp_path / "job") as running, machine(tmp_path) as node:
        node.held.open(running.inside)
        stream = command(node, "python3", "-c", lasts(tmp_path))
        assert next(Pieces().feed(await stream.read())).payload.startswith(b"begun")
        await stream.write(b"\xff\xff\xff")
        with pytest.raises(InvalidInput, match="malformed"):
            await stream.read()
        assert left_over(lasts(tmp_path)) == []


async def test_a_ticket_for_the_log_runs_no_command(tmp_path: Path) -> None:
    async with machine(tmp_path) as node:
        for twin in (opening(want=Exec(["true"])), opening(want=Exec(["true"]), purpose="port")):
            with pytest.raises(NotAllowed):
                await read_all(node.open(twin))


def command(node: Machine, *words: str) -> SessionStream:
    """Open a stream for a command, as its buyer does."""
    return node.open(opening(want=Exec(list(words)), purpose="exec"))
