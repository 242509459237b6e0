# ruff: noqa: D102
"""Commands in running sandboxes: what they see is what the job sees, and they end with all that they started."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fallow.domain.commands import Kind, Pieces, encode_data, encode_size
from fallow.domain.errors import InvalidInput, NotAllowed, Unavailable
from fallow.domain.streams import TerminalSize
from fallow.ports.vertical.work import Command, Exit, Inside
from fallow.verticals.compute.worker.inside import SandboxInside
from tests.capability import require
from tests.engines import child_environment
from tests.network import until
from tests.python_jobs import PythonCase, left_over

WAITS = "import signal; print('waits', flush=True); signal.pause()"
FURTHER_BACK = """
import asyncio, os, pathlib, sys
from tests.unit.test_commands import job
async def main():
    async with job(pathlib.Path(sys.argv[1])) as running:
        print(await running.python("import os; print(os.getpriority(os.PRIO_PROCESS, 0) > 10)"))
os.setpriority(os.PRIO_PROCESS, 0, max(15, os.getpriority(os.PRIO_PROCESS, 0)))
asyncio.run(main())
"""
SHOWN = """
import json, os, resource
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
wanted = ("Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs", "Seccomp")
spaces = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
groups = sorted(line.strip().rpartition(":")[2].partition("/exec-")[0] for line in open("/proc/self/cgroup"))
print(json.dumps({
    **{name: status[name].strip() for name in wanted},
    "spaces": [os.readlink(f"/proc/self/ns/{name}") for name in spaces],
    "limits": [resource.getrlimit(kind) for kind in range(16)],
    "nice": os.nice(0), "folder": os.getcwd(), "umask": os.umask(0o22), "groups": groups,
    "env": {name: value for name, value in os.environ.items() if name not in ("LC_CTYPE", "PWD")},
}, sort_keys=True))
"""

HIDES = """
import os, time
reading, writing = os.pipe()
if not os.fork():
    os.setsid()
    if not os.fork():
        os.write(writing, b"1")
        time.sleep(54321)
    os._exit(0)
os.read(reading, 1)
print("left", flush=True)
"""


def lasts(mark: object) -> str:
    """A script that does not end, told by its `mark` from those of other tests, which run at the same time."""
    return f"print('begun', flush=True); import time; time.sleep(65432)  # {mark}"


class Said(NamedTuple):
    """What became of a command."""

    exit: Exit
    out: str
    err: str


class Job:
    """A script that runs, and the way into its sandbox."""

    def __init__(self, case: PythonCase) -> None:
        self.case = case
        self.inside: Inside | None = None

    def opened(self, inside: Inside | None) -> None:
        self.inside = inside

    @asynccontextmanager
    async def command(self, *words: str, size: TerminalSize | None = None) -> AsyncIterator[Command]:
        assert self.inside is not None
        async with self.inside.command(words, size) as command:
            yield command

    async def run(self, *words: str, stdin: bytes = b"") -> Said:
        """Run a command to its end."""
        async with self.command(*words) as command:
            return await finished(command, stdin)

    async def python(self, script: str, stdin: bytes = b"") -> Said:
        return await self.run("python3", "-c", textwrap.dedent(script), stdin=stdin)


async def finished(command: Command, stdin: bytes = b"") -> Said:
    command.stdin.write(stdin)
    command.stdin.write_eof()
    assert command.stderr is not None
    ended, out, err = await asyncio.gather(command.wait(), command.stdout.read(), command.stderr.read())
    return Said(ended, out.decode(), err.decode())


@asynccontextmanager
async def job(folder: Path, script: str = WAITS, **changes: Any) -> AsyncIterator[Job]:
    require("bubblewrap")
    require("memory-cgroup")
    made = Job(PythonCase(folder))
    log = made.case.workspace / "stdout"
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        work = group.create_task(made.case.run(script, opened=made.opened, **changes))
        await until(lambda: work.done() or (log.exists() and log.stat().st_size > 0), "the script runs")
        assert not work.done(), work.result()
        yield made
        made.case.cancel.set()
        await work
    assert made.inside is None


async def test_what_it_reads_and_writes_is_kept_apart_and_its_code_comes_back(tmp_path: Path) -> None:
    async with job(tmp_path) as running:
        said = await running.python(
            "import sys; print(sys.stdin.read().upper()); print('wrong', file=sys.stderr); sys.exit(7)", b"hello"
        )
        assert said == Said(Exit(7), "HELLO\n", "wrong\n")
        assert (await running.python("import os, signal; os.kill(os.getpid(), signal.SIGTERM)")).exit == Exit(143)
        missing = await running.run("no-such-program")
        assert (missing.exit.code, missing.err) == (127, "fallow: no-such-program: No such file or directory\n")


async def test_it_has_what_the_job_has_and_nothing_else(tmp_path: Path) -> None:
    async with job(tmp_path, SHOWN + WAITS, env={"MINE": "1"}, secrets={"KEY": "s3cret"}) as running:
        jobs_own = (running.case.workspace / "stdout").read_text().splitlines()[0]
        said = await running.python(SHOWN)
    assert said.err == ""
    assert said.out == jobs_own + "\n"
    assert '"KEY": "s3cret"' in said.out


async def test_a_terminal_has_its_size_and_hears_of_another(tmp_path: Path) -> None:
    script = """
    import os, signal, sys
    def tell(*_): print("size", *os.get_terminal_size(0), flush=True)
    signal.signal(signal.SIGWINCH, tell)
    print(*(os.isatty(fd) for fd in range(3)), open("/dev/tty").name, flush=True)
    tell()
    print(sys.stdin.readline().strip()[::-1])
    """
    async with job(tmp_path) as running:
        words = ("python3", "-c", textwrap.dedent(script))
        async with running.command(*words, size=TerminalSize(24, 80)) as command:
            assert command.stderr is None
            assert await command.stdout.readline() == b"True True True /dev/tty\r\n"
            assert await command.stdout.readline() == b"size 80 24\r\n"
            command.resize(TerminalSize(50, 132))
            assert await command.stdout.readline() == b"size 132 50\r\n"
            command.stdin.write(b"abc\r")
            assert await command.stdout.readline() == b"abc\r\n", "the terminal shows what is typed"
            assert await command.stdout.readline() == b"cba\r\n"
            assert await command.wait() == Exit(0)


async def test_what_is_written_to_a_terminal_in_the_moment_of_the_end_is_kept(tmp_path: Path) -> None:
    async with job(tmp_path) as running:
        words = "python3", "-S", "-c", "print('x' * 3000)"
        for _ in range(5):
            async with running.command(*words, size=TerminalSize(24, 80)) as command:
                assert await command.wait() == Exit(0)
                assert await command.stdout.read() == b"x" * 3000 + b"\r\n"


def test_it_runs_where_the_agent_is_further_back_than_its_jobs(tmp_path: Path) -> None:
    """Nobody but root comes forward again, not even to where the job is."""
    require("bubblewrap")
    require("memory-cgroup")
    line = [sys.executable, "-c", FURTHER_BACK, str(tmp_path)]
    done = subprocess.run(line, capture_output=True, text=True, env=child_environment(), check=False)
    assert done.stdout == "Said(exit=Exit(code=0, said=b''), out='True\\n', err='')\n", done.stderr


async def test_what_it_started_ends_with_it_however_it_hides(tmp_path: Path) -> None:
    async with job(tmp_path) as running:
        said = await running.python(HIDES)
        assert (said.exit, said.out) == (Exit(0), "left\n")
        assert left_over("time.sleep(54321)") == []


async def test_it_ends_when_nobody_waits_for_it_any_more(tmp_path: Path) -> None:
    async with job(tmp_path) as running:
        async with running.command("python3", "-c", lasts(tmp_path)) as one:
            assert await one.stdout.readline() == b"begun\n"
        assert left_over(lasts(tmp_path)) == []
        assert (await running.run("python3", "-c", "")).exit == Exit(0), "the sandbox is as it was"


async def test_it_ends_with_the_job(tmp_path: Path) -> None:
    async with job(tmp_path) as running:
        async with running.command("python3", "-c", lasts(tmp_path)) as one:
            assert await one.stdout.readline() == b"begun\n"
            inside = running.inside
            running.case.cancel.set()
            assert (await one.wait()).code == 137
        assert left_over(lasts(tmp_path)) == []
        assert inside is not None
        with pytest.raises(Unavailable, match="just ended"):
            async with inside.command(["true"], None):
                pass


async def test_nothing_runs_where_it_could_not_be_bounded() -> None:
    with pytest.raises(NotAllowed, match="no control group"):
        async with SandboxInside(0, None).command(["true"], None):
            pass


@given(
    st.lists(
        st.tuples(st.sampled_from([Kind.INPUT, Kind.OUTPUT, Kind.ERRORS]), st.binary(max_size=70_000)), max_size=5
    ),
    st.lists(st.integers(1, 5000), min_size=1, max_size=20),
)
def test_pieces_come_out_as_they_went_in_however_they_are_cut(sent: list[tuple[Kind, bytes]], cuts: list[int]) -> None:
    wire = b"".join(encode_data(kind, data) for kind, data in sent) + encode_size(TerminalSize(24, 80))
    pieces, found = Pieces(), []
    while wire:
        cut = cuts[len(wire) % len(cuts)]
        found += list(pieces.feed(wire[:cut]))
        wire = wire[cut:]
    assert found.pop().size == TerminalSize(24, 80)
    joined = [
        (kind, b"".join(piece.payload for piece in run)) for kind, run in groupby(found, lambda piece: piece.kind)
    ]
    full = [one for one in sent if one[1]]
    assert joined == [(kind, b"".join(data for _, data in run)) for kind, run in groupby(full, lambda one: one[0])]


@pytest.mark.parametrize("twin", [b"\x00\x00\x00", b"\xff\x00\x00", b"\x01\xff\xff", b"\x02\x00\x01", b"\x13\x00\x02"])
def test_what_is_no_piece_is_refused(twin: bytes) -> None:
    with pytest.raises(InvalidInput, match="malformed"):
        list(Pieces().feed(twin))
