"""How a command enters a Python sandbox: by a process that joins it and becomes what the job is there, no more."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import msgspec

from fallow.domain.streams import TerminalSize
from fallow.ports.vertical.work import Command
from fallow.verticals.compute.worker import enter_child, seccomp
from fallow.verticals.compute.worker.cgroups import Group, Part
from fallow.verticals.compute.worker.commands import spawned
from fallow.verticals.compute.worker.inside import ended
from fallow.verticals.compute.worker.sandbox_child import memory_file
from fallow.verticals.compute.worker.sandbox_root import JOB_ID, Interpreter
from fallow.verticals.compute.worker.sandbox_start import SandboxJob, limits_of, variables_of

# Users, mounts, processes, network, IPC, host name, control groups: CLONE_NEW*.
_NAMESPACES: Final = 0x10000000 | 0x00020000 | 0x20000000 | 0x40000000 | 0x08000000 | 0x04000000 | 0x02000000
_FOLDER: Final = "/work"


class Task(msgspec.Struct, frozen=True):
    """What `enter_child` is to do. `limits` are kinds and values; `user` is 0 where it is the right one already.

    `interpreter` is the sandbox's own Python, as it is called there.
    """

    words: Sequence[str]
    interpreter: str
    env: Mapping[str, str]
    limits: Sequence[tuple[int, int]]
    nice: int
    user: int
    filter: str
    terminal: bool
    folder: str = _FOLDER
    namespaces: int = _NAMESPACES


class SandboxEntrance:
    """The `Entrance` of a Python sandbox whose processes are in `group`; `process` is a descriptor of one of them."""

    def __init__(self, job: SandboxJob, interpreter: Interpreter, group: Group, process: int, *, as_root: bool) -> None:
        self._job = job
        self._interpreter = interpreter
        self._group = group
        self._process = process
        self._as_root = as_root

    def part(self, name: str) -> Part:
        """See the port."""
        return self._group.part(name)

    @asynccontextmanager
    async def begin(self, words: Sequence[str], size: TerminalSize | None, part: Part) -> AsyncIterator[Command]:
        """See the port."""
        process = os.dup(self._process)  # it may be closed meanwhile, and its number given to another
        task = memory_file(msgspec.json.encode(self._task(words, terminal=size is not None)))
        gate_theirs, gate = os.pipe()
        fds = process, task, gate_theirs
        line = [sys.executable, "-I", "-S", str(Path(enter_child.__file__)), *map(str, fds)]
        try:
            async with spawned(line, size, part, fds=fds, env={}) as command:
                try:
                    self._group.add(command.pid)
                    part.add(command.pid)
                    os.write(gate, b"1")
                except OSError as error:  # the sandbox, or this process, has ended
                    raise ended() from error
                yield command
        finally:
            for fd in (*fds, gate):
                os.close(fd)

    def _task(self, words: Sequence[str], *, terminal: bool) -> Task:
        job = self._job
        code = seccomp.assemble(platform.machine())
        env = {**variables_of(job, self._interpreter), **job.secrets}
        return Task(
            words=words,
            interpreter=str(self._interpreter.executable),
            env={"TERM": "xterm-256color", **env} if terminal else env,
            limits=list(limits_of(job, self._group).items()),
            nice=job.nice,
            user=JOB_ID if self._as_root else 0,
            filter=code.hex() if code is not None else "",
            terminal=terminal,
        )
