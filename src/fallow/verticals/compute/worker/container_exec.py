"""How a command enters a container: by the runtime that made it, which gives it what the container's program has."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from fallow.domain.streams import TerminalSize
from fallow.ports.vertical.work import Command, Exit
from fallow.verticals.compute.worker.cgroups import Group, Part
from fallow.verticals.compute.worker.commands import Spawned, has_ended, spawned

SEARCH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
RUNTIME: Final = "runc"
"""The one whose `exec` is known to put a command into a group of its own."""
_CONTAINER: Final = re.compile("[0-9a-f]{64}")
LOOK_EVERY_S: Final = 0.01
NO_PROGRAM: Final = Exit(127, b"fallow: the container has no such program, or it cannot be run.\n")


def find_entrance(runtime: str, group: Group, state: str = "") -> RuntimeEntrance | None:
    """The way for commands into the container of a group; None where there is none.

    Only root can call the runtime without the engine. `state` is where that has it keep its containers, if not where it
    does by itself.
    """
    binary, container = shutil.which(runtime, path=SEARCH), _CONTAINER.search(group.name)
    if runtime != RUNTIME or binary is None or container is None or os.geteuid():
        return None
    return RuntimeEntrance([binary, *(["--root", state] if state else [])], group, container[0])


class RuntimeEntrance:
    """The `Entrance` of a container."""

    def __init__(self, runtime: Sequence[str], group: Group, container: str) -> None:
        self._runtime = runtime
        self._group = group
        self._container = container

    def part(self, name: str) -> Part:
        """See the port."""
        return self._group.part(name)

    @asynccontextmanager
    async def begin(self, words: Sequence[str], size: TerminalSize | None, part: Part) -> AsyncIterator[Command]:
        """See the port."""
        where = f"{part.controller}:{part.name}" if part.controller else part.name
        with tempfile.TemporaryDirectory() as name:
            pid_file = Path(name, "pid")
            # Its own words, which name folders of the machine's owner, do not reach the buyer.
            line = [*self._runtime, "--log", str(Path(name, "log")), "exec", "--pid-file", str(pid_file)]
            line += ["--cgroup", where]
            line += ["--tty", "--env", "TERM=xterm-256color"] if size is not None else []
            # The runtime hears of a terminal's new size when that is its own. It copies to and from the container's
            # terminal before it makes this one raw; what came until then would be changed twice.
            own = ["/usr/bin/setsid", "--ctty"] if size is not None else []
            words = [*own, *line, self._container, *words]
            async with spawned(words, size, part, fds=(), env={"PATH": SEARCH}, raw=True) as command:
                yield _InContainer(command, pid_file)


class _InContainer:
    """The `Command` port. The runtime would wait for whoever holds the command's pipes, so its own end counts."""

    def __init__(self, spawned: Spawned, pid_file: Path) -> None:
        self.stdin = spawned.stdin
        self.stdout = spawned.stdout
        self.stderr = spawned.stderr
        self.resize = spawned.resize
        self._spawned = spawned
        self._pid_file = pid_file

    async def wait(self) -> Exit:
        """See the port."""
        while not self._pid_file.exists():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_S):
                    await has_ended(self._spawned.pid)
                    break
        if not self._pid_file.exists():
            await self._spawned.cut()
            return NO_PROGRAM
        await has_ended(int(self._pid_file.read_text()))
        return await self._spawned.cut()
