"""Work of one lease on a node: what it needs, what it has there, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Protocol

from fallow.domain.resources import Resources
from fallow.domain.streams import TerminalSize


class WorkNeeds(NamedTuple):
    """What a checked piece of work asks of the network: blobs to read (SHA-256 hex) and attributes of the node.

    `compares` says that every honest node must give the same result, byte for byte, so that nodes can be checked by
    having another one do the same. `checkpoints` says that its worker saves them and goes on from them,
    `secrets` that it can hand secret values to the program, `near` that its results can be compared by a tolerance.
    `program` names what is run, whatever its arguments and inputs are: by it the network sees whether a program gives
    the same on machines of one class.
    `fetched` names what a node gets elsewhere than from the network and keeps for a while: images.
    """

    blobs: frozenset[str]
    attributes: Mapping[str, str]
    write_bytes_max: int
    compares: bool
    checkpoints: bool = False
    secrets: bool = False
    near: bool = False
    program: str = ""
    fetched: frozenset[str] = frozenset()


class LeaseBlobs(Protocol):
    """The blobs of one lease, seen from the node that works on it."""

    async def fetch(self, sha256: str, to: Path) -> None:
        """Write an input of the lease to `to`, which holds exactly the bytes with that hash afterwards.

        Raises:
            Unavailable: it could not be had now.
            NotFound, NotAllowed: it is not there for this lease.
            TooMuch: it is larger than the lease's share of the disk.
        """
        ...

    async def store(self, path: Path) -> str:
        """Store a file as an output of the lease and return its SHA-256 (hex)."""
        ...


Save = Callable[[Path, int], Awaitable[None]]
"""Keeps an archive as the lease's checkpoint, with the milliseconds from the program's start that it holds.

Raises:
    FallowError: it cannot be kept now; the checkpoint before it still counts.
"""


class Exit(NamedTuple):
    """How a command ended: as shells count, 127 where there is no such program, 128 + the number of a signal.

    `said` belongs at the end of its stderr.
    """

    code: int
    said: bytes = b""


class Command(Protocol):
    """A command that runs in a sandbox. With a terminal it has no stderr of its own."""

    stdin: asyncio.StreamWriter
    stdout: asyncio.StreamReader
    stderr: asyncio.StreamReader | None

    def resize(self, size: TerminalSize) -> None:
        """Give its terminal another size; nothing happens when it has none."""
        ...

    async def wait(self) -> Exit:
        """Return how it ended; nothing that it started is left then."""
        ...


class Inside(Protocol):
    """The inside of a running sandbox, as far as its buyer may reach into it."""

    def command(self, words: Sequence[str], size: TerminalSize | None) -> AbstractAsyncContextManager[Command]:
        """Run a command there, under the very limits of the job; leaving the context ends it and all that it started.

        Raises:
            NotAllowed: this machine cannot bound it (`exec.unbounded`).
            Unavailable: the sandbox cannot be entered.
        """
        ...

    async def connect(self, port: int) -> socket.socket:
        """Connect to a TCP port that the program listens on, on its own 127.0.0.1, and never to one of the machine's.

        Raises:
            NotFound: nothing listens there (`stream.port`).
            Unavailable: the sandbox cannot be entered.
        """
        ...


Opened = Callable[[Inside | None], None]
"""Takes the inside of a sandbox when its program has begun, and None before it is gone."""


def closed(_: Inside | None) -> None:
    """Let nobody in."""


class Line(Protocol):
    """The owner's line, for what a worker fetches by itself: the network's blobs are counted where they come in."""

    def has_room(self, size: int) -> bool:
        """Whether the owner allows so many bytes more in this month."""
        ...

    def count(self, size: int) -> None:
        """Take note of bytes that have come."""
        ...


class AnyLine:
    """A line that nobody has bounded."""

    def has_room(self, _size: int) -> bool:
        """See the port."""
        return True

    def count(self, _size: int) -> None:
        """See the port."""


ANY_LINE: Final[Line] = AnyLine()


class Assignment(NamedTuple):
    """One lease's work on a node. `workspace` is empty and belongs to this lease alone; `cancel` asks it to end.

    The worker sets `started` when the buyer's program starts: from there on its windows are counted. `resume` is the
    checkpoint (SHA-256 in hex, fetched like an input) of an earlier lease that the program goes on from; where it is
    not there or broken, the worker finishes with CHECKPOINT_UNUSABLE, which is nobody's doing. `save` is None where
    this lease keeps no checkpoints. `opened` is told of the inside of a sandbox that has one. `secrets` are for the
    program alone: they go into no file that outlives it, no log and no command line. Work that runs `until_stopped`
    ends well with `cancel`: what it leaves is wanted. `gpus` are the graphics processors (NVML's UUIDs) that are this
    lease's alone. `line` is what the worker asks before it fetches something by itself, and tells what has come.
    """

    work: Mapping[str, Any]
    item: str | None
    seed: bytes
    resources: Resources
    time_limit_s: int
    workspace: Path
    blobs: LeaseBlobs
    cancel: asyncio.Event
    started: asyncio.Event
    resume: str | None = None
    save: Save | None = None
    until_stopped: bool = False
    opened: Opened = closed
    gpus: tuple[str, ...] = ()
    secrets: Mapping[str, str] = MappingProxyType({})
    line: Line = ANY_LINE


class Finished(NamedTuple):
    """How an assignment ended.

    `used_ms` counts from the start of the buyer's program to its end; a failed start has 0. `result` is the SHA-256
    (hex) of the outcome document, stored as a blob, when there is one. `caused_by`: buyer, provider, owner, nobody.
    """

    ok: bool
    reason: str
    caused_by: str
    used_ms: int
    result: str | None
    measures: Mapping[str, int]
